"""The array clock edge by clock edge: operands move between PEs, products are made, cycles counted.

PE(r, c) lives at local time t - (r + c): operands and control enter skewed and travel one PE a
cycle, so every PE does the same thing at the same local time. Columns of registers (weights on
their way in, results on their way out) shift through a link register between rows, which keeps
the shift in local time as well. Cycle 0 is the first in which anything is presented at an edge;
the count ends with the edge that latches the last result below the bottom row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.systolic import ceil_div, mapping, require_sizes

Int = NDArray[Any]
Watch = Callable[[int, Int, Int, Int], None]
ALONE = 1 << 40  # the period of a fold that no other follows


def step_gemm(
    a: Int,
    b: Int,
    rows: int,
    cols: int,
    dataflow: str = "ws",
    overlap: bool = False,
    watch: Watch | None = None,
) -> tuple[Int, int]:
    """Return (a @ b as int32, cycles taken) of int8 a [M, K] and b [K, N].

    Input-stationary is the weight-stationary array on the transposed problem. After each edge
    `watch(cycle, moves, works, leaves)` is told which PEs [rows, cols] shift a weight in or a sum
    out, which multiply, and below which columns [cols] a result is latched. Raises TypeError
    for operands that are no arrays; ValueError for those that are not int8, shapes that do not
    agree, sizes below 1 or an unknown dataflow.

    >>> step_gemm(np.array([[1, 2]], np.int8), np.array([[3], [4]], np.int8), 2, 1)
    (array([[11]], dtype=int32), 4)
    """
    _check(a, b, rows, cols, dataflow)
    a, b = a.astype(np.int32), b.astype(np.int32)
    watch = watch or _unseen
    if dataflow == "is":
        product, cycles = _run(_weight_stationary, b.T, a.T, rows, cols, overlap, watch)
        return product.T, cycles
    array = _output_stationary if dataflow == "os" else _weight_stationary
    return _run(array, a, b, rows, cols, overlap, watch)


def _check(a: Int, b: Int, rows: int, cols: int, dataflow: str) -> None:
    """Refuse operands, sizes and dataflows that no array runs."""
    for name, operand in (("a", a), ("b", b)):
        if not isinstance(operand, np.ndarray):
            kind = type(operand).__name__
            raise TypeError(
                f"{name} is an int8 array; got a {kind}; give np.array({name}, np.int8)"
            )
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"wanted [M, K] and [K, N], got {a.shape} and {b.shape}")
    if a.dtype != np.int8 or b.dtype != np.int8:
        raise ValueError(f"operands are int8; got {a.dtype} and {b.dtype}; quantize them first")
    require_sizes(M=a.shape[0], K=a.shape[1], N=b.shape[1], rows=rows, cols=cols)
    mapping(a.shape[0], a.shape[1], b.shape[1], dataflow)


def _unseen(cycle: int, moves: Int, works: Int, leaves: Int) -> None:
    """Nobody watches."""


def _later(watch: Watch, clock: int, cycle: int, moves: Int, works: Int, leaves: Int) -> None:
    watch(clock + cycle, moves, works, leaves)


def _run(
    array: Any, a: Int, b: Int, rows: int, cols: int, overlap: bool, watch: Watch
) -> tuple[Int, int]:
    """Step all folds as one stream, or each alone, begun when the one before was seen to end."""
    if overlap:
        product, cycles = array(a, b, rows, cols, None, watch)
        return product, cycles
    total, clock = np.zeros((a.shape[0], b.shape[1]), np.int32), 0
    fold = 0
    while True:
        product, cycles = array(a, b, rows, cols, fold, partial(_later, watch, clock))
        if cycles == 0:
            return total, clock
        total, clock, fold = total + product, clock + cycles, fold + 1


def _tiles(x: Int, height: int, width: int) -> Int:
    """Cut x into zero-padded tiles: [down, across, height, width]."""
    down, across = ceil_div(x.shape[0], height), ceil_div(x.shape[1], width)
    padded = np.zeros((down * height, across * width), np.int32)
    padded[: x.shape[0], : x.shape[1]] = x
    return padded.reshape(down, height, across, width).swapaxes(1, 2)


def _shifted(x: Int, edge: Int, axis: int) -> Int:
    """What each PE reads from its neighbour's register of the last cycle: `edge` enters first."""
    return np.concatenate([np.expand_dims(edge, axis), np.delete(x, -1, axis)], axis)


def _schedule(local: Int, period: int, folds: int, length: int) -> tuple[Int, Int, Int]:
    """Which fold a PE is in at its local time, at which step of it, and whether that is work."""
    fold, step = np.divmod(local, period)
    return fold, step, (local >= 0) & (fold < folds) & (step < length)


def _feed(fold: Int, step: Int, enabled: Int, element: Callable[[int, int, int], Any]) -> Int:
    """What enters an edge this cycle: `element(fold, step, lane)` where enabled, else 0."""
    lanes = enumerate(zip(fold, step, enabled, strict=True))
    return np.array([element(f, i, lane) if on else 0 for lane, (f, i, on) in lanes], np.int32)


def _chosen(folds: list[tuple[int, int]], only: int | None) -> list[tuple[int, int]]:
    """Return all folds of a stream, or `only` one; none if there are not so many."""
    return folds if only is None else folds[only : only + 1]


def _start(rows: int, cols: int, registers: int) -> tuple[Int, list[Int]]:
    """Return the local time of every PE in cycle 0, and its registers, cleared."""
    local = -np.add.outer(np.arange(rows), np.arange(cols))
    return local, [np.zeros((rows, cols), np.int32) for _ in range(registers)]


def _weight_stationary(
    a: Int, b: Int, rows: int, cols: int, only: int | None, watch: Watch
) -> tuple[Int, int]:
    """Rows hold K, columns N, and the M rows of a stream through; partial sums flow down.

    Steps every fold in a stream, or `only` one, until its last result is latched.
    """
    time = a.shape[0]
    streams, weights = _tiles(a, time, rows)[0], _tiles(b, rows, cols)
    folds = _chosen(
        [(k, n) for n in range(weights.shape[1]) for k in range(weights.shape[0])], only
    )
    period = max(time, rows) if only is None else ALONE
    local, (shadow, link, held, west, south) = _start(rows, cols, 5)
    out = np.zeros((weights.shape[1], time, cols), np.int32)
    left, last, cycle = len(folds) * time * cols, -1, 0
    while left:
        fold, at, loads = _schedule(local + cycle, period, len(folds), rows)
        run, row, works = _schedule(local + cycle - rows, period, len(folds), time)
        held = np.where(works & (row == 0), shadow, held)
        top = _feed(fold[0], at[0], loads[0], lambda f, i, c: weights[*folds[f]][rows - 1 - i, c])
        above = _shifted(link, top, 0)
        link, shadow = np.where(loads, shadow, link), np.where(loads, above, shadow)
        edge = _feed(run[:, 0], row[:, 0], works[:, 0], lambda f, i, r: streams[folds[f][0]][i, r])
        west = _shifted(west, edge, 1)
        south = _shifted(south, np.zeros(cols, np.int32), 0) + west * held
        watch(cycle, loads, works, works[-1])
        for c in np.flatnonzero(works[-1]):
            out[folds[run[-1, c]][1], row[-1, c], c] += south[-1, c]
            left, last = left - 1, cycle
        cycle += 1
    return out.swapaxes(0, 1).reshape(time, -1)[:, : b.shape[1]], last + 1


def _output_stationary(
    a: Int, b: Int, rows: int, cols: int, only: int | None, watch: Watch
) -> tuple[Int, int]:
    """Rows hold M, columns N, and K streams through; finished sums shift out below.

    Steps every fold in a stream, or `only` one, until its last result is latched.
    """
    time = a.shape[1]
    lefts, tops = _tiles(a, rows, time)[:, 0], _tiles(b, time, cols)[0]
    folds = _chosen([(m, n) for n in range(len(tops)) for m in range(len(lefts))], only)
    period = max(time, rows) if only is None else ALONE
    wait = period if only is None else time  # from a fold's first operand to its drain
    local, (acc, done, link, west, north) = _start(rows, cols, 5)
    out = np.zeros((len(lefts), rows, len(tops), cols), np.int32)
    left, last, cycle = len(folds) * rows * cols, -1, 0
    while left:
        fold, k, works = _schedule(local + cycle, period, len(folds), time)
        ready, step, drains = _schedule(local + cycle - wait, period, len(folds), rows)
        done = np.where(drains & (step == 0), acc, done)
        above = _shifted(link, np.zeros(cols, np.int32), 0)
        link, done = np.where(drains, done, link), np.where(drains, above, done)
        edge = _feed(fold[:, 0], k[:, 0], works[:, 0], lambda f, i, r: lefts[folds[f][0]][r, i])
        top = _feed(fold[0], k[0], works[0], lambda f, i, c: tops[folds[f][1]][i, c])
        west, north = _shifted(west, edge, 1), _shifted(north, top, 0)
        acc = np.where(works, np.where(k == 0, 0, acc) + west * north, acc)
        watch(cycle, drains, works, drains[-1])
        for c in np.flatnonzero(drains[-1]):
            m, n = folds[ready[-1, c]]
            out[m, rows - 1 - step[-1, c], n, c] = link[-1, c]
            left, last = left - 1, cycle
        cycle += 1
    return out.reshape(-1, len(tops) * cols)[: a.shape[0], : b.shape[1]], last + 1
