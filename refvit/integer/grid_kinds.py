"""The kinds of grid whose codes are narrowed: what each is called among the constants of a site.

`refvit.integer.grids` reads and writes such codes. Specification, clause 1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refvit.integer.needs import Need, small
from refvit.quant import (
    Grid,
    Log2Grid,
    LogSqrt2Grid,
    PowerOfTwoFactor,
    ShiftLog2Grid,
    TwinGrid,
)

CodeGrid = Log2Grid | ShiftLog2Grid | LogSqrt2Grid | TwinGrid | PowerOfTwoFactor


class Kind(NamedTuple):
    """A kind of grid by the name of its constant: the operators that write it, what the constant
    is, what it must be for [C] channels, and the grid of (constant, bits, signed, scale)."""

    grid: type
    writers: tuple[str, ...]
    constant: Callable[[Any], Any]
    need: Callable[[int], Need]
    made: Callable[[Any, int, bool, float], CodeGrid]


KINDS: Mapping[str, Kind] = {
    "log2": Kind(
        Log2Grid, ("softmax",), lambda grid: grid.bits, lambda width: small(2, 4),
        lambda bits, width, signed, scale: Log2Grid(int(bits)),
    ),
    "shift_log2": Kind(
        ShiftLog2Grid, ("softmax",), lambda grid: grid.shift, lambda width: small(1, 15),
        lambda shift, bits, signed, scale: ShiftLog2Grid(bits, int(shift)),
    ),
    "log_sqrt2": Kind(
        LogSqrt2Grid, ("softmax",), lambda grid: grid.power, lambda width: small(1, 15),
        lambda power, bits, signed, scale: LogSqrt2Grid(scale * 2.0 ** int(power), bits),
    ),
    "twin": Kind(
        TwinGrid, ("softmax", "gelu"), lambda grid: grid.shift, lambda width: small(0, 24),
        lambda shift, bits, signed, scale: TwinGrid(np.asarray(scale), int(shift), bits, signed),
    ),
    "ptf": Kind(
        PowerOfTwoFactor, ("linear", "add"), lambda grid: grid.alpha,
        lambda width: Need(("int32",), (width,), 0, 3),
        lambda alpha, bits, signed, scale: PowerOfTwoFactor(
            np.asarray(scale), alpha, bits, 0, signed
        ),
    ),
}  # fmt: skip


def kind_of(grid: Grid | None) -> str | None:
    """Return the name of a grid whose codes stand for other integers; None for any other."""
    return next((name for name, kind in KINDS.items() if isinstance(grid, kind.grid)), None)
