"""The tiles of a GEMM that is cut, and the time they take one after another.

Cut into m x k of A, k x n of B, m x n of the output, a GEMM is three loops over tiles. What every
tile loads and stores depends on the order of the loops:

    weights outer       for n: for k: for m     a tile of B stays while those of A pass
    activations outer   for m: for k: for n     a tile of A stays while those of B pass
    results outer       for m: for n: for k     sums stay; both operands pass

An operand that is one tile stays for good. In the first two orders the sums of a cut K leave
between its pieces, as int32, and return, unless one tile holds all that the inner loop passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.hardware import Machine
from refvit.accel.stream import NOISE, Clock, Timing, repeated
from refvit.accel.systolic import ceil_div, fill_and_drain, fold_cycles, folds, mapping

Array = NDArray[Any]
PARTIAL_BYTES = 4  # of an int32 sum
ORDERS = {"weights outer": "nkm", "activations outer": "mkn", "results outer": "mnk"}


@dataclass(frozen=True)
class Gemm:
    """`count` equal GEMMs as the memory sees them: sizes, bytes of an element of A, B and the
    output, and which of the three are on chip already or stay there; the cycles of the array for a
    product (`slices`); the passes of the vector unit that `stream` behind the array or follow
    (`serial`); and the bytes `beside` each result that what streams loads."""

    M: int
    K: int
    N: int
    a_bytes: float
    b_bytes: float
    o_bytes: float
    resident: tuple[bool, bool, bool] = (False, False, False)
    count: int = 1
    slices: int = 1
    streamed: float = 0
    serial: int = 0
    beside: float = 0.0

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.M, self.K, self.N

    @cached_property
    def once(self) -> Gemm:
        """One of them by itself, with nothing behind it."""
        return Gemm(*self.sizes, self.a_bytes, self.b_bytes, self.o_bytes, self.resident)


@dataclass(frozen=True)
class Cut:
    """A GEMM on a machine, cut into tiles of m, k, n, in one order of the loops.

    Along each of M, K, N there are at most three kinds of pieces: the first, those between, and the
    last, which is smaller where the cut does not come out even. So there are at most 27 of tiles,
    and what is said of them comes as arrays [kinds of M, of K, of N].
    """

    gemm: Gemm
    hw: Machine
    tile: tuple[int, int, int]
    order: str

    @cached_property
    def pieces(self) -> tuple[int, ...]:
        """Into how many pieces M, K and N are cut."""
        return tuple(map(ceil_div, self.gemm.sizes, self.tile))

    @cached_property
    def at(self) -> tuple[Array, ...]:
        """Which pieces of M, K and N every kind of tile has first."""
        return _along([i for i, _ in kinds(count)] for count in self.pieces)

    @cached_property
    def sizes(self) -> tuple[Array, ...]:
        """The sizes m, k and n of every kind of tile."""
        each = zip(self.gemm.sizes, self.tile, self.at, strict=True)
        return tuple(np.minimum(part, size - part * i) for size, part, i in each)

    @cached_property
    def count(self) -> Array:
        """How many there are of every kind, over all GEMMs."""
        m, k, n = _along([times for _, times in kinds(count)] for count in self.pieces)
        return m * k * n * self.gemm.count

    @cached_property
    def array(self) -> Array:
        """The cycles of the array for every kind of tile."""
        (m, k, n), hw = self.sizes, self.hw
        time = mapping(m, k, n, hw.dataflow)[2] * self.gemm.slices
        each = fold_cycles(time, hw.rows, hw.cols, hw.overlap)
        return np.asarray(folds(m, k, n, hw.rows, hw.cols, hw.dataflow) * each)

    @cached_property
    def compute(self) -> Array:
        """The cycles of every kind of tile: of the array, or of the vector unit if that is slower.

        It has as long for the results of a tile as the array for all pieces of K; but where sums
        leave between the pieces there are results at the last alone.
        """
        results = ceil_div(self.sizes[0] * self.sizes[2], self.hw.vector_lanes)
        share = results * (self.at[1] == self.pieces[1] - 1) if self.spills else results
        pieces = 1 if self.spills else self.pieces[1]
        passes = self.gemm.streamed, self.gemm.serial
        behind, after = (np.ceil(share * each / pieces).astype(int) for each in passes)
        return np.asarray(np.maximum(self.array, behind) + after)

    @property
    def waits(self) -> int:
        """The cycles that the array waits for the vector unit."""
        return int(((self.compute - self.array) * self.count).sum())

    @cached_property
    def loads(self) -> tuple[Array, Array, Array]:
        """The bytes of A, of B, and of sums and of what streams beside them, that a tile loads."""
        (m, k, n), (down, deep, across), x = self.sizes, self.at, self.gemm
        again_a = self.order != "activations outer" and not self._whole("mk")
        again_b = self.order != "weights outer" and not self._whole("kn")
        a = m * k * (x.a_bytes * (not x.resident[0])) * ((across == 0) | again_a)
        b = k * n * (x.b_bytes * (not x.resident[1])) * ((down == 0) | again_b)
        last = deep == self.pieces[1] - 1
        return a, b, m * n * (PARTIAL_BYTES * self.spills * (deep > 0) + x.beside * last)

    @cached_property
    def stores(self) -> Array:
        """The bytes that a tile stores: results after the last piece of K, else sums that leave."""
        (m, _, n), x = self.sizes, self.gemm
        last = self.at[1] == self.pieces[1] - 1
        results = x.o_bytes * (not x.resident[2])
        return np.asarray(m * n * np.where(last, results, PARTIAL_BYTES * self.spills))

    @property
    def spills(self) -> bool:
        """Whether partial sums leave between the pieces of K: not if the inner loop is over K, nor
        if it has one tile."""
        inner = ORDERS[self.order][2]
        return not self._whole("k") and inner != "k" and not self._whole(inner)

    def _whole(self, axes: str) -> bool:
        """Whether there is one piece along all of these axes."""
        return all(self.pieces["mkn".index(axis)] == 1 for axis in axes)

    @cached_property
    def cycles(self) -> tuple[Array, Array, Array]:
        """Whole cycles that every kind of tile is computed, loaded and stored."""
        moved, speed = (sum(self.loads), self.stores), self.hw.dram_bytes_per_cycle
        loads, stores = (np.ceil(x / speed - NOISE).astype(np.int64) for x in moved)
        return self.compute, loads, stores

    @cached_property
    def clock(self) -> Clock:
        """The clock after all tiles of all GEMMs, each in its place."""
        loops = ["mkn".index(axis) for axis in ORDERS[self.order]]
        tiles = np.stack(self.cycles).transpose(*(axis + 1 for axis in loops), 0).tolist()
        often = [[times for _, times in kinds(self.pieces[axis])] for axis in loops]
        return repeated(Clock(), lambda now: _through(now, tiles, often), self.gemm.count)

    @property
    def end(self) -> int:
        """The cycles of it all. Where folds overlap all is one stream: the array fills with the
        first product and drains with the last."""
        return self.clock.end() + self.edge

    @cached_property
    def edge(self) -> int:
        """The cycles of filling and draining the array, where folds overlap."""
        hw, (m, k, n) = self.hw, (part.flat[-1] for part in self.sizes)
        last = mapping(m, k, n, hw.dataflow)[2] * self.gemm.slices
        return int(fill_and_drain(last, hw.rows, hw.cols, hw.dataflow, hw.overlap))

    @cached_property
    def timing(self) -> Timing:
        """The time of it all, and what it is made of."""
        compute, loads, stores = (int((part * self.count).sum()) for part in self.cycles)
        first = int(self.cycles[1][0, 0, 0])
        waits = self.clock.end() - self.clock.array
        return Timing(self.end, compute + self.edge, loads + stores, first, waits)


def _through(clock: Clock, tiles: Any, often: Sequence[Sequence[int]]) -> Clock:
    """Return the clock after nested loops over tiles: a list for every loop, the outer one first,
    and how often each of its entries comes."""
    for inner, times in zip(tiles, often[0], strict=True):
        if len(often) == 1:
            compute, load, store = inner
            clock = clock.tiles(compute, load, store, times)
        else:
            clock = repeated(clock, partial(_through, tiles=inner, often=often[1:]), times)
    return clock


def _along(each: Iterable[Sequence[int]]) -> tuple[Array, ...]:
    """Return three arrays of values along M, K and N that broadcast against each other."""
    m, k, n = (np.asarray(values) for values in each)
    return m[:, None, None], k[:, None], n


def kinds(count: int) -> list[tuple[int, int]]:
    """Return the first, middle and last of so many pieces: where each comes first, and how often.

    >>> kinds(1), kinds(2), kinds(7)
    ([(0, 1)], [(0, 1), (1, 1)], [(0, 1), (1, 5), (6, 1)])
    """
    return [(0, 1)] + [(1, count - 2)] * (count > 2) + [(count - 1, 1)] * (count > 1)
