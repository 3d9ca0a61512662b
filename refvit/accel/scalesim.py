"""What SCALE-Sim 3 counts beyond cycles, for comparison with its runs and for nothing else.

Some of it counts too much or too little, and is here as it is reported: the cycles are the index
of the last one, the compute utilization of ws and is has C in it twice, output-stationary writes
have R + C a fold too many (its issue 166), and DRAM writes a line that is not full.

It reads an operand from DRAM once if the active half of its SRAM holds it whole, and else again
for every pass over it: a cliff at that size, and no tiling that would soften it. refvit's own
traffic is in `memory.py`.
"""

from __future__ import annotations

from refvit.accel.systolic import (
    ceil_div,
    folds,
    gemm_cycles,
    mapping,
    mapping_efficiency,
    sram_outputs,
)


def reported_cycles(cycles: int) -> int:
    """Return "Total Cycles": the index, from 0, of the last one (its issues 60 and 125)."""
    return cycles - 1


def overall_utilization_pct(macs: int, cycles: int, rows: int, cols: int) -> float:
    """Return 100 MACs / (cycles R C), above 100 where `cycles` are those reported.

    >>> round(overall_utilization_pct(49 * 49 * 32, reported_cycles(222), 32, 32), 6)
    33.950792
    """
    return 100 * macs / (cycles * rows * cols)


def compute_utilization_pct(M: int, K: int, N: int, rows: int, cols: int, dataflow: str) -> float:
    """Return the mapping efficiency times T / (cycles a fold, with ws and is C - 1 once more).

    >>> round(compute_utilization_pct(49, 32, 49, 32, 32, "is"), 6)
    21.560704
    """
    array = (rows, cols, dataflow)
    fold = gemm_cycles(M, K, N, *array, compat="scalesim") // folds(M, K, N, *array)
    twice = 0 if dataflow == "os" else cols - 1
    share = float(mapping(M, K, N, dataflow)[2] / (fold + twice))
    return 100 * mapping_efficiency(M, K, N, *array) * share


def sram_writes(M: int, K: int, N: int, rows: int, cols: int, dataflow: str) -> int:
    """Return the output writes it reports: M N ceil(K / R) for ws and is, M N + F (R + C) for os.

    >>> sram_writes(49, 49, 32, 32, 32, "os")
    1696
    """
    more = folds(M, K, N, rows, cols, dataflow) * (rows + cols) if dataflow == "os" else 0
    return sram_outputs(M, K, N, rows, dataflow)[0] + more


def dram_writes(
    M: int, K: int, N: int, rows: int, cols: int, dataflow: str, sram_o_bytes: int
) -> int:
    """Return the words it writes to DRAM, of one byte: every output, and C - 1 where a line is not
    full.

    Outputs leave in lines of C, half of the SRAM at a time. The first drain begins at the word
    after that half, whose line is closed as it is and counted as full by the drain that follows,
    unless that word is the last. A half that is no whole number of lines keeps that line at the
    end of a drain, where it is counted as it is (its `write_buffer.py`).

    >>> dram_writes(49, 49, 32, 32, 32, "os", 256 * 1024)
    1568
    >>> dram_writes(197, 192, 192, 32, 32, "ws", 256 * 1024) - 197 * 192 * 6
    31
    """
    words, half = sram_outputs(M, K, N, rows, dataflow)[0], sram_o_bytes // 2
    return words + (cols - 1 if words > half + 1 and half % cols == 0 else 0)


def active_half(sram_bytes: int) -> int:
    """Return the words of one byte that SCALE-Sim keeps active: 50 floor(bytes / 100).

    >>> active_half(256 * 1024)
    131050
    """
    return 50 * (sram_bytes // 100)


def dram_reads(
    M: int,
    K: int,
    N: int,
    cols: int,
    dataflow: str,
    sram_a_bytes: int,
    sram_b_bytes: int,
) -> tuple[int, int | None]:
    """Return the words of A and B that SCALE-Sim reads from DRAM with bandwidth to spare.

    B of output-stationary runs is None: it lies between once and ceil(M / R) times, by no rule.
    Raises ValueError for an unknown dataflow.

    >>> dram_reads(197, 768, 2304, 32, "ws", 256 * 1024, 256 * 1024)
    (10893312, 1769472)
    """
    mapping(M, K, N, dataflow)
    a, b = M * K, K * N
    passes_a = 1 if dataflow == "is" or a <= active_half(sram_a_bytes) else ceil_div(N, cols)
    if dataflow == "os":
        return a * passes_a, None
    once = dataflow == "ws" or b <= active_half(sram_b_bytes)
    return a * passes_a, b * (1 if once else ceil_div(M, cols))
