"""Codes that stand for other integers than themselves: stored small, meant in units of one step.

A grid of the survey's quantizers names integers of one unit, its `scale`. Softmax, GELU and add
compute such integers, with guard bits, and `narrow` stores them as codes; what reads the codes
starts with `aligned` integers, so no operator needs to know a grid. Which grid it is stands among
the constants: `<site>.<kind>` where codes are written, `<site>.input<k>_<kind>` and
`input<k>_clamp` where operand k is read (`refvit.integer.grid_kinds`). Codes with a zero point are
read in the same way, and written by every operator (`refvit.integer.zero_points`). Specification,
clauses 1.5 and 3.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic, largest_code
from refvit.integer.fixedpoint import GUARD, INT32, dyadic
from refvit.integer.grid_kinds import KINDS, CodeGrid, kind_of
from refvit.integer.zero_points import (
    DIFFERENCES,
    ZERO,
    affine,
    asymmetric,
    integers_of,
    zero_of,
)
from refvit.quant import (
    Grid,
    Log2Grid,
    LogSqrt2Grid,
    PowerOfTwoFactor,
    QParams,
    ShiftLog2Grid,
)

IntArray = NDArray[Any]
Form = CodeGrid | QParams

LINEAR = "give it a linear quantizer in the recipe"
ROOT2 = dyadic(math.sqrt(2))  # 11863283 / 2**23
READS = ("linear", "matmul", "add", "layer_norm", "mean", "concat")


def clamp_of(grid: Grid) -> tuple[int, int]:
    """Return the least and greatest code of the width of `grid`."""
    return grid.lo, (1 << grid.bits) - 1 if isinstance(grid, ShiftLog2Grid) else grid.hi


def writable(site: str, op: str, grid: Any, width: int = 0) -> CodeGrid:
    """Return `grid`; ValueError, in one line with the cure, unless `op` can write its codes for
    rows of `width`."""
    kind = kind_of(grid)
    if kind is None:
        cure = getattr(grid, "cure", LINEAR)  # of a grid that never has an integer form
        raise ValueError(f"{site}: the engine has no codes of a {type(grid).__name__}; {cure}")
    if op not in KINDS[kind].writers:
        others = " and ".join(KINDS[kind].writers)
        raise ValueError(f"{site}: only {others} can write {kind} codes; {LINEAR}")
    if isinstance(grid, PowerOfTwoFactor) and grid.zero_point:
        raise ValueError(
            f"{site}: ptf codes have no zero point in the engine; write symmetric = true and "
            "signed = true in its line of the recipe"
        )
    if isinstance(grid, PowerOfTwoFactor) and len(grid.alpha) != width:
        raise ValueError(f"{site}: {len(grid.alpha)} factors do not go with {width} channels")
    if isinstance(grid, LogSqrt2Grid) and grid.bits > 5:
        raise ValueError(
            f"{site}: powers of root two of 6 bits reach 2**-31, which int32 does not hold; give "
            "it 5 bits or fewer in the recipe"
        )
    coded: CodeGrid = grid
    return coded


def written(grid: Grid) -> dict[str, IntArray]:
    """Return the constant by which a site says that its codes are those of `grid`; none where codes
    are what they stand for."""
    if (q := asymmetric(grid)) is not None:
        return {ZERO: np.asarray(q.zero_point, np.int32)}
    if (kind := kind_of(grid)) is None:
        return {}
    return {kind: np.asarray(KINDS[kind].constant(grid), np.int32)}


def read(site: str, op: str, *operands: Grid | None) -> dict[str, IntArray]:
    """Return the constants by which `site` says what the codes of its operands stand for.

    Raises ValueError for an operator that takes such codes as they are. Powers of two are the
    constant `power` of the matmul that reads them. A zero point is read by every operator but those
    of differences.
    """
    found: dict[str, IntArray] = {}
    for k, grid in enumerate(operands):
        said = {} if grid is None else written(grid)
        if grid is None or not said or (ZERO in said and op in DIFFERENCES):
            continue
        kind, first = kind_of(grid), op == "matmul" and k == 0
        powers = isinstance(grid, Log2Grid | LogSqrt2Grid)
        if kind and (op not in READS or (powers and not first)):
            raise ValueError(
                f"{site}: {op} does not read {kind} codes; give its input a linear quantizer"
            )
        if isinstance(grid, Log2Grid):
            found["power"] = np.array(grid.power, np.int32)
            continue
        found |= {f"input{k}_{name}": constant for name, constant in said.items()}
        found[f"input{k}_clamp"] = np.array(clamp_of(grid), np.int32)
    return found


def form(c: Any, scale: float = 1.0, prefix: str = "") -> Form | None:
    """Return the grid that the constants of a site say its codes have, or with the `prefix`
    "input0_" those of an operand; None where codes are what they stand for.

    The integer form does not depend on `scale`, a label. Raises ValueError for constants that no
    grid has.
    """
    clamp = c.get(f"{prefix}clamp")
    if clamp is None:  # an operand without it is taken as it is, or as powers of two
        power = c.get("power") if prefix == "input0_" else None
        return None if power is None else Log2Grid((int(power) + 2).bit_length() - 1)
    lo, hi = clamp.tolist()
    zero = c.get(f"{prefix}{ZERO}")
    if zero is not None:
        return affine((lo, hi), scale, int(zero))
    for name, kind in KINDS.items():
        constant = c.get(f"{prefix}{name}")
        if constant is not None:
            return kind.made(constant, hi.bit_length() + (lo < 0), lo < 0, scale)
    return None


def aligned(c: Any, k: int, codes: IntArray) -> IntArray:
    """Return the integers that the codes of operand k of a site stand for."""
    return meant(form(c, prefix=f"input{k}_"), codes)


def operand(c: Any, k: int, codes: IntArray) -> tuple[IntArray, int]:
    """Return the same, and the greatest |integer| that codes of operand k can stand for."""
    return bounded(form(c, prefix=f"input{k}_"), codes)


def bounded(grid: Form | None, codes: IntArray) -> tuple[IntArray, int]:
    """Return the integers that codes of `grid` stand for, and the greatest |integer| there is."""
    if grid is None:
        return codes, largest_code(codes.dtype)
    return meant(grid, codes), max(-grid.range[0], grid.range[1])


def meant(grid: Form | None, codes: IntArray) -> IntArray:
    """Return the integers that codes of `grid` stand for; of powers of root two those of even
    codes."""
    if grid is None:
        return codes
    if isinstance(grid, QParams):
        return integers_of(grid, codes)
    return grid.halves(codes)[0] if isinstance(grid, LogSqrt2Grid) else grid.aligned(codes)


def product(c: Any, a: IntArray, b: IntArray, arithmetic: Arithmetic) -> Any:
    """Return the accumulators of a matmul of codes, clause 3.3.

    Odd powers of root two have their own, which come to the unit of the others by one multiply.
    """
    grid = form(c, prefix="input0_")
    (left, one), (right, other) = bounded(grid, a), operand(c, 1, b)
    acc = arithmetic.matmul(left, right, (one, other))
    if not isinstance(grid, LogSqrt2Grid):
        return acc
    odd = arithmetic.matmul(grid.halves(a)[1], right, (one, other))
    return acc + arithmetic.requantize(odd, *ROOT2, *INT32)


def guard_of(grid: CodeGrid) -> int:
    """Return the fraction bits that a kernel gives to integers of `grid`: 8, or what is left."""
    largest = max(-grid.range[0], grid.range[1])
    return max(0, min(GUARD, 30 - largest.bit_length()))


def ends(c: Any) -> tuple[int, int]:
    """Return the range that a site clips its integers to, where nothing is narrowed."""
    (lo, hi), zero = c.clamp.tolist(), zero_of(c)
    return lo - zero, hi - zero


class Writer(NamedTuple):
    """How a site stores what its kernel makes: the range it clips to, in steps of its grid with
    `guard` fraction bits where codes stand for other integers (`coded`), and the codes of them."""

    lo: int
    hi: int
    guard: int = 0
    narrow: Callable[[IntArray], IntArray] = lambda integers: integers
    coded: bool = False


def writer(c: Any, guard: int | None = None) -> Writer:
    """Return the `Writer` of a site with constants `c`; `guard` where the operator fixes it."""
    grid = form(c)
    if grid is None or isinstance(grid, QParams):
        return Writer(*ends(c))
    bits = guard_of(grid) if guard is None else guard
    lo, hi = (end << bits for end in grid.range)
    return Writer(lo, hi, bits, lambda integers: grid.narrow(integers, bits), coded=True)


def steps(grid: Grid) -> NDArray[Any]:
    """Return the real step of each channel of a grid, or of all."""
    if isinstance(grid, PowerOfTwoFactor):
        return np.asarray(grid.scale * 2.0**grid.alpha)
    return np.asarray(grid.scale)


def moved(
    grid: Any, shape: tuple[int, ...], pattern: str, sizes: Mapping[str, int], site: str = "a value"
) -> Any:
    """Return the grid of `site` [shape] when it is rearranged: the factors of channels go along.

    Raises ValueError where channels that differ would share the last axis.
    """
    if not isinstance(grid, PowerOfTwoFactor):
        return grid
    rows = einops.rearrange(np.broadcast_to(grid.alpha, shape), pattern, **sizes)
    rows = rows.reshape(-1, rows.shape[-1])
    if (rows != rows[0]).any():
        raise ValueError(f"{site}: its factors of channels do not go with {pattern!r}; {LINEAR}")
    return replace(grid, alpha=rows[0])
