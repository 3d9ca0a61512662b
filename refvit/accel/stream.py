"""Tiles through two buffers: when each is loaded, computed and stored.

One DRAM port loads and stores; each tensor has two buffers, one in use and one on its way. So a
tile may be loaded when the tile two before it is computed, and computed when its own load and the
store two before it are through. Times are whole cycles: a load of bytes takes bytes / (bytes a
cycle) rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

NOISE = 1e-6  # of cycles: what divisions in floats may leave above a whole number


class Clock(NamedTuple):
    """Where a stream of tiles stands after some of them: until when the port and the array are
    busy, when the tile before the last was computed, and the two stores that are still to come.

    >>> Clock().tiles(10, 3, 2, times=2).end()
    25
    >>> Clock().tiles(10, 3, 2, times=10**12).end()
    10000000000005
    """

    port: int = 0
    array: int = 0
    before: int = 0
    store: int = 0
    earlier: int = 0

    def tiles(self, compute: int, load: int, store: int, times: int = 1) -> Clock:
        """Return the clock after that many more tiles of those cycles, as `repeated` would."""
        port, array, before, late, earlier = self
        for left in range(times - 1, -1, -1):
            began, ahead, lag = port, array - port, before - port
            port = max(port, before) + earlier + load
            array, before = max(array, port) + compute, array
            if left and earlier == late == store and (array - port, before - port) == (ahead, lag):
                cycles = (port - began) * left
                return Clock(port + cycles, array + cycles, before + cycles, store, store)
            late, earlier = store, late
        return Clock(port, array, before, late, earlier)

    def end(self) -> int:
        """Return when the last store is through."""
        port = max(self.port, self.before) + self.earlier
        return max(port, self.array) + self.store

    def later(self, cycles: int) -> Clock:
        """Return the same clock, that many cycles on."""
        return Clock(
            self.port + cycles, self.array + cycles, self.before + cycles, self.store, self.earlier
        )


def repeated(clock: Clock, body: Callable[[Clock], Clock], times: int) -> Clock:
    """Return the clock after `body`, a stream of tiles, has run so many times.

    What follows depends on the differences between the three times alone. So as soon as one run
    leaves them as it found them, every other one will take as long as this one did.

    >>> repeated(Clock(), lambda now: now.tiles(10, 3, 2).tiles(1, 3, 2), 10**12).end()
    15000000000002
    """
    for left in range(times - 1, -1, -1):
        after = body(clock)
        cycles = after.port - clock.port
        if left and after == clock.later(cycles):
            return after.later(cycles * left)
        clock = after
    return clock


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer: in all, busy computing, busy with memory; the prologue loads the first
    tile before anything is computed, the epilogue stores the last when everything is."""

    cycles: int
    compute: int
    memory: int
    prologue: int
    epilogue: int

    @property
    def stall(self) -> int:
        """Cycles in which the array waits."""
        return self.cycles - self.compute

    @property
    def steady(self) -> int:
        """Cycles between the first load and the last store."""
        return self.cycles - self.prologue - self.epilogue


def in_parts(compute: int, load: float, store: float, tiles: int) -> Timing:
    """Return the time of that many cycles of work, loads and stores cut into `tiles` nearly equal
    parts: each total is met, the later parts are smaller by at most a cycle.

    >>> in_parts(10, 7.5, 0, 3)
    Timing(cycles=13, compute=10, memory=8, prologue=3, epilogue=0)
    """
    totals = compute, ceil(load - NOISE), ceil(store - NOISE)
    clock, prologue = Clock(), -(-totals[1] // tiles)
    ends = sorted({0, tiles, *(total % tiles for total in totals)})
    for start, end in pairwise(ends):
        c, d, s = (total // tiles + (start < total % tiles) for total in totals)
        clock = clock.tiles(c, d, s, end - start)
    cycles = clock.end()
    return Timing(cycles, compute, totals[1] + totals[2], prologue, cycles - clock.array)
