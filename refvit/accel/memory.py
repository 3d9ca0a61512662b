"""DRAM traffic of a GEMM with finite buffers, and the time of tiles through two buffers.

A GEMM is cut into outer tiles m x k of A, k x n of B, m x n of the output that fit half of each
SRAM. Two orders of the loops are tried for every tile, and the one that moves the least wins:

    weights outer       K N b_w + M K b_a [ceil(N/n), or 1 if A fits whole] + M N b_o
    activations outer   M K b_a + K N b_w [ceil(M/m), or 1 if B fits whole] + M N b_o

plus M N b_p (2 ceil(K/k) - 2) where K is cut and partial sums must leave between its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.machine import Machine
from refvit.accel.systolic import ceil_div, cut_cycles, mapping

PARTIAL_BYTES = 4  # of an int32 sum
ORDERS = ("weights outer", "activations outer")
IMPOSSIBLE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Tiling:
    """The chosen outer tile, how many there are, and the bytes loaded and stored in all.

    `time_piece` is the tile's size along the array's time axis. `spill_bytes` are those of int32
    partial sums: part of the loads, and as many of the stores.
    """

    m: int
    k: int
    n: int
    order: str
    tiles: int
    time_piece: int
    load_bytes: int
    store_bytes: int
    spill_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.load_bytes + self.store_bytes


def candidates(size: int, unit: int) -> NDArray[np.int64]:
    """Return tile sizes along one axis: multiples of `unit`, one for each number of pieces."""
    units = ceil_div(size, unit)
    return np.unique([ceil_div(units, pieces) * unit for pieces in range(1, units + 1)])


@lru_cache(maxsize=4096)
def best_tiling(
    M: int, K: int, N: int, machine: Machine, a_bytes: int, b_bytes: int, o_bytes: int
) -> Tiling:
    """Return the tiling of least DRAM traffic, and among those of least time.

    `*_bytes` are of one element of A, B, output.
    """
    sizes, widths = (M, K, N), (a_bytes, b_bytes, o_bytes)
    along = mapping(0, 1, 2, machine.dataflow)  # which of M, K, N lies along rows, columns, time
    units = dict(zip(along, (machine.rows, machine.cols, machine.rows), strict=True))
    axes = (candidates(size, units[axis]) for axis, size in enumerate(sizes))
    tile = np.meshgrid(*axes, indexing="ij")
    fits = _fits(tile, widths, machine)
    options = [_traffic(order, sizes, tile, widths) for order in (0, 1)]
    totals = np.stack([np.where(fits, sum(option), IMPOSSIBLE) for option in options])
    pieces = np.prod([-(-size // part) for size, part in zip(sizes, tile, strict=True)], axis=0)
    piece, array = tile[along[2]], (machine.rows, machine.cols, machine.dataflow, machine.overlap)
    compute = cut_cycles(sizes, piece, *array) / pieces
    speed = pieces * machine.dram_bytes_per_cycle
    times = np.stack([_cycles(compute, d / speed, s / speed, pieces) for d, s in options])
    order, *at = np.unravel_index(
        np.where(totals == totals.min(), times, np.inf).argmin(), times.shape
    )
    where = tuple(at)
    load, store = (int(x[where]) for x in options[order])
    m, k, n = (int(part[where]) for part in tile)
    spill = store - M * N * o_bytes
    count, cut = int(pieces[where]), int(piece[where])
    tiling = Tiling(m, k, n, ORDERS[order], count, cut, load, store, spill)
    assert tiling.bytes >= M * K * a_bytes + K * N * b_bytes + M * N * o_bytes
    return tiling


def _fits(tile: Any, widths: Any, machine: Machine) -> NDArray[np.bool_]:
    """Which tiles fit half of each SRAM."""
    (m, k, n), (a_bytes, b_bytes, _) = tile, widths
    a = m * k * a_bytes <= machine.sram_a_bytes // 2
    b = k * n * b_bytes <= machine.sram_b_bytes // 2
    return np.asarray(a & b & (m * n * PARTIAL_BYTES <= machine.sram_o_bytes // 2))


def _traffic(order: int, sizes: Any, tile: Any, widths: Any) -> tuple[Any, Any]:
    """Bytes loaded and stored by one loop order, for arrays of tiles."""
    (M, K, N), (m, k, n), (a_bytes, b_bytes, o_bytes) = sizes, tile, widths
    passes_a = np.where((m >= M) & (k >= K), 1, -(-N // n))
    passes_b = np.where((n >= N) & (k >= K), 1, -(-M // m))
    a, b = M * K * a_bytes, K * N * b_bytes
    load = b + a * passes_a if order == 0 else a + b * passes_b
    stays = (m >= M) if order == 0 else (n >= N)  # then the sums of a column of tiles stay inside
    spill = np.where(stays, 0, M * N * PARTIAL_BYTES * (-(-K // k) - 1))
    return load + spill, M * N * o_bytes + spill


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer: in all, busy computing, busy with memory, and the rest of the two."""

    cycles: float
    compute: float
    memory: float
    prologue: float
    epilogue: float

    @property
    def stall(self) -> float:
        """Cycles in which the array waits."""
        return self.cycles - self.compute


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
