"""The vector unit: softmax, LayerNorm, GELU and residual sums, `lanes` elements a cycle.

An operator goes over its data in the passes that the machine says; a reduction costs every row two
cycles more (`ROW_CYCLES`, refvit's: one to start it, one to hand its result on). What is fused sits
between accumulator and buffer, so it costs only what its stream takes longer than the GEMM that
feeds it.

The alternative is a host: a core beside the array that takes the operators in floats, one element
after another, as in the first system of Kim et al. 2023. What an element costs is worked out from
their shares of the time at 512 tokens, the only ones they give: that those shares come out again
is a check of arithmetic, and what is said of another length, model or machine is a prediction that
nothing here holds.
"""

from __future__ import annotations

from refvit.accel.hardware import Passes
from refvit.accel.systolic import ceil_div
from refvit.accel.workload import Layer

ROW_CYCLES = 2
REDUCTIONS = ("softmax", "layer_norm")
DEFAULT = Passes()

# Cycles of a host for an element, from Kim et al. 2023 (arXiv 2302.14017), the case study of
# Gemmini: BERT-Base, 512 tokens, on a 16 x 16 array whose products reach 74 %, is 39.6 times as
# slow with these on the CPU as with integer units, where products are 87 % of the time. That is
# 48.3e9 MACs / (256 x 0.74) x 39.6 / 0.87 = 11.6e9 cycles: 49 % to turn 85e6 sums of products into
# codes, 19 % for 37.7e6 softmaxes, 11 % for 9.4e6 residual sums, 10 % for 18.9e6 GELUs, 4 % for
# 9.4e6 LayerNorms. A mean over tokens, which BERT has not, is taken as a LayerNorm. The shares are
# in whole per cents, so nothing here is better than 10 %. Their core and their array have one
# clock of 1 GHz; on other machines these are cycles of the host's, `host_mhz`.
HOST_CYCLES = {
    "requantize": 67,
    "softmax": 58,
    "add": 135,
    "gelu": 61,
    "layer_norm": 49,
    "mean": 49,
}


def vector_cycles(layer: Layer, lanes: int, passes: Passes = DEFAULT) -> int:
    """Return the cycles of a vector layer on its own.

    >>> norm = Layer("n", "layer_norm", "n", elements=640, rows=10, inputs=(640,))
    >>> vector_cycles(norm, lanes=32)
    80
    """
    rows = layer.rows if layer.op in REDUCTIONS else 0
    return int(ceil_div(layer.work, lanes)) * passes_of(layer.op, passes) + rows * ROW_CYCLES


def softmax_behind(cycles: int, gemm_cycles: int, heads: int, busy: int = 0) -> int:
    """Return the cycles by which softmax outlasts the scores, head by head.

    The array makes the scores of one head while the unit works on those before, and is `busy` with
    those that come: with g, s and b cycles a head, g + (h - 1) max(g, s + b) + s in all, of which
    h g are the array's.

    >>> softmax_behind(cycles=30, gemm_cycles=60, heads=3), softmax_behind(60, 30, 3)
    (10, 40)
    """
    longer = max(0, cycles + busy - gemm_cycles)
    return int(ceil_div((heads - 1) * longer + cycles, heads))


def host_cycles(op: str, elements: int) -> int:
    """Return the cycles, of its own clock, a host takes for an operator on that many elements."""
    return HOST_CYCLES[op] * elements


def array_cycles_of_host(cycles: float, clock_mhz: float, host_mhz: float) -> float:
    """Return the cycles of the array's clock that pass in that many of the host's.

    >>> array_cycles_of_host(300, clock_mhz=500.0, host_mhz=1000.0)
    150.0
    """
    return cycles * clock_mhz / host_mhz


def vector_ops(layer: Layer, passes: Passes = DEFAULT) -> int:
    """Return the 32-bit operations of a vector layer: elements times passes."""
    return layer.work * passes_of(layer.op, passes)


def passes_of(op: str, passes: Passes) -> int:
    """Return the passes of one operator."""
    count: int = getattr(passes, op)
    return count
