"""Figures that papers print, and the machines and layers that answer them here.

Kim et al. 2023 (arXiv 2302.14017), table 3: BERT-Base at 8 bits, each operand moved once.
Huang et al. 2023 (TCAS-I, doi 10.1109/TCSI.2023.3312775): a group-vector array on a ZCU102.
ZigZag 3.9.1 (Mei et al. 2021): its tpu_like machine, whose figures are in `records.py`.
"""

from __future__ import annotations

from typing import Any

from refvit.accel.gemm import Operands, gemm_cost
from refvit.accel.machine import Machine
from refvit.accel.roofline import group_dot
from refvit.accel.simulate import simulate
from refvit.accel.systolic import folds, mapping
from refvit.accel.workload import Layer

KB = 1024

# Length, then 1e9 operations and operations a byte of projections, attention products and
# feed-forward layers.
KIM = (
    (128, (7.25, 192.00), (0.60, 63.62), (14.50, 211.86)),
    (512, (28.99, 438.86), (9.62, 101.95), (57.98, 558.54)),
    (4096, (231.93, 702.17), (616.02, 123.63), (463.86, 1068.52)),
)
BERT_WIDTH, BERT_HIDDEN, BERT_HEADS, BERT_LAYERS = 768, 3072, 12, 12

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


def gemm_layer(M: int, K: int, N: int, count: int = 1, weights: bool = True) -> Layer:
    """Return a layer that is `count` equal GEMMs and nothing else."""
    inputs = (M * K * count,) if weights else (M * K * count, K * N * count)
    return Layer("gemm", "linear", "gemm", M * N * count, M, inputs, M, K, N, count, weights)


def kim_row(length: int) -> tuple[tuple[float, float], ...]:
    """Return what `KIM` has for that length: (1e9 operations, operations a byte), three times.

    The paper counts K - 1 additions for the K products of the attention products alone.

    >>> [(round(ops, 2), round(intensity, 2)) for ops, intensity in kim_row(128)]
    [(7.25, 192.0), (0.6, 63.62), (14.5, 211.86)]
    """
    head = BERT_WIDTH // BERT_HEADS
    square = [gemm_layer(length, BERT_WIDTH, BERT_WIDTH)] * 4
    wide = [
        gemm_layer(length, BERT_WIDTH, BERT_HIDDEN),
        gemm_layer(length, BERT_HIDDEN, BERT_WIDTH),
    ]
    scores = gemm_layer(length, head, length, BERT_HEADS, weights=False)
    context = gemm_layer(length, length, head, BERT_HEADS, weights=False)
    spared = scores.elements + context.elements  # an addition less for each result
    return tuple(
        _sum(layers, less) for layers, less in ((square, 0), ([scores, context], spared), (wide, 0))
    )


def _sum(layers: list[Layer], less: int) -> tuple[float, float]:
    """Operations in 1e9 of all of BERT's blocks, and operations a byte, at 8 bits."""
    dots = [group_dot([layer], 8, 1.0, 1.0) for layer in layers]
    ops = sum(dot.ops for dot in dots) - less
    return BERT_LAYERS * ops / 1e9, ops / sum(dot.bytes for dot in dots)


def ideal_cycles(M: int, K: int, N: int, machine: Machine) -> int:
    """Return the cycles of a GEMM's folds alone, without fill and drain: F T.

    >>> ideal_cycles(197, 64, 197, ZIGZAG)
    2758
    """
    time = mapping(M, K, N, machine.dataflow)[2]
    return int(folds(M, K, N, machine.rows, machine.cols, machine.dataflow) * time)


def total_cycles(M: int, K: int, N: int, machine: Machine) -> int:
    """Return the cycles of one GEMM of int8 codes, from its first load to its last store."""
    return gemm_cost(gemm_layer(M, K, N), machine, Operands(8, 8, 8)).timing.cycles


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
