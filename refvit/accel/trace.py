"""A report as a Chrome trace (the Trace Event Format), for chrome://tracing or Perfetto.

On the first track the forward holds its blocks, and these their layers, one after the other. Below
it are the units, each with a track of its own, so that what overlaps can be seen: the DRAM port,
the array, the vector unit, and a host where there is one (`tracks.py` says what is exact there).
Times are put on a grid of 2**-20 us, or coarser where a forward lasts over an hour: sums of such
numbers are exact in a float, so what ends where another begins does so to the last bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from refvit.accel.fold import Fold, folds
from refvit.accel.machine import Machine
from refvit.accel.row import Row
from refvit.accel.tracks import TRACKS, Span, spans

GRID = 20  # binary digits of a microsecond
DIGITS = 52  # of a float: what a whole forward may take of them
ABOUT = ("op", "unit", "bound", "macs", "cycles", "compute_cycles", "array_cycles", "stall_cycles",
         "prologue_cycles", "steady_cycles", "epilogue_cycles", "memory_cycles", "vector_cycles",
         "utilization", "tiles", "order", "resident", "sram_bytes", "dram_bytes", "load_bytes",
         "store_bytes", "uj_low", "uj_high")  # fmt: skip
LAYERS = "layers"


def on_grid(us: float, digits: int = GRID) -> float:
    """Return the nearest multiple of 2**-digits us.

    >>> on_grid(0.1) + on_grid(0.2) == on_grid(0.3)
    True
    """
    return round(us * 2.0**digits) / 2.0**digits


def trace(machine: Machine, rows: Sequence[Row], title: str = "") -> str:
    """Return the trace as JSON: complete events of every track, then the names of the tracks, and
    that of all of them, which says `title`."""
    whole = machine.us(sum(row.cycles for row in rows))
    digits = min(GRID, DIGITS - max(0, math.frexp(whole)[1]))
    cycles = [0, *accumulate(row.cycles for row in rows)]
    times = [on_grid(machine.us(at), digits) for at in cycles]
    events = [_event("forward", times[0], times[-1], {"layers": len(rows)})]
    first = 0
    for part in folds(rows):
        events += _events(part, times, first)
        first += len(part.rows)
    worked = spans(rows)
    tracks = [LAYERS, *(name for name in TRACKS if any(x.track == name for x in worked))]
    events += [_worked(x, tracks.index(x.track), machine, digits) for x in worked]
    named = [_named("process_name", f"refvit: {title or machine.name}", 0)]
    for tid, name in enumerate(tracks):
        named.append(_named("thread_name", name, tid))
    return json.dumps({"traceEvents": events + named, "displayTimeUnit": "ns"})


def _events(part: Fold, times: list[float], first: int) -> list[dict[str, Any]]:
    """Return the event of a part whose first layer is number `first`, and of what it holds."""
    start, end = times[first], times[first + len(part.rows)]
    if not part.parts:
        about = {key: getattr(part.rows[0], key) for key in ABOUT}
        return [_event(part.name, start, end, about)]
    events = [_event(part.name, start, end, {"layers": len(part.rows)})]
    for inside in part.parts:
        events += _events(inside, times, first)
        first += len(inside.rows)
    return events


def _worked(span: Span, tid: int, machine: Machine, digits: int) -> dict[str, Any]:
    """Return the event of a unit at work."""
    start, end = (on_grid(machine.us(at), digits) for at in (span.start, span.end))
    about = {"does": span.does, "cycles": span.end - span.start, "of_cycles": span.busy,
             "slices": span.slices, "tiles": span.row.tiles}  # fmt: skip
    return _event(span.row.name, start, end, about, tid)


def _event(
    name: str, start: float, end: float, about: dict[str, Any], tid: int = 0
) -> dict[str, Any]:
    return {
        "name": name, "ph": "X", "ts": start, "dur": end - start, "pid": 0, "tid": tid,
        "args": about,
    }  # fmt: skip


def _named(what: str, name: str, tid: int) -> dict[str, Any]:
    """Return the event that gives a track, or all of them, a name."""
    return {
        "name": what, "ph": "M", "ts": 0.0, "dur": 0.0, "pid": 0, "tid": tid, "args": {"name": name}
    }  # fmt: skip
