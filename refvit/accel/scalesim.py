"""What SCALE-Sim 3 counts beyond cycles, for comparison with its runs and for nothing else.

It reads an operand from DRAM once if the active half of its SRAM holds it whole, and else again
for every pass over it: a cliff at that size, and no tiling that would soften it. refvit's own
traffic is in `memory.py`.
"""

from __future__ import annotations

from refvit.accel.systolic import ceil_div, mapping


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
