"""DRAM traffic of a GEMM with finite buffers: every cut that fits, and what it moves.

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
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.systolic import ceil_div
from refvit.accel.tiles import ORDERS, PARTIAL_BYTES, Gemm

Tile = tuple[NDArray[Any], ...]  # m, k and n


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
