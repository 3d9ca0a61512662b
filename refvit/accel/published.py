"""Machines that answer others' figures, and what they take here.

Huang et al. 2023 (TCAS-I, doi 10.1109/TCSI.2023.3312775): a group-vector array on a ZCU102.
ZigZag 3.9.1 (Mei et al. 2021): its tpu_like machine, whose figures are in `records.py`.
Kim et al. 2023 are in `kim.py`.
"""

from __future__ import annotations

from typing import Any

from refvit.accel.machine import Machine
from refvit.accel.simulate import simulate, simulate_layers
from refvit.accel.systolic import folds, mapping
from refvit.accel.widths import site_widths
from refvit.accel.workload import Layer

KB = 1024

# Milliseconds an image, measured on the board.
GROUP_VECTOR_MS = {"deit_tiny": 4.077, "deit_small": 11.15}
# The array multiplies 64 input by 32 output channels a cycle at 300 MHz (the paper's section V, as
# a public summary of it has it): a peak of 2 x 64 x 32 x 0.3 = 1228.8 GOP/s, of which the paper's
# mean of 762.7 is 62 %; that is ViT-S's 11.15 ms with 8.50 GOP an image, 7.5 % fewer than its GEMMs
# have here. Its board has 912 block RAMs of 36 Kb, 4 MB; a 64-bit DDR4-2400 gives 19.2 GB/s, 64
# bytes a cycle. Assumed, as the paper's text was not at hand: weights that stay in the PEs, folds
# that overlap, 1 MB for each buffer, and a vector unit with a lane an output channel.
GROUP_VECTOR = Machine(
    name="group-vector",
    rows=64,
    cols=32,
    dataflow="ws",
    overlap=True,
    clock_mhz=300.0,
    sram_a_bytes=1024 * KB,
    sram_b_bytes=1024 * KB,
    sram_o_bytes=1024 * KB,
    dram_bytes_per_cycle=64.0,
    vector_lanes=32,
    source="Huang et al. 2023, TCAS-I, section V",
)

# 32 x 32 MACs that hold 128 bytes of weights each, 2 MB of SRAM for inputs and outputs, 64 bits a
# cycle from and to DRAM. ZigZag has no fill and drain, so folds overlap.
ZIGZAG = Machine(
    name="zigzag tpu_like",
    rows=32,
    cols=32,
    dataflow="ws",
    overlap=True,
    clock_mhz=1000.0,
    sram_a_bytes=1024 * KB,
    sram_b_bytes=128 * KB,
    sram_o_bytes=1024 * KB,
    dram_bytes_per_cycle=8.0,
    vector_lanes=32,
    source="ZigZag 3.9.1, inputs/hardware/tpu_like.yaml",
)


def gemm_layer(
    M: int,
    K: int,
    N: int,
    count: int = 1,
    weights: bool = True,
    name: str = "gemm",
    reads: tuple[str, ...] = ("a",),
) -> Layer:
    """Return a layer that is `count` equal GEMMs and nothing else."""
    inputs = (M * K * count,) if weights else (M * K * count, K * N * count)
    op, size = "linear" if weights else "matmul", M * N * count
    return Layer(
        name, op, "gemm", size, M * count, inputs, M, K, N, count, weights, reads, ((name, size),)
    )


def ideal_cycles(M: int, K: int, N: int, machine: Machine) -> int:
    """Return the cycles of a GEMM's folds alone, without fill and drain: F T.

    >>> ideal_cycles(197, 64, 197, ZIGZAG)
    2758
    """
    time = mapping(M, K, N, machine.dataflow)[2]
    return int(folds(M, K, N, machine.rows, machine.cols, machine.dataflow) * time)


def simulated_cycles(M: int, K: int, N: int, machine: Machine) -> int:
    """Return the cycles that the simulator gives a GEMM of int8 codes with nothing on chip before
    or after it, from its first load to its last store."""
    layer = gemm_layer(M, K, N)
    (row,) = simulate_layers([layer], machine, site_widths([layer], 8), residency=False)
    return row.cycles


def least_cycles(M: int, K: int, N: int, machine: Machine) -> float:
    """Return the cycles that moving every operand and the result once takes, all of int8.

    >>> least_cycles(197, 64, 197, ZIGZAG)
    8003.125
    """
    return (M * K + K * N + M * N) / machine.dram_bytes_per_cycle


def group_vector_parts(config: Any, machine: Machine = GROUP_VECTOR) -> dict[str, float]:
    """Return where the milliseconds of an image go on the group-vector machine, or one like it.

    `peak` is what its MACs would take at its peak, `array` what fill, drain and part-full tiles
    add, `vector` the vector unit, `memory` what is waited for; `total` is their sum.
    """
    report = simulate(config, machine)
    to_ms = 1e-3 / machine.clock_mhz
    macs = sum(row.macs for row in report.rows)
    peak = macs / (machine.rows * machine.cols) * to_ms
    array = sum(row.compute_cycles for row in report.rows if row.macs) * to_ms
    vector = sum(row.compute_cycles for row in report.rows if not row.macs) * to_ms
    total = float(report.totals["cycles"]) * to_ms
    parts = {"peak": peak, "array": array - peak, "vector": vector}
    return parts | {"memory": total - array - vector, "total": total}
