"""When each unit works: spans of the DRAM port, the array, and the vector unit or a host.

A row says how long its units are busy, its prologue, epilogue, and in how many tiles it runs. Tiles
are drawn as equal, `SPANS` at most: where there are more, a span stands for several. So the busy
cycles of a span are exact in sum, and its place is that of an average tile: loads of a tile lie
beside the products of the one before. What streams behind a GEMM follows the vector unit's earlier
work on its results, from the first tile's load on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refvit.accel.row import Row

SPANS = 16  # of a layer on a track
TRACKS = ("DRAM port", "array", "vector unit", "host")


@dataclass(frozen=True)
class Span:
    """A unit at work for a layer: cycles from the start of the forward, what it does, and the
    cycles for which the layer keeps the unit busy in all."""

    track: str
    name: str
    start: float
    end: float
    row: Row
    does: str
    busy: float


def spans(rows: Sequence[Row]) -> list[Span]:
    """Return the spans of every row, track by track in order of time; those of one track never
    overlap, and none begins before its layer, or ends after its step."""
    found: list[Span] = []
    start, free = 0.0, 0.0
    ends = _step_ends(rows)
    for row, last in zip(rows, ends, strict=True):
        found += dram_spans(row, start)
        if row.unit == "array":
            found += tiles("array", row, start, "multiplies", row.compute_cycles)
            free = start + min(row.prologue_cycles, row.cycles)
        if row.unit in ("array", "fused"):
            does = "requantizes" if row.unit == "array" else f"{row.op} behind the array"
            end = min(free + row.vector_cycles, last)
            found += _span("vector unit", row, free, end, does, row.vector_cycles)
            free = max(free, end)
        if row.unit in ("vector", "host"):
            track = "host" if row.unit == "host" else "vector unit"
            found += tiles(track, row, start, row.op, row.compute_cycles)
        start += row.cycles
    return sorted(found, key=lambda span: (TRACKS.index(span.track), span.start))


def _step_ends(rows: Sequence[Row]) -> list[float]:
    """Return for each row when its step ends: that of the last row fused behind its GEMM."""
    ends, at = [], float(sum(row.cycles for row in rows))
    last = at
    for number in range(len(rows) - 1, -1, -1):
        ends.append(last)
        at -= rows[number].cycles
        if rows[number].unit != "fused":
            last = at
    return ends[::-1]


def dram_spans(row: Row, start: float) -> Iterator[Span]:
    """Yield when the port works: the first load, loads and stores of the steady state, the last
    store."""
    first, last = _ends(row)
    busy = min(row.memory_cycles, row.cycles)
    a, b = start + first, start + row.cycles - last
    yield from _span("DRAM port", row, start, a, "loads the first tile", busy)
    for at, end in evenly(a, b, busy - first - last, row.tiles):
        yield from _span("DRAM port", row, at, end, "loads and stores", busy)
    yield from _span("DRAM port", row, b, start + row.cycles, "stores the last tile", busy)


def tiles(track: str, row: Row, start: float, does: str, busy: float) -> Iterator[Span]:
    """Yield when a unit computes, between the first load and the last store."""
    first, last = _ends(row)
    for at, end in evenly(start + first, start + row.cycles - last, busy, row.tiles):
        yield from _span(track, row, at, end, does, busy)


def evenly(start: float, end: float, busy: float, parts: int) -> Iterator[tuple[float, float]]:
    """Yield spans of `busy` cycles in all that begin at even distances from `start` to `end`.

    >>> list(evenly(0, 10, 6, 2))
    [(0.0, 3.0), (5.0, 8.0)]
    """
    parts = max(1, min(SPANS, parts))
    begins = [start + (end - start) * k / parts for k in range(parts)]
    each = max(0.0, busy) / parts
    for at, following in zip(begins, [*begins[1:], float(end)], strict=True):
        yield at, min(at + each, following)


def _ends(row: Row) -> tuple[int, int]:
    """Return the prologue and the epilogue: the port may be busy with no more than all of it."""
    first = min(row.prologue_cycles, row.cycles)
    return first, min(row.epilogue_cycles, row.cycles - first)


def _span(track: str, row: Row, start: float, end: float, does: str, busy: float) -> Iterator[Span]:
    if end > start:
        yield Span(track, row.name, start, end, row, does, busy)
