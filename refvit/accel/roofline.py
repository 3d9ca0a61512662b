"""The roofline of a model on a machine (Williams et al. 2009): which layers memory must bound.

Conventions, those of the figures that the tests hold it to: an operation is half a MAC; softmax
takes 5 an element, LayerNorm 7, GELU 8, an addition and a mean 1; every operand is read once and
every result written once, at the width that the machine stores: the next of its own from `bits` on.
What an accumulator starts from costs nothing: biases are not counted, and neither are the
positions, a bias of the patch embedding. Vector operators have the peak of GEMMs, as in LLM-Viewer
(Yuan et al. 2024): memory bounds them long before.

`fused` keeps on chip what one operator hands to the next, by the rule of `steps_of`: a site that
one layer reads. GELU and the sum with the residual follow their GEMM, and scores, bias, softmax and
context are one operator (Dao et al. 2022). LayerNorm and GEMMs that follow each other still meet in
memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refvit.accel.gpus import GPUS, Gpu, find_gpu
from refvit.accel.machine import MACHINES, Machine
from refvit.accel.machine import machine as find_machine
from refvit.accel.steps import steps_of
from refvit.accel.workload import Layer, name_of, workload

OPS_PER_ELEMENT = {"softmax": 5, "layer_norm": 7, "gelu": 8, "add": 1, "mean": 1}
FOLLOWS = ("gelu", "add", "softmax")  # fused behind the GEMM that makes what they read
ENDLESS = replace(MACHINES["edge32"], accumulator_bytes=2**40)  # a roofline knows no capacity
POSITIONS = "embed"


@dataclass(frozen=True)
class Dot:
    """One layer, or several fused into one: operations, bytes of which `weight_bytes` are
    parameters, operations a byte, operations a cycle it can reach (`attainable`, and in 1e9 a
    second `gops`), the microseconds that takes, and what bounds it: compute or memory."""

    name: str
    op: str
    ops: int
    bytes: float
    intensity: float
    attainable: float
    bound: str
    weight_bytes: float = 0.0
    gops: float = 0.0
    us: float = 0.0


@dataclass(frozen=True)
class Roofline:
    """`peak` operations a cycle, `ridge` operations a byte, and a dot for every layer.

    Codes of `bits` move as `stored_bits`, which are wider where the machine has no such width. A
    GPU's cycle is a nanosecond here, as its clocks are not modelled.
    """

    machine: Machine | Gpu
    bits: int
    peak: float
    ridge: float
    rows: tuple[Dot, ...]
    batch: int = 1
    fused: bool = False
    clock_mhz: float = 1000.0
    stored_bits: int = 0
    model: str = ""

    @property
    def ops(self) -> int:
        """Operations of the whole model."""
        return sum(row.ops for row in self.rows)

    @property
    def bytes(self) -> float:
        """Bytes that the whole model moves (its MOPs)."""
        return sum(row.bytes for row in self.rows)

    @property
    def intensity(self) -> float:
        """Operations a byte of the whole model."""
        return self.ops / self.bytes

    @property
    def attainable(self) -> float:
        """Operations a cycle that the model's intensity allows."""
        return min(self.peak, self.intensity * self.peak / self.ridge)

    @property
    def us(self) -> float:
        """Microseconds with every layer at its own roof: never less than the model at its."""
        return sum(row.us for row in self.rows)

    @property
    def gops(self) -> float:
        """1e9 operations a second with every layer at its own roof."""
        return self.ops / self.us / 1e3

    @property
    def memory_bound(self) -> float:
        """The share of the time spent in layers that memory bounds."""
        return sum(row.us for row in self.rows if row.bound == "memory") / self.us

    def table(self, layers: bool = False) -> str:
        """Return a table for a terminal: a line a kind of layer, or each of the `layers`."""
        from refvit.accel.roof_table import layer_lines, title, width_note

        return "\n".join([title(self), *width_note([self]), "", *layer_lines(self, layers)])

    def to_json(self) -> str:
        """Return machine, totals and every layer, as JSON."""
        from refvit.accel.roof_table import as_json

        return json.dumps(as_json(self), indent=2)

    def to_svg(self) -> str:
        """Return the drawing: the roof, and a dot for every kind of layer."""
        from refvit.accel.roof_chart import draw

        return draw(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()


def roofline(
    config: Any,
    machine: str | Path | Machine | Gpu | Mapping[str, Any] = "edge32",
    bits: int = 8,
    batch: int = 1,
    fused: bool = False,
) -> Roofline:
    """Return the roofline of the model `config` describes, on one of our machines or a GPU.

    A PE makes a MAC a cycle of codes as wide as its multiplier, or takes a cycle a slice; narrower
    ones save it bytes alone, where it stores them. A GPU has a peak for 32, 16, 8 and 4 bits.
    Raises ValueError for an unknown machine, codes of no or more than 32 bits, or others of a GPU.

    >>> from refvit.models import VARIANTS
    >>> round(roofline(VARIANTS["vit_base"]).ridge)
    256
    >>> [round(roofline(VARIANTS["vit_base"], "a100-40g", bits).ridge) for bits in (16, 8)]
    [201, 401]
    """
    if not 1 <= bits <= 32:
        raise ValueError(f"codes of {bits} bits; give 1 to 32, as in bits=8")
    hardware, peak, speed, clock_mhz = limits(machine, bits)
    stored = stored_width(hardware, bits)
    layers = [layer for layer in workload(config, batch) if layer.name != POSITIONS]
    groups = fuse(layers) if fused else [[layer] for layer in layers]
    dots = tuple(group_dot(group, stored, peak, speed, clock_mhz) for group in groups)
    return Roofline(hardware, bits, peak, peak / speed, dots, batch, fused, clock_mhz, stored,
                    name_of(config))  # fmt: skip


def stored_width(hardware: Machine | Gpu, bits: int) -> int:
    """Return the bits that codes of `bits` take on a machine: the next of the widths it stores.

    A width above all that it stores is taken as it is, as is any of a GPU.

    >>> stored_width(MACHINES["eyeriss-like"], 8), stored_width(MACHINES["eyeriss-like"], 32)
    (16, 32)
    """
    if isinstance(hardware, Gpu) or bits > max(hardware.widths):
        return bits
    return hardware.stored_bits(bits)


def limits(
    which: str | Path | Machine | Gpu | Mapping[str, Any], bits: int
) -> tuple[Machine | Gpu, float, float, float]:
    """Return a machine, its operations and its bytes a cycle, and its clock in MHz.

    `which` is a machine, a GPU or the name of one; ValueError lists the names.
    """
    if isinstance(which, str):
        which = find_gpu(which) or which
    if isinstance(which, Gpu):
        return which, which.tops(bits) * 1e3, which.gb_per_second, 1000.0
    try:
        hardware = find_machine(which)
    except ValueError as error:
        raise ValueError(f"{error}, and of GPUs {', '.join(GPUS)}") from None
    stored = stored_width(hardware, bits)
    peak = 2.0 * hardware.rows * hardware.cols / hardware.slices(stored, stored)
    return hardware, peak, hardware.dram_bytes_per_cycle, hardware.clock_mhz


def fuse(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return the layers in groups: in one group, each alone reads what the one before it makes.

    They are the steps of an array with room for all sums, joined into one from scores to context.
    """
    readers = Counter(site for layer in layers for site in layer.reads)
    groups: list[list[Layer]] = []
    for step in steps_of(layers, ENDLESS, FOLLOWS):
        last = groups[-1][-1] if groups else None
        if last is not None and "softmax" in (last.op, step.main.op):
            made = [site for site, _ in last.writes]
            if len(made) == 1 and readers[made[0]] == 1 and made[0] in step.main.reads:
                groups[-1].extend(step.layers)
                continue
        groups.append(list(step.layers))
    return groups


def dot(layer: Layer, bits: int, peak: float, bandwidth: float) -> Dot:
    """Return one layer's place under the roof."""
    return group_dot([layer], bits, peak, bandwidth)


def group_dot(
    group: Sequence[Layer], bits: int, peak: float, bandwidth: float, clock_mhz: float = 1000.0
) -> Dot:
    """Return the place of layers fused into one: what they hand on is not moved."""
    ops = sum(layer_ops(layer) for layer in group)
    weights = sum(layer.K * layer.N for layer in group if layer.weights) * bits / 8
    moved = sum(sum(layer.inputs) + layer.elements for layer in group)
    handed = sum(layer.elements for layer in group[:-1])
    total = weights + (moved - 2 * handed) * bits / 8
    reach = min(peak, ops / total * bandwidth)
    bound = "compute" if reach == peak else "memory"
    name = "+".join([group[0].name, *(layer.name.rpartition(".")[2] for layer in group[1:])])
    return Dot(
        name,
        group[0].op,
        ops,
        total,
        ops / total,
        reach,
        bound,
        weights,
        reach * clock_mhz / 1e3,
        ops / reach / clock_mhz,
    )


def layer_ops(layer: Layer) -> int:
    """Return a layer's operations: two a MAC, or its elements times the convention's constant.

    >>> layer_ops(Layer("n", "layer_norm", "n", elements=640, rows=10, inputs=(640,)))
    4480
    """
    return 2 * layer.macs if layer.M else layer.work * OPS_PER_ELEMENT[layer.op]
