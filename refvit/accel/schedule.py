"""The schedule: how every layer runs, as a table for a terminal.

Widths of A x B and of the result; the outer tile, how often it comes, and the order of the loops;
what stays on chip of A, B and the result; and the cycles of the prologue, the steady state and the
epilogue, with those of them that the unit waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refvit.accel.columns import columns
from refvit.accel.row import Row

NAMES = {"a": "A", "b": "B", "o": "out"}
HEADS = (
    "layer", "unit", "bits", "tile m x k x n", "tiles", "outer loop", "on chip", "prologue",
    "steady", "epilogue", "stall",
)  # fmt: skip
FIELDS = (
    "name", "unit", "a_bits", "b_bits", "o_bits", "tile_m", "tile_k", "tile_n", "tiles", "order",
    "resident", "prologue_cycles", "steady_cycles", "epilogue_cycles", "stall_cycles",
)  # fmt: skip
RIGHT = ("tiles", "prologue", "steady", "epilogue", "stall")


def schedule(rows: Sequence[Row]) -> str:
    """Return a line of heads and one for each row; columns are as wide as what they hold."""
    return "\n".join(columns([HEADS, *map(_cells, rows)], right=RIGHT))


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the same as data: of each row the fields `FIELDS`."""
    return [{name: getattr(row, name) for name in FIELDS} for row in rows]


def _cells(row: Row) -> tuple[str, ...]:
    tile = f"{row.tile_m} x {row.tile_k} x {row.tile_n}" if row.tiles else ""
    stays = " ".join(NAMES[which] for which in row.resident)
    times = (row.prologue_cycles, row.steady_cycles, row.epilogue_cycles, row.stall_cycles)
    return (
        row.name, row.unit, _widths(row), tile, f"{row.tiles:,}" if row.tiles else "",
        row.order.removesuffix(" outer"), stays, *(f"{cycles:,}" for cycles in times),
    )  # fmt: skip


def _widths(row: Row) -> str:
    """Return `8 x 4 -> 16`, or what there is of it.

    >>> _widths(Row(*["", "", ""], *[0] * 15, "", a_bits=8, o_bits=16))
    '8 -> 16'
    """
    operands = " x ".join(str(bits) for bits in (row.a_bits, row.b_bits) if bits)
    return f"{operands} -> {row.o_bits}".strip()
