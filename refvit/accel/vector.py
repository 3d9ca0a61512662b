"""The vector unit: softmax, LayerNorm, GELU and residual sums, `lanes` elements a cycle.

An operator reads its data in passes: softmax 3 (maximum; exponential and sum; scale), LayerNorm 3
(mean, variance, normalise), GELU, addition and the mean over tokens 1. Requantization and GELU sit
between accumulator and buffer, so they cost only what their stream takes longer than the GEMM that
feeds it.
"""

from __future__ import annotations

from refvit.accel.systolic import ceil_div
from refvit.accel.workload import Layer

PASSES = {"softmax": 3, "layer_norm": 3, "gelu": 1, "add": 1, "mean": 1}
FUSED = ("gelu",)
ROW_CYCLES = 2  # to start a row's reduction and to hand its result on
REDUCTIONS = ("softmax", "layer_norm")


def vector_cycles(layer: Layer, lanes: int, gemm_cycles: float = 0.0) -> float:
    """Return the cycles of a vector layer; a fused one streams behind a GEMM of `gemm_cycles`.

    >>> norm = Layer("n", "layer_norm", "n", elements=640, rows=10, inputs=(640,))
    >>> vector_cycles(norm, lanes=32)
    80
    """
    cycles = ceil_div(layer.work, lanes) * PASSES[layer.op]
    if layer.op in REDUCTIONS:
        cycles += layer.rows * ROW_CYCLES
    return max(0.0, cycles - gemm_cycles) if layer.op in FUSED else cycles


def requantize_cycles(elements: int, lanes: int, gemm_cycles: float) -> float:
    """Return the cycles by which requantizing a GEMM's results outlasts the GEMM: 0 if hidden.

    >>> requantize_cycles(640, 32, 100), requantize_cycles(640, 4, 100)
    (0, 60)
    """
    return max(0, ceil_div(elements, lanes) - gemm_cycles)


def vector_ops(layer: Layer) -> int:
    """Return the 32-bit operations of a vector layer: elements times passes."""
    return layer.work * PASSES[layer.op]
