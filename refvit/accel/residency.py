"""Residency: which results stay on chip from the layer that makes them to the last that reads them.

A result stays if, in every step from the first to the last, it fits beside what the step needs
itself and whatever else stays. What a step needs of an SRAM is the whole operand if half of the
SRAM holds it (another one to load the next of several GEMMs), else all of the SRAM: two tiles. A
vector layer streams, in tiles of a quarter. An operand that has stayed is read in its place. The
three SRAMs are banks that any result may lie in, as Gemmini's and the TPU's are; the accumulator
holds nothing that waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refvit.accel.hardware import Machine
from refvit.accel.steps import Bits, Step
from refvit.accel.tiles import PARTIAL_BYTES
from refvit.accel.workload import Layer


@dataclass(frozen=True)
class Tensor:
    """A result: its site, its bytes, the step that makes it and those that read it."""

    site: str
    bytes: float
    born: int
    readers: tuple[int, ...]

    @property
    def dies(self) -> int:
        return self.readers[-1]


def tensors(steps: Sequence[Step], bits: Bits) -> list[Tensor]:
    """Return every result that a later step reads, in order."""
    readers: dict[str, list[int]] = {}
    for at, step in enumerate(steps):
        for site, _ in step.reads:
            readers.setdefault(site, []).append(at)
    return [
        Tensor(site, size * bits(site) / 8, at, tuple(readers[site]))
        for at, step in enumerate(steps)
        for site, size in step.writes
        if site in readers
    ]


def needs(step: Step, hw: Machine, bits: Bits) -> tuple[float, float, float]:
    """Return the bytes of the SRAMs of A, B and the output that a step needs for itself."""
    x, sizes = step.main, (hw.sram_a_bytes, hw.sram_b_bytes, hw.sram_o_bytes)
    wrote = max(bits(site) for site, _ in step.writes) / 8
    if not x.M:
        read = sum(size * bits(site) / 8 for site, size in step.reads)
        return min(read, sizes[0] / 2), 0.0, min(x.elements * wrote, sizes[2] / 2)
    a, b = operand_bits(x, bits)
    out = wrote if hw.accumulator_bytes else PARTIAL_BYTES
    whole = x.M * x.K * a / 8, x.K * x.N * b / 8, x.M * x.N * out
    copies = 1 if x.count == 1 else 2
    need_a, need_b, need_o = (
        copies * part if part <= size / 2 else float(size)
        for part, size in zip(whole, sizes, strict=True)
    )
    return need_a, need_b, need_o


def operand_bits(layer: Layer, bits: Bits) -> tuple[int, int]:
    """Return the widths of a GEMM's operands: weights side by side travel at the widest."""
    if layer.weights:
        return bits(layer.reads[0]), max(bits(f"{site}.weight") for site, _ in layer.writes)
    return bits(layer.reads[0]), bits(layer.reads[1])


def resident(steps: Sequence[Step], hw: Machine, bits: Bits) -> frozenset[str]:
    """Return the sites of the results that stay on chip: those that wait least are kept first."""
    need = [needs(step, hw, bits) for step in steps]
    total = hw.sram_a_bytes + hw.sram_b_bytes + hw.sram_o_bytes
    room = [total - sum(each) for each in need]
    kept = set()
    for tensor in sorted(tensors(steps, bits), key=lambda t: (t.dies - t.born, t.born)):
        span = range(tensor.born, tensor.dies + 1)
        takes = [tensor.bytes - _in_place(tensor, steps[at], need[at], at) for at in span]
        if all(more <= room[at] for at, more in zip(span, takes, strict=True)):
            kept.add(tensor.site)
            for at, more in zip(span, takes, strict=True):
                room[at] -= more
    return frozenset(kept)


def _in_place(tensor: Tensor, step: Step, need: tuple[float, float, float], at: int) -> float:
    """Return the bytes of `tensor` for which the step has room already: its own operand."""
    if at == tensor.born or at not in tensor.readers:
        return 0.0
    main = step.main
    if not main.M:  # its operands share a buffer
        return min(tensor.bytes, need[0] / len(step.reads))
    if not main.weights and tensor.site == main.reads[1]:
        return min(tensor.bytes, need[1])
    return min(tensor.bytes, need[0]) if tensor.site == main.reads[0] else 0.0
