"""BERT-Base as Kim et al. 2023 (arXiv 2302.14017) count it and ran it on a Gemmini.

Table 3: operations and intensity at 8 bits, each operand moved once. Figure 13: how much of a
16 x 16 weight-stationary array its matrix products use, over splits of scratchpad and accumulator.
"""

from __future__ import annotations

from refvit.accel.machine import Machine
from refvit.accel.published import gemm_layer
from refvit.accel.roofline import group_dot
from refvit.accel.simulate import simulate_layers
from refvit.accel.systolic import utilization
from refvit.accel.widths import site_widths
from refvit.accel.workload import Layer

# Length, then 1e9 operations and operations a byte of projections, attention products and
# feed-forward layers.
KIM = (
    (128, (7.25, 192.00), (0.60, 63.62), (14.50, 211.86)),
    (512, (28.99, 438.86), (9.62, 101.95), (57.98, 558.54)),
    (4096, (231.93, 702.17), (616.02, 123.63), (463.86, 1068.52)),
)
KIM_USED = (66, 91)  # per cent of the array, least and most of the splits they tried
BERT_WIDTH, BERT_HIDDEN, BERT_HEADS, BERT_LAYERS = 768, 3072, 12, 12
HEAD = BERT_WIDTH // BERT_HEADS


def kim_row(length: int) -> tuple[tuple[float, float], ...]:
    """Return what `KIM` has for that length: (1e9 operations, operations a byte), three times.

    The paper counts K - 1 additions for the K products of the attention products alone.

    >>> [(round(ops, 2), round(intensity, 2)) for ops, intensity in kim_row(128)]
    [(7.25, 192.0), (0.6, 63.62), (14.5, 211.86)]
    """
    square = [gemm_layer(length, BERT_WIDTH, BERT_WIDTH)] * 4
    wide = [
        gemm_layer(length, BERT_WIDTH, BERT_HIDDEN),
        gemm_layer(length, BERT_HIDDEN, BERT_WIDTH),
    ]
    scores = gemm_layer(length, HEAD, length, BERT_HEADS, weights=False)
    context = gemm_layer(length, length, HEAD, BERT_HEADS, weights=False)
    spared = scores.elements + context.elements  # an addition less for each result
    return tuple(
        _sum(layers, less) for layers, less in ((square, 0), ([scores, context], spared), (wide, 0))
    )


def _sum(layers: list[Layer], less: int) -> tuple[float, float]:
    """Operations in 1e9 of all of BERT's blocks, and operations a byte, at 8 bits."""
    dots = [group_dot([layer], 8, 1.0, 1.0) for layer in layers]
    ops = sum(dot.ops for dot in dots) - less
    return BERT_LAYERS * ops / 1e9, ops / sum(dot.bytes for dot in dots)


def bert_block(length: int) -> list[Layer]:
    """Return one encoder block of BERT-Base as layers, each GEMM by itself.

    >>> sum(layer.macs for layer in bert_block(512)) * BERT_LAYERS
    48318382080
    """
    n, wide, hidden, many = length, BERT_WIDTH, BERT_HIDDEN, BERT_HEADS

    def other(name: str, op: str, rows: int, cols: int, *reads: str) -> Layer:
        size = rows * cols
        inputs = (size,) * len(reads)
        return Layer(name, op, "block", size, rows, inputs, reads=reads, writes=((name, size),))

    return [
        *(gemm_layer(n, wide, wide, name=name, reads=("x",)) for name in "qkv"),
        gemm_layer(n, HEAD, n, many, False, "scores", ("q", "k")),
        other("softmax", "softmax", many * n, n, "scores"),
        gemm_layer(n, n, HEAD, many, False, "context", ("softmax", "v")),
        gemm_layer(n, wide, wide, name="proj", reads=("context",)),
        other("add1", "add", n, wide, "x", "proj"),
        other("norm1", "layer_norm", n, wide, "add1"),
        gemm_layer(n, wide, hidden, name="fc1", reads=("norm1",)),
        other("act", "gelu", n, hidden, "fc1"),
        gemm_layer(n, hidden, wide, name="fc2", reads=("act",)),
        other("add2", "add", n, wide, "norm1", "fc2"),
        other("norm2", "layer_norm", n, wide, "add2"),
    ]


def bert_utilization(machine: Machine, length: int = 512) -> float:
    """Return the share of the array that the matrix products of a block use while they last, their
    loads and stores among it: MACs / (cycles x PEs), in (0, 1]."""
    layers = bert_block(length)
    rows = [row for row in simulate_layers(layers, machine, site_widths(layers, 8)) if row.macs]
    macs, cycles = (sum(getattr(row, key) for row in rows) for key in ("macs", "cycles"))
    return utilization(macs, cycles, machine.rows, machine.cols)
