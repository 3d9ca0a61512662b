"""The outer tiling of a GEMM that is taken.

Of all cuts of `traffic.options` one is taken that is slower than none by more than a twentieth (a
machine's `tiling_slack`), and moves least of those that can be told to be so: bytes cost energy,
and where memory does not bound a GEMM they cost no time. A bound that is quickly found for all of
them leaves few to be followed tile by tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.hardware import Machine
from refvit.accel.systolic import ceil_div, cut_cycles, mapping
from refvit.accel.tiles import ORDERS, Cut, Gemm
from refvit.accel.traffic import Tile, options

FEW = 8  # cuts that are followed for fewer bytes


@dataclass(frozen=True)
class Tiling:
    """The chosen cut of GEMMs, and for one of them how many tiles there are and the bytes loaded
    and stored in all.

    `time_piece` is the tile's size along the array's time axis. `a_bytes` and `b_bytes` are the
    loads of each operand; `spill_bytes` are those of int32 partial sums: part of the loads, and as
    many of the stores. Codes are packed, so bytes of narrow ones may be fractions.
    """

    cut: Cut
    tiles: int
    time_piece: int
    load_bytes: float
    store_bytes: float
    spill_bytes: float
    a_bytes: float
    b_bytes: float

    @property
    def m(self) -> int:
        return self.cut.tile[0]

    @property
    def k(self) -> int:
        return self.cut.tile[1]

    @property
    def n(self) -> int:
        return self.cut.tile[2]

    @property
    def order(self) -> str:
        return self.cut.order

    @property
    def cycles(self) -> int:
        return self.cut.end

    @property
    def bytes(self) -> float:
        return self.load_bytes + self.store_bytes


@lru_cache(maxsize=4096)
def best_tiling(gemm: Gemm, machine: Machine) -> Tiling:
    """Return the tiling that moves least of those that are slower than none by more than
    `machine.tiling_slack`, as far as bounds tell them.

    Of the tiles whose bound is near the least of all bounds the one of fewest bytes is followed,
    and taken if it keeps to that. If not, it is found out how fast the fastest may be, and of those
    near that the one of fewest bytes is taken, if it is among the first few: else the fastest.
    """
    search, slack = Search(gemm, machine), 1 + machine.tiling_slack
    at = search.frugal(search.bounds.min() * slack, tries=1)
    if at is None:
        at = search.frugal(search.floor() * slack, FEW)
    if at is None:
        at = min(search.cuts, key=lambda at: (search.cut(at).end, search.moved[at]))
    return _tiling(search.cut(at), *search.parts[:, at].tolist())


class Search:
    """Every tile that fits, in every order: its bytes [5, n], and cycles that it is not below."""

    def __init__(self, gemm: Gemm, machine: Machine) -> None:
        self.gemm, self.machine = gemm, machine
        self.tile, self.parts = options(gemm.once, machine.cells, machine.halves)
        self.moved = self.parts.sum(0)
        whole = (self.moved + gemm.M * gemm.N * gemm.beside) * gemm.count
        self.busy = _computed(gemm, self.tile, machine)
        self.bounds = np.maximum(self.busy, whole / machine.dram_bytes_per_cycle)
        self.cuts: dict[int, Cut] = {}

    def cut(self, at: int) -> Cut:
        """Return the cut at a place in the list of all tiles, in the first order, then others."""
        if at not in self.cuts:
            order, which = divmod(at, len(self.tile[0]))
            m, k, n = (int(part[which]) for part in self.tile)
            self.cuts[at] = Cut(self.gemm, self.machine, (m, k, n), tuple(ORDERS)[order])
        return self.cuts[at]

    def frugal(self, limit: float, tries: int) -> int | None:
        """Return the place of the cut that moves least of those that keep to a limit, the fastest
        of cuts alike; None if none of the first so many does."""
        near = np.flatnonzero(self.bounds <= limit)
        ordered = near[np.lexsort((self.busy[near], self.moved[near]))][:tries].tolist()
        first = next((at for at in ordered if self.cut(at).end <= limit), None)
        if first is None:
            return None
        alike = (self.moved[near] == self.moved[first]) & (self.busy[near] == self.busy[first])
        return int(min([first, *near[alike][:2].tolist()], key=lambda at: self.cut(at).end))

    def floor(self) -> float:
        """Return cycles that no cut is below, but one is near by a quarter of the slack: those of
        the least bounds are followed until one is."""
        bounds, best = self.bounds.copy(), np.inf
        while best > bounds.min() * (1 + self.machine.tiling_slack / 2):
            at = int(bounds.argmin())
            best, bounds[at] = min(best, self.cut(at).end), np.inf
        return float(min(best, bounds.min()))


def _tiling(cut: Cut, a: float, b: float, spill: float, back: float, store: float) -> Tiling:
    """Return all there is to say of a cut, which moves so many bytes (`traffic`)."""
    time_piece = cut.tile[mapping(0, 1, 2, cut.hw.dataflow)[2]]
    count = math.prod(cut.pieces)
    return Tiling(cut, count, time_piece, a + b + back, store + spill, spill, a, b)


def _computed(gemm: Gemm, tile: Tile, machine: Machine) -> NDArray[Any]:
    """Return cycles that no tile, in each of the orders, takes less than: the first load, then the
    products, then the last store.

    Besides, the array waits wherever a tile's loads and the store before them, for which the port
    has the time of one tile's products, take longer: at the first of those that an inner loop
    passes, or where sums stay for all of K, of every result.
    """
    axes, speed = tuple(zip(gemm.sizes, tile, strict=True)), machine.dram_bytes_per_cycle
    widths = zip((gemm.a_bytes, gemm.b_bytes, gemm.o_bytes), gemm.resident, strict=True)
    a, b, o = (each * (not stays) / speed for each, stays in widths)
    m, k, n = (np.minimum(part, size) for size, part in axes)
    load_a, load_b, store = m * k * a, k * n * b, m * n * o
    last_m, last_n = ((size - 1) % part + 1 for size, part in axes[::2])
    ends = load_a + load_b + last_m * last_n * o
    ends += _products(gemm.sizes, gemm, machine, tile, gemm.count)
    down, inner, across = (-(-size // part) for size, part in axes)
    waits = load_a * (down * inner > 1) + load_b * (inner * across > 1)
    waits -= _products((m, k, n), gemm, machine)
    rows, deep, cols = gemm.M // m, gemm.K // k, gemm.N // n  # pieces of full size
    passed = np.maximum(waits + store * (inner == 1), 0) * gemm.count
    results = rows * (cols - 1) * (deep > 1) * np.maximum(waits + store, 0) * gemm.count
    stalls = (
        np.where(down > 1, (cols * deep - 1) * passed, results),
        np.where(across > 1, (rows * deep - 1) * passed, results),
        results,
    )
    return np.concatenate([ends + each for each in stalls])


def _products(sizes: Any, gemm: Gemm, machine: Machine, tile: Any = None, count: int = 1) -> Any:
    """Return the cycles of products of those sizes: of the array, or of the vector unit."""
    axis = mapping(0, 1, 2, machine.dataflow)[2]
    array = (machine.rows, machine.cols, machine.dataflow, machine.overlap)
    longer = stretched(sizes, axis, gemm.slices)
    piece = longer[axis] if tile is None else tile[axis] * gemm.slices
    results = ceil_div(sizes[0] * sizes[2], machine.vector_lanes) * count
    busy = np.maximum(cut_cycles(longer, piece, *array, count), results * gemm.streamed)
    return busy + results * gemm.serial


def stretched(sizes: tuple[int, int, int], axis: int, slices: int) -> tuple[int, int, int]:
    """Return sizes whose time axis is `slices` times as long: every product takes as many cycles.

    >>> stretched((2, 3, 4), 1, 2)
    (2, 6, 4)
    """
    M, K, N = (size * (slices if i == axis else 1) for i, size in enumerate(sizes))
    return M, K, N
