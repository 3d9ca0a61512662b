"""The schedule: how every layer runs, as a table for a terminal.

Widths of A x B and of the result; the outer tile, how often it comes, and the order of the loops;
what stays on chip of A, B and the result; and the cycles of the prologue, the steady state and the
epilogue, with those of them that the unit waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from refvit.accel.row import Row

NAMES = {"a": "A", "b": "B", "o": "out"}


def schedule(rows: Sequence[Row]) -> str:
    """Return a line of heads and one for each row."""
    width = max([21, *(len(row.name) for row in rows)])
    head = (
        f"{'layer':<{width}} {'unit':<7}{'bits':<13}{'tile m x k x n':<19}{'tiles':>6}  "
        f"{'outer loop':<12}{'on chip':<9}{'prologue':>10}{'steady':>12}{'epilogue':>10}"
        f"{'stall':>12}"
    )
    return "\n".join([head, *(_line(row, width) for row in rows)])


def _line(row: Row, width: int) -> str:
    tile = f"{row.tile_m} x {row.tile_k} x {row.tile_n}" if row.tiles else ""
    count = f"{row.tiles:,}" if row.tiles else ""
    stays = " ".join(NAMES[which] for which in row.resident)
    return (
        f"{row.name:<{width}} {row.unit:<7}{_widths(row):<13}{tile:<19}{count:>6}  "
        f"{row.order.removesuffix(' outer'):<12}{stays:<9}{row.prologue_cycles:>10,}"
        f"{row.steady_cycles:>12,}{row.epilogue_cycles:>10,}{row.stall_cycles:>12,}"
    )


def _widths(row: Row) -> str:
    """Return `8 x 4 -> 16`, or what there is of it.

    >>> _widths(Row(*["", "", ""], *[0] * 15, "", a_bits=8, o_bits=16))
    '8 -> 16'
    """
    operands = " x ".join(str(bits) for bits in (row.a_bits, row.b_bits) if bits)
    return f"{operands} -> {row.o_bits}".strip()
