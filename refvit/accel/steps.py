"""Steps: layers as hardware runs them, each a unit's work and what streams behind it.

A GEMM's results pass the vector unit on their way out of the accumulator. An operator that the
machine fuses, and that alone reads them, works there: nothing of what lies between is ever stored.
Softmax is fused by head: it works on one while the array makes the scores of the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from refvit.accel.hardware import Machine
from refvit.accel.tiles import PARTIAL_BYTES
from refvit.accel.workload import Layer

Bits = Callable[[str], int]  # the width of a site's codes as they are stored


@dataclass(frozen=True)
class Step:
    """A GEMM, or a vector layer, and the layers fused behind it."""

    layers: tuple[Layer, ...]

    @cached_property
    def main(self) -> Layer:
        return self.layers[0]

    @cached_property
    def shape(self) -> tuple[object, ...]:
        """All of it but names: steps of one shape cost alike where their operands do."""
        return tuple(
            (x.op, x.M, x.K, x.N, x.count, x.rows, x.inputs, x.weights) for x in self.layers
        )

    @cached_property
    def reads(self) -> tuple[tuple[str, int], ...]:
        """The site and the elements of what is read: by the main layer, then by those behind it,
        but not what passes between them."""
        inner = {site for layer in self.layers[:-1] for site, _ in layer.writes}
        pairs = (p for x in self.layers for p in zip(x.reads, x.inputs, strict=True))
        return tuple((site, size) for site, size in pairs if site not in inner)

    @cached_property
    def writes(self) -> tuple[tuple[str, int], ...]:
        return self.layers[-1].writes

    @property
    def leaves(self) -> bool:
        return self.layers[-1].leaves


def steps_of(layers: Sequence[Layer], hw: Machine, fused: tuple[str, ...]) -> tuple[Step, ...]:
    """Return the layers in steps, in order; `fused` names the operators that may follow a GEMM."""
    return _steps(tuple(layers), fused, hw.sums_bytes if "softmax" in fused else 0)


@lru_cache(maxsize=64)
def _steps(layers: tuple[Layer, ...], fused: tuple[str, ...], sums_bytes: int) -> tuple[Step, ...]:
    """The same, kept: a sweep over machines asks for it each time."""
    readers = Counter(site for layer in layers for site in layer.reads)
    steps: list[list[Layer]] = []
    for layer in layers:
        if steps and layer.op in fused and _follows(layer, steps[-1], readers, sums_bytes):
            steps[-1].append(layer)
        else:
            steps.append([layer])
    return tuple(Step(tuple(step)) for step in steps)


def _follows(layer: Layer, step: list[Layer], readers: Counter[str], sums_bytes: int) -> bool:
    """Say whether `layer` alone reads what the GEMM of `step`, or what streams behind it, makes."""
    gemm, last = step[0], step[-1]
    if last.op == "softmax":  # it ends head by head: nothing streams behind it
        return False
    alone = len(last.writes) == 1 and readers[last.writes[0][0]] == 1
    if not gemm.M or not alone or last.writes[0][0] not in layer.reads:
        return False
    if layer.op != "softmax":
        return True
    whole = gemm.M * gemm.N * PARTIAL_BYTES <= sums_bytes // 2  # a head beside the next
    return whole and gemm.count > 1
