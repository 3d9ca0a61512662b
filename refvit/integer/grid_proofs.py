"""Proofs of codes that stand for other integers: what a file says of them, what is narrowed, rows.

`refvit.integer.grids` runs such codes; here is what can be said of them for any image. Nothing is
known of a grid but its integer form, so a bound of a row is found by running `narrow`.
Specification, clauses 1.5 and 7.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer import grids
from refvit.integer.bounds import Proof, prove
from refvit.integer.grid_kinds import CodeGrid, kind_of
from refvit.integer.grids import LINEAR, guard_of
from refvit.quant import PowerOfTwoFactor, TwinGrid


def said(site: str, op: str, kind: str, c: Any, width: int) -> CodeGrid:
    """Return the grid of the codes that `op` writes, rows of `width`, by the constants of `site`.

    Raises ValueError where no grid has them all, or `op` does not write its codes.
    """
    try:
        grid = grids.form(c)
    except ValueError as error:
        raise ValueError(f"{site}: {error}") from None
    grid = grids.writable(site, op, grid, width)
    lo, hi = c.clamp.tolist()
    if grids.clamp_of(grid) != (lo, hi) or not np.array_equal(c[kind], grids.written(grid)[kind]):
        raise ValueError(f"{site}: {kind} codes are not of [{lo}, {hi}]")
    return grid


def narrow_range(site: str, grid: CodeGrid, guard: int | None = None) -> Proof:
    """Return the proof of the integers that `site` narrows, half of the widest step on top."""
    bits = guard_of(grid) if guard is None else guard
    low, high = grid.range
    widest = grid.shift if isinstance(grid, TwinGrid) else 0
    widest = int(grid.alpha.max()) if isinstance(grid, PowerOfTwoFactor) else widest
    top = (max(-low, high) << bits) + (1 << bits + widest >> 1)
    why = f"{kind_of(grid)} codes in [{low}, {high}], {bits} guard bits, half a step"
    return prove(site, "integer of a code", -top if low < 0 else 0, top, LINEAR, why=why)


def row_sum(grid: CodeGrid, guard: int, total: int, tokens: int) -> int | None:
    """Return the greatest sum, in steps, of what the codes of a row stand for; None if unknown.

    The row are `tokens` integers x >= 0 whose sum, with `guard` fraction bits, is at most `total`.
    For any factor a the level of x is at most a x plus the greatest of (level - a x) over all
    codes, x being the least of its code. The best a is among the ratios of levels to their least.
    """
    if isinstance(grid, PowerOfTwoFactor):
        return None
    level, least = levels(grid, guard)
    above = least > 0
    factors = np.unique(np.append(level[above] / least[above], 1.0))
    excess = (level - factors[:, None] * least).max(1, initial=0.0)
    most = float((factors * total / 2.0**guard + tokens * excess).min())
    return math.ceil(most) + 1  # what float64 errs by is far less


def levels(grid: CodeGrid, guard: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return every level >= 0 of a grid in steps, ascending, and the least x >= 0 that is narrowed
    to it, in steps: `narrow` is monotone, so a bisection finds it."""
    codes = np.arange(grid.lo, grid.hi + 1)
    scale, top = float(grid.scale), grid.range[1] << guard
    kept = np.unique(grid.decode(codes, np.float64))
    kept = kept[kept >= 0]
    low, high = np.zeros(len(kept), np.int64), np.full(len(kept), top, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        reached = grid.decode(grid.narrow(middle.astype(np.int32), guard), np.float64) >= kept
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return kept / scale, low / 2.0**guard
