"""Compute cycles of a GEMM on an R x C systolic array, in closed form.

A is M x K (activations), B is K x N (weights). A *fold* is one pass of the array over a tile:

    dataflow   rows   columns   time T   folds F
    os         M      N         K        ceil(M/R) ceil(N/C)
    ws         K      N         M        ceil(K/R) ceil(N/C)
    is         K      M         N        ceil(K/R) ceil(M/C)

Without overlap a fold costs its fill, stream and drain, 2R + C + T - 2 cycles; edge folds cost as
much as full ones. The forms equal a SystemVerilog array clock by clock and, with
`compat="scalesim"`, the demand matrices of SCALE-Sim 3 (Samajdar et al. 2018), whose
output-stationary folds drain for free: R + C + T - 2.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

DATAFLOWS = ("os", "ws", "is")


def mapping(M: Any, K: Any, N: Any, dataflow: str) -> tuple[Any, Any, Any]:
    """Return the sizes, numbers or arrays, that lie along (rows, columns, time) of the array."""
    if dataflow not in DATAFLOWS:
        raise ValueError(f"no dataflow {dataflow!r}; there are {', '.join(DATAFLOWS)}")
    return {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[dataflow]


def ceil_div(a: Any, b: Any) -> Any:
    """Return a / b rounded up, of whole numbers or arrays of them."""
    return -(-a // b)


def require_sizes(**sizes: int) -> tuple[int, ...]:
    """Return the sizes as Python's integers, which do not wrap as NumPy's do.

    Raises ValueError for the first that is not a whole number of at least 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} is a whole number of at least 1; got {size!r}")
    return tuple(int(size) for size in sizes.values())


def gemm_cycles(
    M: int,
    K: int,
    N: int,
    rows: int = 32,
    cols: int = 32,
    dataflow: str = "ws",
    overlap: bool = False,
    compat: str | None = None,
    count: int = 1,
) -> int:
    """Return the cycles of `count` equal GEMMs, one after another, on a rows x cols array.

    `overlap` lets a fold follow the last without a bubble (ping-pong accumulators, shadow weights):
    all folds of all GEMMs are then one stream with one fill and one drain. `compat="scalesim"`
    counts as SCALE-Sim does. Raises ValueError for sizes below 1, an unknown dataflow or compat,
    or overlap under `compat`, which SCALE-Sim does not have.

    >>> gemm_cycles(197, 192, 576), gemm_cycles(197, 192, 576, overlap=True)
    (31428, 21370)
    >>> gemm_cycles(49, 49, 32, dataflow="os", compat="scalesim")
    222
    """
    M, K, N, rows, cols, count = require_sizes(M=M, K=K, N=N, rows=rows, cols=cols, count=count)
    if compat not in (None, "scalesim"):
        raise ValueError(f"no compat {compat!r}; there is 'scalesim'")
    if compat and overlap:
        raise ValueError("SCALE-Sim does not overlap folds; ask for overlap=False with it")
    _, _, time = mapping(M, K, N, dataflow)
    each = int(fold_cycles(time, rows, cols, overlap))
    if compat and dataflow == "os":
        each -= rows  # its sums drain for free
    passes = folds(M, K, N, rows, cols, dataflow) * count
    return int(passes * each + fill_and_drain(time, rows, cols, dataflow, overlap))


def folds(M: Any, K: Any, N: Any, rows: int, cols: int, dataflow: str) -> Any:
    """Return how many tiles of the array GEMMs have across its rows and columns: F.

    >>> folds(197, 192, 576, 32, 32, "ws")
    108
    """
    along_rows, along_cols, _ = mapping(M, K, N, dataflow)
    return ceil_div(along_rows, rows) * ceil_div(along_cols, cols)


def fold_cycles(time: Any, rows: int, cols: int, overlap: bool) -> Any:
    """Return the cycles from one fold to the next, for a number or an array of times.

    Alone a fold fills, streams and drains; where folds overlap the next one follows when this one
    has streamed, but no sooner than its own operands are loaded, a row a cycle.
    """
    return np.maximum(time, rows) if overlap else 2 * rows + cols + time - 2


def fill_and_drain(last: Any, rows: int, cols: int, dataflow: str, overlap: bool) -> Any:
    """Return the cycles that a stream of folds takes beside them: none where each fold has its own,
    else one fill and one drain, of which a last fold of fewer steps than rows hides a part."""
    if not overlap:
        return 0
    edge = 2 * rows + cols - 2
    return edge if dataflow == "os" else edge - np.maximum(rows - last, 0)


def first_result_cycle(
    M: int, K: int, N: int, rows: int, cols: int, dataflow: str = "ws", overlap: bool = False
) -> int:
    """Return the cycle, counted from 0, at whose end the first result is latched below the array.

    ws and is: R to load, then R - 1 down the rows. os: the sums leave when the first fold is done,
    overlapped no sooner than every R cycles. Raises ValueError as `gemm_cycles` does.

    >>> first_result_cycle(18, 16, 15, 6, 2), first_result_cycle(8, 3, 8, 8, 8, "os", overlap=True)
    (11, 15)
    """
    require_sizes(M=M, K=K, N=N, rows=rows, cols=cols)
    _, _, time = mapping(M, K, N, dataflow)
    if dataflow != "os":
        return 2 * rows - 1
    return int(max(time, rows) if overlap else time) + rows - 1


def cut_cycles(
    sizes: tuple[int, int, int],
    piece: Any,
    rows: int,
    cols: int,
    dataflow: str,
    overlap: bool,
    count: int = 1,
) -> Any:
    """Return the cycles of `count` GEMMs (M, K, N) whose time axis is cut into pieces of `piece`
    steps.

    Every fold runs once for each piece, so a cut is paid for: with fill and drain each time where
    folds do not overlap. `piece` may be an array. Uncut, this is `gemm_cycles`.
    """
    time = mapping(*sizes, dataflow)[2]
    piece = np.minimum(piece, time)
    whole, rest = np.divmod(time, piece)
    each = whole * fold_cycles(piece, rows, cols, overlap)
    each += (rest > 0) * fold_cycles(rest, rows, cols, overlap)
    last = np.where(rest > 0, rest, piece)
    edge = fill_and_drain(last, rows, cols, dataflow, overlap)
    return folds(*sizes, rows, cols, dataflow) * count * each + edge


def mapping_efficiency(M: int, K: int, N: int, rows: int, cols: int, dataflow: str) -> float:
    """Return the share of the array that the tiles of a GEMM cover, on average over its folds.

    It lies in (0, 1]. Raises ValueError for sizes below 1 or an unknown dataflow.

    >>> mapping_efficiency(49, 49, 32, 32, 32, "os")
    0.765625
    """
    require_sizes(M=M, K=K, N=N, rows=rows, cols=cols)
    a, b, _ = mapping(M, K, N, dataflow)
    return float(a / (rows * ceil_div(a, rows)) * b / (cols * ceil_div(b, cols)))


def utilization(macs: int, cycles: float, rows: int, cols: int) -> float:
    """Return MACs / (cycles x PEs), in [0, 1]: 0 where no cycle is spent.

    >>> round(utilization(197 * 192 * 576, gemm_cycles(197, 192, 576), 32, 32), 3)
    0.677
    """
    return macs / (cycles * rows * cols) if cycles else 0.0


def sram_reads(M: int, K: int, N: int, rows: int, cols: int, dataflow: str) -> tuple[int, int]:
    """Return the elements of A and of B that the array reads from its SRAMs.

    An operand that stays in the array is read once, one that streams once per fold across it.
    Raises ValueError for sizes below 1 or an unknown dataflow.

    >>> sram_reads(49, 49, 32, 8, 8, "os")
    (9604, 10976)
    """
    require_sizes(M=M, K=K, N=N, rows=rows, cols=cols)
    mapping(M, K, N, dataflow)
    a, b = M * K, K * N
    if dataflow == "os":
        return a * ceil_div(N, cols), b * ceil_div(M, rows)
    if dataflow == "ws":
        return a * ceil_div(N, cols), b
    return a, b * ceil_div(M, cols)


def sram_outputs(M: int, K: int, N: int, rows: int, dataflow: str) -> tuple[int, int]:
    """Return the outputs written to and read back from the accumulator SRAM.

    os writes each output once; ws and is write a partial sum per fold of K, and read it back for
    every fold but the first. Raises ValueError for sizes below 1 or an unknown dataflow.
    """
    require_sizes(M=M, K=K, N=N, rows=rows)
    mapping(M, K, N, dataflow)
    folds = 1 if dataflow == "os" else ceil_div(K, rows)
    return M * N * folds, M * N * (folds - 1)
