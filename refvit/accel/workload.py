"""The workload: what a model asks of an accelerator, as a flat list of layers.

It is read off the records of `ShapeOps`, so it exists without weights. Linears that read the same
input are one GEMM with their columns side by side, as hardware runs q, k and v. Shapes only move,
so `rearrange` and `select` are not layers; the class token and the positions lie in memory where
they are wanted, so `param` and `concat` cost nothing here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Integral
from pathlib import PurePath
from typing import Any

from refvit.models import VARIANTS, workload_records
from refvit.ops.shape_ops import Record

Sources = dict[str, list[tuple[str, int]]]
MOST_IMAGES = 16_384  # of a batch: with these, cycles of any array fit 64 bits
VECTOR = ("softmax", "layer_norm", "gelu", "add", "mean")


@dataclass(frozen=True)
class Layer:
    """One layer. A GEMM has sizes `M, K, N` and is run `count` times; `weights` says whether its
    B comes from memory as parameters. A vector layer has `elements` in `rows` rows. `inputs` are
    the sizes of the activations read, in elements, and `reads` their sites: those of the layer
    that wrote them, or of a parameter. `writes` are the sites it writes and their elements;
    `leaves` says that its result is the model's.
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
    reads: tuple[str, ...] = ()
    writes: tuple[tuple[str, int], ...] = ()
    leaves: bool = False

    @property
    def macs(self) -> int:
        return self.M * self.K * self.N * self.count

    @property
    def work(self) -> int:
        """Elements that a vector layer computes on: what a mean reads, what the others write."""
        return sum(self.inputs) if self.op == "mean" else self.elements


def variant(config: Any) -> Any:
    """Return the configuration of a variant by its name, of a model that has one, or as it is.

    Raises ValueError that lists the variants for another name.

    >>> variant("deit_tiny").width, variant(VARIANTS["deit_tiny"]).width
    (192, 192)
    """
    if isinstance(config, str):
        if config not in VARIANTS:
            listed = f"there are {', '.join(VARIANTS)}"
            raise ValueError(f"no variant {config!r}; {listed}; refvit.load reads files")
        return VARIANTS[config]
    return getattr(config, "config", config)


def name_of(config: Any) -> str:
    """Return what a model is called: a variant as it was named, a model as its file, and a
    configuration as the variants that have it; "" if there is none.

    >>> name_of("deit_tiny"), name_of(VARIANTS["nano_vit"]), name_of(VARIANTS["deit_tiny"])
    ('deit_tiny', 'nano_vit', 'vit_tiny or deit_tiny')
    """
    if isinstance(config, str):
        return config
    source = getattr(getattr(config, "model", config), "source", "")
    if source and not str(source).startswith("random,"):  # as `refvit.random` says
        return PurePath(str(source)).name.removesuffix(".safetensors")
    return _variants(variant(config))


@lru_cache(maxsize=64)
def _variants(config: Any) -> str:
    return " or ".join(name for name, known in VARIANTS.items() if known == config)


def workload(config: Any, batch: int = 1) -> list[Layer]:
    """Return the layers of one forward of the model `config` describes, in order.

    `config` is a configuration, a model that has one, or the name of a variant. Raises ValueError
    for anything else, and for a batch below 1.

    >>> from refvit.models import VARIANTS
    >>> [layer.name for layer in workload(VARIANTS["deit_tiny"])][:4]
    ['patch_embed', 'embed', 'blocks.0.norm1', 'blocks.0.attn.qkv']
    """
    whole = isinstance(batch, Integral) and not isinstance(batch, bool)
    if not whole or not 1 <= batch <= MOST_IMAGES:
        few = f"a batch has at least one image and at most {MOST_IMAGES:,}"
        raise ValueError(f"{few}; got {batch!r}")
    config = variant(config)
    if not hasattr(config, "channels"):
        raise ValueError(f"wanted a model or its configuration, got {config!r}; see VARIANTS")
    return list(layers_of(config, batch))


@lru_cache(maxsize=64)
def layers_of(config: Any, batch: int) -> tuple[Layer, ...]:
    """Return the same of a configuration, kept: a sweep over machines asks for it each time."""
    layers: list[Layer] = []
    shared: list[Record] = []
    records = workload_records(config, batch)
    sources = _sources(records)
    for record in [*records, None]:
        if shared and (record is None or not _same_input(shared[-1], record)):
            layers.append(_linear(shared, sources))
            shared = []
        if record is not None and record.op == "linear":
            shared.append(record)
        elif record is not None and (record.op == "matmul" or record.op in VECTOR):
            layers.append(_layer(record, sources))
    results = {site for r in records if r.op == "output" for site in r.inputs}
    return tuple(
        replace(x, leaves=True) if results & {site for site, _ in x.writes} else x for x in layers
    )


def _sources(records: list[Record]) -> Sources:
    """Return what each `concat` joins: the site and the elements of every part."""
    return {
        record.site: [
            (site, math.prod(shape))
            for site, shape in zip(record.inputs, record.shapes, strict=True)
        ]
        for record in records
        if record.op == "concat"
    }


def _reads(record: Record, sources: Sources) -> tuple[tuple[str, int], ...]:
    """Return the site and the elements of everything a record reads, joins taken apart."""
    pairs = zip(record.inputs, record.shapes, strict=True)
    return tuple(
        part for site, shape in pairs for part in sources.get(site, [(site, math.prod(shape))])
    )


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


def _linear(records: list[Record], sources: Sources) -> Layer:
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
        first.inputs,
        tuple((r.site, math.prod(r.shape)) for r in records),
    )


def _last(record: Record) -> str:
    return record.site.rpartition(".")[2]


def _layer(record: Record, sources: Sources) -> Layer:
    elements = math.prod(record.shape)
    reads = _reads(record, sources)
    inputs = tuple(size for _, size in reads)
    rows = elements // record.shape[-1]
    M, K, N = record.gemm or (0, 0, 0)
    group = group_of(record.site)
    sites, writes = tuple(site for site, _ in reads), ((record.site, elements),)
    sizes = (M, K, N, record.count)
    return Layer(
        record.site, record.op, group, elements, rows, inputs, *sizes, False, sites, writes
    )
