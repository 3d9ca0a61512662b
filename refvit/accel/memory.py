"""DRAM traffic of a GEMM with finite buffers, and the time of tiles through two buffers.

A GEMM is cut into outer tiles m x k of A, k x n of B, m x n of the output that fit half of each
SRAM. Three orders of the loops are tried for every tile, and the one that moves the least wins:

    weights outer       K N b_w + M K b_a [ceil(N/n), or 1 if A fits whole] + M N b_o
    activations outer   M K b_a + K N b_w [ceil(M/m), or 1 if B fits whole] + M N b_o
    results outer       M K b_a ceil(N/n) + K N b_w ceil(M/m) + M N b_o

plus, in the first two, M N b_p (2 ceil(K/k) - 2) where K is cut and partial sums must leave between
its pieces; in the third K is the inner loop, so they never do. Without it a batch, whose sums do
not fit, would move more than its images one by one. The term of a tensor that is on chip already,
or stays there, is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.hardware import Machine
from refvit.accel.steps import PARTIAL_BYTES
from refvit.accel.systolic import ceil_div, cut_cycles, mapping

ORDERS = ("weights outer", "activations outer", "results outer")
IMPOSSIBLE = np.inf


@dataclass(frozen=True)
class Tiling:
    """The chosen outer tile, how many there are, and the bytes loaded and stored in all.

    `time_piece` is the tile's size along the array's time axis. `a_bytes` and `b_bytes` are the
    loads of each operand; `spill_bytes` are those of int32 partial sums: part of the loads, and as
    many of the stores. Codes are packed, so bytes of narrow ones may be fractions.
    """

    m: int
    k: int
    n: int
    order: str
    tiles: int
    time_piece: int
    load_bytes: float
    store_bytes: float
    spill_bytes: float = 0
    a_bytes: float = 0
    b_bytes: float = 0

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
    return tuple(sorted({ceil_div(units, pieces) * unit for pieces in range(1, units + 1)}))


@lru_cache(maxsize=4096)
def best_tiling(
    M: int,
    K: int,
    N: int,
    machine: Machine,
    a_bytes: float,
    b_bytes: float,
    o_bytes: float,
    resident: tuple[bool, bool, bool] = (False, False, False),
    slices: int = 1,
) -> Tiling:
    """Return the tiling of least DRAM traffic, and among those of least time.

    `*_bytes` are of one element of A, B, output; `resident` says which of them are on chip, and
    `slices` how many cycles a product takes.
    """
    sizes, widths = (M, K, N), (a_bytes, b_bytes, o_bytes)
    tile, axis = _grid(sizes, machine)
    fits = _fits(tile, widths, machine)
    options = [_traffic(order, sizes, tile, widths, resident) for order in range(len(ORDERS))]
    moved = [a + b + 2 * spill + store for a, b, spill, store in options]
    totals = np.stack([np.where(fits, each, IMPOSSIBLE) for each in moved])
    pieces = np.prod([-(-size // part) for size, part in zip(sizes, tile, strict=True)], axis=0)
    longer = stretched(sizes, axis, slices)
    times = _times(longer, tile[axis] * slices, options, pieces, machine)
    order, *at = np.unravel_index(
        np.where(totals == totals.min(), times, np.inf).argmin(), times.shape
    )
    where = tuple(at)
    a, b, spill, store = (x[where].item() for x in options[order])
    m, k, n = (part[where].item() for part in tile)
    tiling = Tiling(
        m, k, n, ORDERS[order], pieces[where].item(), (m, k, n)[axis], a + b + spill, store + spill,
        spill, a, b,
    )  # fmt: skip
    floor = zip((M * K, K * N, M * N), widths, resident, strict=True)
    assert tiling.bytes >= sum(0 if stays else size * width for size, width, stays in floor)
    return tiling


def stretched(sizes: tuple[int, int, int], axis: int, slices: int) -> tuple[int, int, int]:
    """Return sizes whose time axis is `slices` times as long: every product takes as many cycles.

    >>> stretched((2, 3, 4), 1, 2)
    (2, 6, 4)
    """
    M, K, N = (size * (slices if i == axis else 1) for i, size in enumerate(sizes))
    return M, K, N


def _grid(sizes: tuple[int, int, int], machine: Machine) -> tuple[Any, int]:
    """Return every tile as arrays of m, k, n, and which of the three is the array's time."""
    along = mapping(0, 1, 2, machine.dataflow)  # which of M, K, N lies along rows, columns, time
    units = dict(zip(along, (machine.rows, machine.cols, machine.rows), strict=True))
    axes = (candidates(size, units[axis]) for axis, size in enumerate(sizes))
    return np.meshgrid(*axes, indexing="ij"), along[2]


def _fits(tile: Any, widths: Any, machine: Machine) -> NDArray[np.bool_]:
    """Which tiles fit half of each SRAM; with an accumulator, the output's holds results only."""
    (m, k, n), (a_bytes, b_bytes, o_bytes) = tile, widths
    a = m * k * a_bytes <= machine.sram_a_bytes // 2
    b = k * n * b_bytes <= machine.sram_b_bytes // 2
    sums = m * n * PARTIAL_BYTES <= machine.sums_bytes // 2
    if machine.accumulator_bytes:
        sums &= m * n * o_bytes <= machine.sram_o_bytes // 2
    return np.asarray(a & b & sums)


def _traffic(order: int, sizes: Any, tile: Any, widths: Any, resident: Any) -> tuple[Any, ...]:
    """Bytes of A, of B, of sums that leave (and return), and of results by one loop order."""
    (M, K, N), (m, k, n), (a_bytes, b_bytes, o_bytes) = sizes, tile, widths
    moved = [float(not stays) for stays in resident]
    down, across = -(-M // m), -(-N // n)
    whole_k, once = k >= K, np.ones_like(m)
    passes_a = once if order == 1 else np.where((m >= M) & whole_k, 1, across)
    passes_b = once if order == 0 else np.where((n >= N) & whole_k, 1, down)
    stays = (m >= M, n >= N, True)[order]  # then the sums of a column of tiles stay inside
    spill = np.where(stays, 0, M * N * PARTIAL_BYTES * (-(-K // k) - 1.0))
    a = M * K * a_bytes * moved[0] * passes_a
    b = K * N * b_bytes * moved[1] * passes_b
    return a, b, spill, np.full(m.shape, M * N * o_bytes * moved[2])


def _times(sizes: Any, piece: Any, options: Any, pieces: Any, machine: Machine) -> NDArray[Any]:
    """Return the cycles of every tile, by every order."""
    array = (machine.rows, machine.cols, machine.dataflow, machine.overlap)
    compute = cut_cycles(sizes, piece, *array) / pieces
    speed = pieces * machine.dram_bytes_per_cycle
    return np.stack(
        [
            _cycles(compute, (a + b + spill) / speed, (store + spill) / speed, pieces)
            for a, b, spill, store in options
        ]
    )


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer: in all, busy computing, busy with memory; the prologue loads the first
    tile before anything is computed, the epilogue stores the last when everything is."""

    cycles: float
    compute: float
    memory: float
    prologue: float
    epilogue: float

    @property
    def stall(self) -> float:
        """Cycles in which the array waits."""
        return self.cycles - self.compute

    @property
    def steady(self) -> float:
        """Cycles between the first load and the last store."""
        return self.cycles - self.prologue - self.epilogue


def two_buffers(compute: float, load: float, store: float, tiles: int) -> Timing:
    """Return the time of `tiles` equal tiles, each loaded, computed and stored, with two buffers.

    With compute c, load d, store s and n > 1 tiles this is the recurrence below, solved:

        L = d + max(c, d) + (n - 2) max(c, d + s) + max(c, s) + s

    The second load hides the first product or is hidden by it, and so at the end with the last
    store; between them the slower of the array and the port sets the pace.

    >>> two_buffers(10, 3, 2, 5).cycles, two_buffers(2, 3, 2, 5).cycles
    (55, 25)
    """
    total = _cycles(compute, load, store, tiles).item()
    return Timing(total, tiles * compute, tiles * (load + store), load, store)


def _cycles(c: Any, d: Any, s: Any, tiles: Any) -> Any:
    """The formula of `two_buffers`, for arrays too."""
    several = d + np.maximum(c, d) + (tiles - 2) * np.maximum(c, d + s) + np.maximum(c, s) + s
    return np.where(np.asarray(tiles) > 1, several, c + d + s)


def recurrence(compute: list[float], load: list[float], store: list[float]) -> float:
    """Return the same for tiles of any times, tile by tile: one DRAM port, two buffers a tensor.

    A tile may be loaded once the tile two before it is computed, and computed once its own load
    and the store two before it are through.
    """
    port, count = 0.0, len(compute)
    computed, stored = [0.0] * count, [0.0] * count
    for i in range(count):
        if i >= 2:
            port = max(port, computed[i - 2]) + store[i - 2]
            stored[i - 2] = port
        port = max(port, computed[i - 2] if i >= 2 else 0.0) + load[i]
        before = computed[i - 1] if i else 0.0
        computed[i] = max(before, port, stored[i - 2] if i >= 2 else 0.0) + compute[i]
    for i in range(max(0, count - 2), count):
        port = max(port, computed[i]) + store[i]
    return port
