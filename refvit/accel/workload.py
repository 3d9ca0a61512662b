"""The workload: what a model asks of an accelerator, as a flat list of layers.

It is read off the records of `ShapeOps`, so it exists without weights. Linears that read the same
input are one GEMM with their columns side by side, as hardware runs q, k and v. Shapes only move,
so `rearrange` and `select` are not layers; the class token and the positions lie in memory where
they are wanted, so `param` and `concat` cost nothing here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from refvit.models import workload_records
from refvit.ops.shape_ops import Record

VECTOR = ("softmax", "layer_norm", "gelu", "add", "mean")


@dataclass(frozen=True)
class Layer:
    """One layer. A GEMM has sizes `M, K, N` and is run `count` times; `weights` says whether its
    B comes from memory as parameters. A vector layer has `elements` in `rows` rows. `inputs` are
    the sizes of the activations read, in elements.
    """

    name: str
    op: str
    group: str
    elements: int
    rows: int
    inputs: tuple[int, ...]
    M: int = 0
    K: int = 0
    N: int = 0
    count: int = 1
    weights: bool = False

    @property
    def macs(self) -> int:
        return self.M * self.K * self.N * self.count

    @property
    def work(self) -> int:
        """Elements that a vector layer computes on: what a mean reads, what the others write."""
        return self.inputs[0] if self.op == "mean" else self.elements


def workload(config: Any, batch: int = 1) -> list[Layer]:
    """Return the layers of one forward of the model `config` describes, in order.

    `config` is a configuration or a model that has one. Raises ValueError for anything else, and
    for a batch below 1.

    >>> from refvit.models import VARIANTS
    >>> [layer.name for layer in workload(VARIANTS["deit_tiny"])][:4]
    ['patch_embed', 'embed', 'blocks.0.norm1', 'blocks.0.attn.qkv']
    """
    if batch < 1:
        raise ValueError(f"a batch has at least one image; got {batch}")
    config = getattr(config, "config", config)
    if not hasattr(config, "channels"):
        raise ValueError(f"wanted a model or its configuration, got {config!r}; see VARIANTS")
    layers: list[Layer] = []
    shared: list[Record] = []
    for record in [*workload_records(config, batch), None]:
        if shared and (record is None or not _same_input(shared[-1], record)):
            layers.append(_linear(shared))
            shared = []
        if record is not None and record.op == "linear":
            shared.append(record)
        elif record is not None and (record.op == "matmul" or record.op in VECTOR):
            layers.append(_layer(record))
    return layers


def _same_input(a: Record, b: Record) -> bool:
    """Siblings of one module that read the same tokens: q, k and v, but not two heads."""
    stem = a.site.rpartition(".")[0]
    alike = b.op == "linear" and a.inputs == b.inputs and a.shapes == b.shapes
    return alike and stem != "" and stem == b.site.rpartition(".")[0]


def group_of(site: str) -> str:
    """Return the block a site belongs to: `blocks.3`, or the site's own first name.

    >>> group_of("blocks.3.attn.q"), group_of("head")
    ('blocks.3', 'head')
    """
    parts = site.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def _linear(records: list[Record]) -> Layer:
    first = records[0]
    assert first.gemm is not None
    rows, inner, _ = first.gemm
    cols = sum(r.shape[-1] for r in records)
    stem, _, last = first.site.rpartition(".")
    name = first.site if len(records) == 1 else f"{stem}.{last}{''.join(map(_last, records[1:]))}"
    return Layer(
        name,
        "linear",
        group_of(first.site),
        rows * cols,
        rows,
        (rows * inner,),
        rows,
        inner,
        cols,
        1,
        True,
    )


def _last(record: Record) -> str:
    return record.site.rpartition(".")[2]


def _layer(record: Record) -> Layer:
    elements = math.prod(record.shape)
    inputs = tuple(math.prod(shape) for shape in record.shapes)
    rows = elements // record.shape[-1]
    M, K, N = record.gemm or (0, 0, 0)
    group = group_of(record.site)
    return Layer(record.site, record.op, group, elements, rows, inputs, M, K, N, record.count)
