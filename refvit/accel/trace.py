"""A report as a Chrome trace (the Trace Event Format), for chrome://tracing or Perfetto.

The forward holds its blocks, and these their layers, one after the other on one track. Times are
put on a grid of 2**-20 us: sums of such numbers are exact in a float, so what ends where another
begins, or where the block that holds it ends, does so to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from refvit.accel.fold import Fold, folds
from refvit.accel.machine import Machine
from refvit.accel.row import Row

GRID = 2.0**20  # steps in a microsecond
ABOUT = ("op", "bound", "macs", "cycles", "compute_cycles", "stall_cycles", "utilization",
         "sram_bytes", "dram_bytes", "uj_low", "uj_high")  # fmt: skip


def on_grid(us: float) -> float:
    """Return the nearest multiple of 2**-20 us.

    >>> on_grid(0.1) + on_grid(0.2) == on_grid(0.3)
    True
    """
    return round(us * GRID) / GRID


def trace(machine: Machine, rows: Sequence[Row]) -> str:
    """Return the trace as JSON: complete events of one track, then the names of the track."""
    ends = [on_grid(machine.us(cycles)) for cycles in accumulate(row.cycles for row in rows)]
    starts = [0.0, *ends[:-1]]
    events = [_event("forward", 0.0, ends[-1], {"layers": len(rows)})]
    first = 0
    for part in folds(rows):
        events += _events(part, starts, ends, first)
        first += len(part.rows)
    names = {"process_name": f"refvit: {machine.name}", "thread_name": "layers"}
    events += [
        {"name": key, "ph": "M", "ts": 0.0, "dur": 0.0, "pid": 0, "tid": 0, "args": {"name": said}}
        for key, said in names.items()
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})


def _events(part: Fold, starts: list[float], ends: list[float], first: int) -> list[dict[str, Any]]:
    """Return the event of a part whose first layer is number `first`, and of what it holds."""
    start, end = starts[first], ends[first + len(part.rows) - 1]
    if not part.parts:
        about = {key: getattr(part.rows[0], key) for key in ABOUT}
        return [_event(part.name, start, end, about)]
    events = [_event(part.name, start, end, {"layers": len(part.rows)})]
    for inside in part.parts:
        events += _events(inside, starts, ends, first)
        first += len(inside.rows)
    return events


def _event(name: str, start: float, end: float, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "ph": "X", "ts": start, "dur": end - start, "pid": 0, "tid": 0, "args": about
    }  # fmt: skip
