"""Zero points: codes of an activation in which 0 is another code than 0.

Where a site has the constant `zero_point`, z, its code c stands for v = c - z (Jacob et al. 2018,
equation 1). An operator makes v, clipped to the range of the codes less z, and stores v + z; what
reads the codes starts with v again, held in the narrowest type of its range. So a kernel meets the
integers of a range, as ever, and knows of no z: clause 1.5 of the specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import code_dtype
from refvit.quant import Grid, QParams

IntArray = NDArray[Any]

ZERO = "zero_point"
DIFFERENCES = ("softmax", "layer_norm")  # of c as of v: they start with c


def zero_of(c: Any) -> int:
    """Return the code that stands for 0 by the constants `c` of a site.

    >>> from refvit.params import Params
    >>> zero_of(Params({"s.zero_point": np.array(5, np.int32)}).s), zero_of(Params({}))
    (5, 0)
    """
    zero = c.get(ZERO)
    return 0 if zero is None else int(zero)


def affine(clamp: tuple[int, int], scale: Any, zero_point: int = 0) -> QParams:
    """Return the affine grid whose codes are those of `clamp`; ValueError for a zero point that is
    none of them."""
    lo, hi = clamp
    bits, signed = hi.bit_length() + (lo < 0), lo < 0
    return QParams(scale, bits, signed, zero_point=zero_point, restricted=lo == -hi)


def asymmetric(grid: Grid | None) -> QParams | None:
    """Return `grid` where it is affine and its zero point is not 0."""
    return grid if isinstance(grid, QParams) and not grid.symmetric else None


def integers_of(grid: QParams, codes: IntArray) -> IntArray:
    """Return v = c - z of codes, in the narrowest type that holds the range of v.

    >>> integers_of(QParams(1.0, 8, signed=False, zero_point=200), np.array([0, 200], np.uint8))
    array([-200,    0], dtype=int16)
    """
    integers = np.subtract(codes, np.int32(grid.zero_point), dtype=np.int32)
    return integers.astype(code_dtype(*grid.range))


def differences(grid: Grid | None, lo: int, hi: int) -> tuple[int, int]:
    """Return the range of what an operator starts with that takes differences alone: of integers
    v in [lo, hi] their codes, as z cancels; other integers as they are."""
    zero = 0 if (q := asymmetric(grid)) is None else int(q.zero_point)
    return lo + zero, hi + zero


def stored(integers: IntArray, clamp: IntArray, zero: int) -> IntArray:
    """Return the codes v + z, `zero` being z, of integers v that lie in `clamp` less z: [2]."""
    if zero:
        integers = np.add(integers, np.int32(zero), dtype=np.int32)
    return integers.astype(code_dtype(*clamp.tolist()), copy=False)


def engine_grid(site: str, grid: QParams, learned: bool = False) -> QParams:
    """Return `grid`; ValueError, in one line with the cure, unless the engine has such codes of the
    activation `site`, or of a tensor that was `learned`."""
    cure = "in its line of the recipe"
    if grid.group:
        raise ValueError(
            f"{site}: the engine has one scale a channel, not one a group; write group = 0 {cure}"
        )
    if learned and not grid.symmetric:
        line = "*.weight" if site.endswith(".weight") else site
        raise ValueError(
            f"{site}: the engine's learned codes are symmetric, this grid's zero point is not 0; "
            f'give "{line}" a line with symmetric = true in the recipe'
        )
    if not learned and grid.axis is not None:
        raise ValueError(
            f"{site}: an activation of the engine has one scale and one zero point; leave out axis "
            f"{cure}"
        )
    return grid
