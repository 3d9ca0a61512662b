"""The roofline of a model on a machine (Williams et al. 2009): which layers memory must bound.

Conventions: an operation is half a MAC; softmax takes 5 an element, LayerNorm 7, GELU 8, an
addition and a mean 1; every operand is read once and every result written once, at `bits`, nothing
fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refvit.accel.machine import Machine
from refvit.accel.machine import machine as find_machine
from refvit.accel.workload import Layer, workload

OPS_PER_ELEMENT = {"softmax": 5, "layer_norm": 7, "gelu": 8, "add": 1, "mean": 1}


@dataclass(frozen=True)
class Dot:
    """One layer: operations, bytes, operations a byte, and operations a cycle it can reach."""

    name: str
    op: str
    ops: int
    bytes: float
    intensity: float
    attainable: float
    bound: str


@dataclass(frozen=True)
class Roofline:
    """`peak` operations a cycle, `ridge` operations a byte, and a dot for every layer."""

    machine: Machine
    bits: int
    peak: float
    ridge: float
    rows: tuple[Dot, ...]

    @property
    def intensity(self) -> float:
        """Operations a byte of the whole model."""
        return sum(row.ops for row in self.rows) / sum(row.bytes for row in self.rows)


def roofline(
    config: Any, machine: str | Machine = "edge32", bits: int = 8, batch: int = 1
) -> Roofline:
    """Return the roofline of the model `config` describes; ValueError for an unknown machine,
    or codes of no or more than 32 bits.

    >>> from refvit.models import VARIANTS
    >>> round(roofline(VARIANTS["vit_base"]).ridge)
    256
    """
    hardware = find_machine(machine)
    if not 1 <= bits <= 32:
        raise ValueError(f"codes of {bits} bits; give 1 to 32, as in bits=8")
    peak = 2.0 * hardware.rows * hardware.cols
    ridge = peak / hardware.dram_bytes_per_cycle
    layers = workload(config, batch)
    dots = tuple(dot(layer, bits, peak, hardware.dram_bytes_per_cycle) for layer in layers)
    return Roofline(hardware, bits, peak, ridge, dots)


def dot(layer: Layer, bits: int, peak: float, bandwidth: float) -> Dot:
    """Return one layer's place under the roof."""
    ops = 2 * layer.macs if layer.M else layer.work * OPS_PER_ELEMENT[layer.op]
    weights = layer.K * layer.N if layer.weights else 0
    moved = (sum(layer.inputs) + weights + layer.elements) * bits / 8
    reach = min(peak, ops / moved * bandwidth)
    bound = "compute" if reach == peak else "memory"
    return Dot(layer.name, layer.op, ops, moved, ops / moved, reach, bound)
