"""When each unit works: spans of the DRAM port, the array, and the vector unit or a host.

A row says how long its units are busy, its prologue, its epilogue, and in how many tiles it runs. A
span is a *slice* of a layer's work, not a tile: there are as many slices as tiles, `SPANS` at most,
all equal. So the busy cycles of a span are exact in sum, and its place is that of an average tile.
Loads of a slice lie beside the products of the one before. What streams behind a GEMM is cut into
the same slices: the vector unit takes the results of one, operator after operator, when its
products are made, or as much earlier as it has to so as to end with the step, but never before they
begin; and its work on a slice never ends before the slice's products do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refvit.accel.row import Row

SPANS = 16  # of a layer on a track
TRACKS = ("DRAM port", "array", "vector unit", "host")


@dataclass(frozen=True)
class Span:
    """A unit at work for a layer: cycles from the start of the forward, what it does, the cycles
    for which the layer keeps the unit busy in all, and in how many slices that is drawn."""

    track: str
    name: str
    start: float
    end: float
    row: Row
    does: str
    busy: float
    slices: int


@dataclass(frozen=True)
class Window:
    """A step in time, in cycles of the forward: its main layer works from `begin` to `end`, in so
    many slices, after a first load from `start` on; what is fused behind it ends at `last`."""

    start: float
    begin: float
    end: float
    last: float
    slices: int

    @property
    def begins(self) -> list[float]:
        """When every slice of the main layer's work begins."""
        return [self.begin + (self.end - self.begin) * k / self.slices for k in range(self.slices)]

    def lag(self, slice_cycles: float, stream_cycles: float) -> float:
        """Return by how much results follow the beginning of the products of their slice, which
        take `slice_cycles`: all of these, or less, so that a stream of `stream_cycles` in all ends
        with the step though the last slice is no sooner there.

        >>> Window(0, 0, 80, 80, 4).lag(20.0, 40.0), Window(0, 0, 80, 80, 4).lag(20.0, 80.0)
        (10.0, 0.0)
        """
        spare = self.end - self.begin - stream_cycles
        room = self.last - self.end + min(spare, spare / self.slices)
        return max(0.0, min(slice_cycles, room))


def in_steps(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Return the rows step by step: a layer, and those that are fused behind it."""
    steps: list[list[Row]] = []
    for row in rows:
        if row.unit == "fused" and steps:
            steps[-1].append(row)
        else:
            steps.append([row])
    return [tuple(step) for step in steps]


def window(step: Sequence[Row], start: float) -> Window:
    """Return when a step runs that begins at `start`."""
    main = step[0]
    first, last = ends(main)
    whole = start + sum(row.cycles for row in step)
    return Window(start, start + first, start + main.cycles - last, whole,
                  max(1, min(SPANS, main.tiles)))  # fmt: skip


def spans(rows: Sequence[Row]) -> list[Span]:
    """Return the spans of every row, track by track in order of time; those of one track never
    overlap, and none begins before its step, or ends after it."""
    found: list[Span] = []
    start = 0.0
    for step in in_steps(rows):
        when = window(step, start)
        found += port_spans(step, when)
        found += unit_spans(step[0], when)
        if step[0].unit == "array":
            found += stream_spans(step, when)
        start = when.last
    return sorted(found, key=lambda span: (TRACKS.index(span.track), span.start))


def port_spans(step: Sequence[Row], when: Window) -> Iterator[Span]:
    """Yield when the port works for a step: the first load, loads and stores beside the products,
    those of what is fused too, and the last store."""
    main = step[0]
    first, last = ends(main)
    yield from _span("DRAM port", main, when.start, when.begin, "loads the first tile",
                     main.memory_cycles, when.slices)  # fmt: skip
    parts = [(main, max(0.0, min(main.memory_cycles, main.cycles) - first - last))]
    parts += [(row, float(row.memory_cycles)) for row in step[1:]]
    at = when.begin
    for row, begin, end in in_turn(parts, when.begins, when.last - last):
        does = "loads and stores" if row is main else f"loads for {row.op}"
        yield from _span("DRAM port", row, begin, end, does, row.memory_cycles, when.slices)
        at = end
    at = max(at, when.end)
    yield from _span("DRAM port", main, at, at + last, "stores the last tile",
                     main.memory_cycles, when.slices)  # fmt: skip


def unit_spans(main: Row, when: Window) -> Iterator[Span]:
    """Yield when the unit of a step's main layer computes, between first load and last store."""
    track, does, busy = {
        "array": ("array", "multiplies", main.array_cycles),
        "host": ("host", main.op, main.compute_cycles),
    }.get(main.unit, ("vector unit", main.op, main.vector_cycles))
    for at, end in evenly(when.begin, when.end, busy, when.slices):
        yield from _span(track, main, at, end, does, busy, when.slices)


def stream_spans(step: Sequence[Row], when: Window) -> Iterator[Span]:
    """Yield when the vector unit works on what leaves the array, slice by slice."""
    parts = [(row, float(row.vector_cycles)) for row in step]
    each = min(step[0].array_cycles, when.end - when.begin) / when.slices
    whole = sum(cycles for _, cycles in parts)
    lag = when.lag(each, min(whole, when.last - when.begin))
    for row, begin, end in in_turn(parts, [at + lag for at in when.begins], when.last):
        does = "requantizes" if row.unit == "array" else f"{row.op} behind the array"
        yield from _span("vector unit", row, begin, end, does, row.vector_cycles, when.slices)


def in_turn(
    parts: Sequence[tuple[Row, float]], begins: Sequence[float], last: float
) -> Iterator[tuple[Row, float, float]]:
    """Yield (row, begin, end) of every slice of every part, on one unit: those of a slice one after
    another, no sooner than it begins; all are shortened alike if they have no room until `last`."""
    whole = sum(cycles for _, cycles in parts)
    scale = min(1.0, (last - begins[0]) / whole) if whole > 0 else 0.0
    at = begins[0]
    for begin in begins:
        at = max(at, begin)
        for row, cycles in parts:
            end = min(at + cycles * scale / len(begins), last)
            yield row, at, end
            at = max(at, end)


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


def ends(row: Row) -> tuple[int, int]:
    """Return the prologue and the epilogue: the port may be busy with no more than all of it."""
    first = min(row.prologue_cycles, row.cycles)
    return first, min(row.epilogue_cycles, row.cycles - first)


def _span(
    track: str, row: Row, start: float, end: float, does: str, busy: float, slices: int
) -> Iterator[Span]:
    if end > start:
        yield Span(track, row.name, start, end, row, does, busy, slices)
