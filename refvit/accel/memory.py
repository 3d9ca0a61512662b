"""DRAM traffic of a GEMM with finite buffers, and the outer tiling that is taken.

A GEMM is cut into outer tiles m x k of A, k x n of B, m x n of the output that fit half of each
SRAM: multiples of the array (of its rows along what lies in time), as even as these allow, one for
every number of pieces of M, K and N; uneven cuts are not tried. Three orders of the loops are tried
for every tile (`tiles.ORDERS`); each moves

    weights outer       K N b_w + M K b_a [ceil(N/n), or 1 if A fits whole] + M N b_o
    activations outer   M K b_a + K N b_w [ceil(M/m), or 1 if B fits whole] + M N b_o
    results outer       M K b_a ceil(N/n) + K N b_w ceil(M/m) + M N b_o

plus, in the first two, M N b_p (2 ceil(K/k) - 2) where K is cut and partial sums must leave between
its pieces; in the third K is the inner loop, so they never do. Without it a batch, whose sums do
not fit, would move more than its images one by one. The term of a tensor that is on chip already,
or stays there, is 0.

Of all of these one is taken that is slower than none by more than a twentieth, and moves least of
those that can be told to be so: bytes cost energy, and where memory does not bound a GEMM they cost
no time. A bound that is quickly found for all of them leaves few to be followed tile by tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.hardware import Machine
from refvit.accel.systolic import ceil_div, cut_cycles, mapping
from refvit.accel.tiles import ORDERS, PARTIAL_BYTES, Cut, Gemm

Tile = tuple[NDArray[Any], ...]  # m, k and n

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
def candidates(size: int, unit: int) -> tuple[int, ...]:
    """Return tile sizes along one axis: multiples of `unit`, the least for each number of pieces.

    >>> candidates(197, 32)
    (32, 64, 96, 128, 224)
    """
    units = ceil_div(size, unit)
    few = isqrt(units) + 1  # with more pieces than this tiles have fewer units than this
    large = {ceil_div(units, pieces) for pieces in range(1, min(few, units) + 1)}
    small = {part for part in range(1, few + 1) if ceil_div(units, ceil_div(units, part)) == part}
    return tuple(part * unit for part in sorted(large | small))


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
        at = min(search.cuts, key=lambda at: search.cut(at).end)
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


@lru_cache(maxsize=4096)
def options(
    gemm: Gemm, units: tuple[int, int, int], halves: tuple[int, int, int, int]
) -> tuple[Tile, NDArray[Any]]:
    """Return m, k and n of every tile that fits, in multiples of `units`, in `halves` of the SRAMs
    of A, B, results and sums; and the bytes of `traffic` [5, in all orders one after another], but
    without end for what another order has as well.

    They are kept, as machines of a sweep differ in their clock or port more often than in these.
    """
    axes = [np.array(candidates(*each)) for each in zip(gemm.sizes, units, strict=True)]
    m, k, n = axes[0][:, None, None], axes[1][:, None], axes[2]
    fits = (m * k * gemm.a_bytes <= halves[0]) & (k * n * gemm.b_bytes <= halves[1])
    fits = fits & (m * n * gemm.o_bytes <= halves[2]) & (m * n * PARTIAL_BYTES <= halves[3])
    tile = tuple(sizes[at] for sizes, at in zip(axes, fits.nonzero(), strict=True))
    moved = np.stack([traffic(order, gemm, tile) for order in ORDERS], 1)
    down, whole, across = tile[0] >= gemm.M, tile[1] >= gemm.K, tile[2] >= gemm.N
    moved[:, 1, (whole & (down | across)) | (down & across)] = np.inf  # as in the first order
    moved[:, 2, whole | down | across] = np.inf  # as in one of the others, or more
    return tile, moved.reshape(len(moved), -1)


def traffic(order: str, gemm: Gemm, tile: Tile) -> tuple[Any, ...]:
    """Return the bytes of A, of B, of sums that leave, of sums that return, and of results."""
    (M, K, N), (m, k, n) = gemm.sizes, tile
    moved = [float(not stays) for stays in gemm.resident]
    down, across, whole_k = -(-M // m), -(-N // n), k >= K
    passes_a = np.where((m >= M) & whole_k, 1, across)
    passes_b = np.where((n >= N) & whole_k, 1, down)
    if order == "activations outer":
        passes_a = np.ones_like(m)
    if order == "weights outer":
        passes_b = np.ones_like(m)
    inside: dict[str, Any] = {"weights outer": m >= M, "activations outer": n >= N}
    stays = inside.get(order, True)
    spill = np.where(stays, 0, M * N * PARTIAL_BYTES * (-(-K // k) - 1.0))
    a = M * K * gemm.a_bytes * moved[0] * passes_a
    b = K * N * gemm.b_bytes * moved[1] * passes_b
    return a, b, spill, spill, np.full(m.shape, M * N * gemm.o_bytes * moved[2])


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
