"""How far codes are from the definition's: a distance in codes, and what of it is allowed.

On an affine grid a code is a count of steps. Where codes stand for other integers (powers of two,
twin steps) the count is of the grid's values, so that neighbours are one apart on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.grids import steps
from refvit.quant import Grid, Log2Grid, PowerOfTwoFactor, QParams, dequantize, quantize

# The engine rounds ties up. A float64 sum cannot say on which side of a tie a product lies, so
# what is within 2**-30 of one is read as a tie.
TIE = 0.5 + 2.0**-30


@dataclass(frozen=True)
class Difference:
    """How far the engine's codes of one site are from the definition's, in units of one code.

    `allowed` is what the specification states (section 6): 0 for linear, matmul, mean and concat;
    for the others 1, the roundings of both, and what a GELU, softmax or LayerNorm may err in reals,
    in steps of its output. None where a profile states no bound (I-ViT publishes none).

    Codes that stand for other integers (clause 1.5) are counted in values of their grid, and what
    is allowed depends on how close these lie around a value: `worst` is then the greatest distance,
    or if one is not allowed the one farthest beyond, and `allowed` is that of the same element. A
    product that reads powers of root two may round once more.
    """

    site: str
    op: str
    size: int
    differing: int
    worst: int
    allowed: int | None
    error: float = 0.0  # the largest |real - code|, in reals, where the real is within the grid

    @property
    def passes(self) -> bool:
        return self.allowed is None or self.worst <= self.allowed


def places(codes: NDArray[Any], grid: Grid) -> NDArray[np.int64]:
    """Return codes as counts: the codes, or where codes stand for other integers of the whole
    tensor, how many values of the grid are below theirs."""
    if isinstance(grid, QParams | PowerOfTwoFactor):
        return codes.astype(np.int64)
    every = np.arange(grid.lo, grid.hi + 1)
    values = dequantize(every, grid, np.float64)
    return np.searchsorted(np.unique(values), values)[codes.astype(np.int64) - grid.lo]


def wanted_places(value: NDArray[Any], grid: Grid) -> NDArray[np.int64]:
    """Return the definition's codes of reals, as `places`."""
    if not isinstance(grid, QParams | PowerOfTwoFactor):
        return places(quantize(value, grid), grid)
    counts = np.floor(value / steps(grid) + TIE) + grid.zero_point
    return np.asarray(np.clip(counts, grid.lo, grid.hi).astype(np.int64))


def around(value: NDArray[Any], grid: Grid, stated: float) -> NDArray[np.int64]:
    """Return how many places a code of each real may be off: one, and where the reals go that are
    `stated` away. Of powers of two one alone, as the error of small ones is relative."""
    if isinstance(grid, QParams):
        return np.asarray(int(1 + stated / float(grid.scale)))
    if isinstance(grid, Log2Grid):
        return np.asarray(1)
    wanted = wanted_places(value, grid)
    ends = [np.abs(wanted_places(value + end, grid) - wanted) for end in (-stated, stated)]
    return np.asarray(1 + np.maximum(*ends))
