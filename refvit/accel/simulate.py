"""One forward on one machine: layer by layer, cycles, traffic, time and energy.

Layers become steps (what streams behind a GEMM is never stored), results that fit stay on chip,
and each layer costs what its unit says. Layers follow each other: the next one's first load waits
for the last store of the one before. Layers that are alike cost alike, and are worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from refvit.accel.gemm import Cost, Operands, cut_like, followed, gemm_cost, gemm_of
from refvit.accel.machine import Machine
from refvit.accel.machine import machine as find_machine
from refvit.accel.operators import fused_cost, host_cost, softmax_cost, vector_cost
from refvit.accel.report import Report
from refvit.accel.residency import operand_bits, resident
from refvit.accel.row import Row
from refvit.accel.row_of import row_of
from refvit.accel.steps import Bits, Step, steps_of
from refvit.accel.tiles import PARTIAL_BYTES
from refvit.accel.widths import site_widths, stored_at
from refvit.accel.workload import Layer, name_of, workload

NONLINEAR = ("vector", "host")


@dataclass(frozen=True)
class Plan:
    """A machine, the width of every site on it, the sites that stay on chip, and who does what is
    not a product."""

    hw: Machine
    bits: Bits
    stays: frozenset[str]
    host: bool
    leaving: frozenset[str]


def simulate(
    config: Any,
    machine: str | Path | Machine | Mapping[str, Any] = "edge32",
    bits: int = 8,
    batch: int = 1,
    *,
    recipe: Mapping[str, int] | None = None,
    nonlinear: str = "vector",
    residency: bool = True,
) -> Report:
    """Return the report of one forward of the model `config` describes: a configuration, a model
    that has one, or the name of a variant.

    Codes have `bits`, the residual stream 16; `recipe` maps sites to bits of their own, as
    "blocks.0.mlp.fc1.weight" to 4. `nonlinear="host"` gives softmax, LayerNorm, GELU, residual sums
    and requantization to a processor beside the array, as in Kim et al. 2023: every result then
    passes through memory as int32 sums. `residency=False` sends every result to DRAM and back.
    Raises ValueError for an unknown machine, width, site or `nonlinear`, or no images.

    >>> from refvit.models import VARIANTS
    >>> simulate(VARIANTS["nano_vit"]).totals["macs"]
    8958816
    """
    hardware = find_machine(machine)
    layers = workload(config, batch)
    widths = site_widths(layers, bits, recipe)
    rows = simulate_layers(layers, hardware, widths, nonlinear, residency)
    said = "" if recipe is None else f"widths of {len(recipe)} sites"
    main = bits if recipe is None else main_bits(rows)
    return Report(hardware, main, batch, rows, name_of(config), said, nonlinear, residency)


def main_bits(rows: Sequence[Row]) -> int:
    """Return the width of A that most of the MACs read: what a mixed recipe is called by."""
    macs: dict[int, int] = {}
    for row in rows:
        macs[row.a_bits] = macs.get(row.a_bits, 0) + row.macs
    return max(macs, key=lambda bits: (macs[bits], bits), default=8)


def simulate_layers(
    layers: Sequence[Layer],
    hw: Machine,
    widths: Mapping[str, int],
    nonlinear: str = "vector",
    residency: bool = True,
) -> tuple[Row, ...]:
    """Return the rows of any layers, with the bits of every site they read and write."""
    if nonlinear not in NONLINEAR:
        listed = ", ".join(NONLINEAR)
        raise ValueError(f"no unit {nonlinear!r} for what is not a product; there are {listed}")
    bits, host = stored_at(widths, hw), nonlinear == "host"
    steps = steps_of(layers, hw, () if host else hw.fused)
    stays = resident(steps, hw, bits) if residency and not host else frozenset()
    leaving = frozenset(site for step in steps if step.leaves for site, _ in step.writes)
    return tuple(_rows(steps, Plan(hw, bits, stays, host, leaving)))


def _rows(steps: Sequence[Step], plan: Plan) -> Iterator[Row]:
    """Yield the rows of every step; what costs alike is worked out once."""
    known: dict[Any, list[Row]] = {}
    for step in steps:
        key = _key(step, plan)
        if key not in known:
            figures = host_rows(step, plan) if plan.host else step_rows(step, plan)
            known[key] = [Row(name="", group="", **each) for each in figures]
        names = [*step.layers, step.main][: len(known[key])]
        for layer, row in zip(names, known[key], strict=True):
            name = f"{layer.name}.{row.op}" if row.op == "requantize" else layer.name
            yield row.called(name, layer.group)


def _key(step: Step, plan: Plan) -> Any:
    """Return what the cost of a step depends on beside the machine."""
    reads = tuple((plan.bits(site), site in plan.stays) for site, _ in step.reads)
    weights = operand_bits(step.main, plan.bits) if step.main.M else ()
    results = tuple((n, plan.bits(site), *_stored(plan, site)) for site, n in step.writes)
    return step.shape, reads, weights, results


def _stored(plan: Plan, site: str) -> tuple[bool, bool]:
    """Return whether a result stays on chip, and whether it is the model's, which is stored too."""
    return site in plan.stays, site in plan.leaving


def step_rows(step: Step, plan: Plan) -> list[dict[str, Any]]:
    """Return the figures of every layer of a step: its main one, and those fused behind it."""
    main, hw = step.main, plan.hw
    if not main.M:
        cost = vector_cost(main, hw, _moved(step.reads, plan), _moved(step.writes, plan))
        return [row_of(main, hw, cost, "vector", streams_of(step, plan))]
    operands, widths = operands_of(step, plan), Operands(0, 0, plan.bits(step.writes[0][0]))
    cost, *costs = gemm_costs(step, plan, operands)
    behind = zip(step.layers[1:], costs, strict=True)
    return [
        row_of(main, hw, cost, "array", operands),
        *(row_of(layer, hw, each, "fused", widths) for layer, each in behind),
    ]


def gemm_costs(step: Step, plan: Plan, operands: Operands) -> list[Cost]:
    """Return the costs of a GEMM and of all that streams behind it, in tiles that suit them all:
    each costs what it makes the step take longer."""
    main, hw, gemms = step.main, plan.hw, [gemm_of(step.main, plan.hw, operands)]
    others = [(layer, besides(step, layer, plan)) for layer in fused_layers(step)]
    for layer, read in others:
        gemms.append(followed(gemms[-1], layer, hw, read[1]))
    cost = gemm_cost(main, hw, operands, all_of_it=gemms[-1])
    assert cost.tiling is not None
    times = [cost.timing, *(cut_like(cost.tiling, gemm).timing for gemm in gemms[1:])]
    costs = [cost]
    for (layer, read), (before, after) in zip(others, pairwise(times), strict=True):
        costs.append(fused_cost(layer, hw, before, after, read))
    if step.layers[-1].op == "softmax":
        busy = sum(each.vector_cycles for each in costs)
        costs.append(softmax_cost(step.layers[-1], hw, times[-1].cycles, main.count, busy))
    return costs


def fused_layers(step: Step) -> list[Layer]:
    """Return the layers that stream behind a GEMM tile by tile: all but a softmax, the last."""
    return [layer for layer in step.layers[1:] if layer.op != "softmax"]


def besides(step: Step, layer: Layer, plan: Plan) -> tuple[float, float]:
    """Return the bytes that a layer of a step reads, those on chip and those in DRAM, besides what
    it is handed by the layer before."""
    inner = {site for each in step.layers for site, _ in each.writes}
    pairs = zip(layer.reads, layer.inputs, strict=True)
    return _moved([pair for pair in pairs if pair[0] not in inner], plan)


def streams_of(step: Step, plan: Plan) -> Operands:
    """Return the widths of what a vector layer reads and writes, and which of it stays on chip."""
    sites = [site for site, _ in step.reads[:2]]
    first, second = ([site in plan.stays for site in sites] + [False])[:2]
    a, b = ([plan.bits(site) for site in sites] + [0])[:2]
    out = step.writes[0][0]
    stays = out in plan.stays and out not in plan.leaving
    return Operands(a, b, plan.bits(out), (first, second, stays))


def operands_of(step: Step, plan: Plan) -> Operands:
    """Return the widths of a GEMM step, and which of its operands and results stay on chip.

    Several results, of q, k and v, are stored at the widest, and stay if all of them do.
    """
    main, stays = step.main, plan.stays
    a, b = operand_bits(main, plan.bits)
    out = max(plan.bits(site) for site, _ in step.writes)
    second = not main.weights and main.reads[1] in stays
    results = all(site in stays and site not in plan.leaving for site, _ in step.writes)
    return Operands(a, b, out, (main.reads[0] in stays, second, results))


def _moved(parts: Sequence[tuple[str, int]], plan: Plan) -> tuple[float, float]:
    """Return the bytes of sites that stay on chip, and of those that cross to or from DRAM."""
    inside = outside = 0.0
    for site, size in parts:
        stays = site in plan.stays and site not in plan.leaving
        inside += size * plan.bits(site) / 8 * stays
        outside += size * plan.bits(site) / 8 * (not stays)
    return inside, outside


def host_rows(step: Step, plan: Plan) -> list[dict[str, Any]]:
    """Return the figures of a layer where a host does all but products: a GEMM stores its sums,
    and the host reads them to write codes."""
    main, hw = step.main, plan.hw
    read, wrote = (_moved(parts, plan)[1] for parts in (step.reads, step.writes))
    out = plan.bits(step.writes[0][0])
    if not main.M:
        widths = Operands(plan.bits(step.reads[0][0]), 0, out)
        return [row_of(main, hw, host_cost(main, hw, read, wrote), "host", widths)]
    a, b = operand_bits(main, plan.bits)
    sums = Operands(a, b, 8 * PARTIAL_BYTES)
    gemm = row_of(main, hw, gemm_cost(main, hw, sums, host=True), "array", sums)
    turned = Layer(main.name, "requantize", main.group, main.elements, main.rows, main.inputs)
    cost = host_cost(turned, hw, main.elements * PARTIAL_BYTES, wrote)
    return [gemm, row_of(turned, hw, cost, "host", Operands(8 * PARTIAL_BYTES, 0, out))]
