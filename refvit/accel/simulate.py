"""One forward on one machine: layer by layer, cycles, traffic, time and energy.

Every layer reads its operands from DRAM and writes its result there, except GELU and
requantization, which stream from the accumulator; nothing stays resident between layers.
Activations and weights have `bits`; the residual stream and what feeds LayerNorm have 16, as in
the engine's recipes.
"""

from __future__ import annotations

from typing import Any

from refvit.accel.energy import Events, energy_range_uj
from refvit.accel.machine import Machine
from refvit.accel.machine import machine as find_machine
from refvit.accel.memory import PARTIAL_BYTES, Timing, best_tiling, two_buffers
from refvit.accel.report import Report, Row
from refvit.accel.systolic import ceil_div, gemm_cycles, sram_outputs, sram_reads
from refvit.accel.vector import FUSED, vector_cycles, vector_ops
from refvit.accel.workload import Layer, workload

WIDTHS = (4, 8, 16)
STREAM_BYTES = 2  # an element of the residual stream


def simulate(
    config: Any, machine: str | Machine = "edge32", bits: int = 8, batch: int = 1
) -> Report:
    """Return the report of one forward of the model `config` describes (or whose `.config` does).

    Raises ValueError for an unknown machine, a width other than 4, 8 or 16, or no images.

    >>> from refvit.models import VARIANTS
    >>> simulate(VARIANTS["nano_vit"]).totals["macs"]
    8958816
    """
    hardware = find_machine(machine)
    if bits not in WIDTHS:
        raise ValueError(f"codes of {bits} bits are not modelled; there are {WIDTHS}")
    rows: list[Row] = []
    behind = 0.0
    for layer in workload(getattr(config, "config", config), batch):
        if layer.M:
            rows.append(gemm_row(layer, hardware, bits))
            behind = rows[-1].compute_cycles
        else:
            rows.append(vector_row(layer, hardware, bits, behind))
    return Report(hardware, bits, batch, tuple(rows))


def code_bytes(elements: int, bits: int) -> int:
    """Return the bytes of that many codes, packed."""
    return ceil_div(elements * bits, 8)


def writes_stream(layer: Layer) -> bool:
    """Say whether a layer's result belongs to the residual stream."""
    return layer.op == "add" or layer.name.endswith(("proj", "fc2", "patch_embed"))


def gemm_row(layer: Layer, hw: Machine, bits: int) -> Row:
    """Simulate a GEMM: array cycles, tiles through two buffers, SRAM and DRAM traffic."""
    M, K, N, count = layer.M, layer.K, layer.N, layer.count
    compute = gemm_cycles(M, K, N, hw.rows, hw.cols, hw.dataflow, hw.overlap, count=count)
    out_bytes = STREAM_BYTES if writes_stream(layer) else 1
    tiling = best_tiling(M, K, N, hw, 1 if bits <= 8 else 2, 1 if bits <= 8 else 2, out_bytes)
    share = bits / 8 if bits < 8 else 1.0  # narrow codes are packed in memory and in the buffers
    fixed = M * N * out_bytes if out_bytes == STREAM_BYTES else 0
    load, store = tiling.load_bytes * share, (tiling.store_bytes - fixed) * share + fixed
    tiles, speed = tiling.tiles, hw.dram_bytes_per_cycle
    timing = two_buffers(
        compute / (tiles * count), load / tiles / speed, store / tiles / speed, tiles * count
    )
    read_a, read_b = sram_reads(M, K, N, hw.rows, hw.cols, hw.dataflow)
    wrote, reread = sram_outputs(M, K, N, hw.rows, hw.dataflow)
    sum_bytes = out_bytes if hw.dataflow == "os" else PARTIAL_BYTES  # os sums stay in their PEs
    moved = (
        (code_bytes(read_a * count, bits), hw.sram_a_bytes),
        (code_bytes(read_b * count, bits), hw.sram_b_bytes),
        ((wrote + reread) * count * sum_bytes, hw.sram_o_bytes),
    )
    events = Events(layer.macs, bits, moved, round((load + store) * count), layer.elements)
    return make_row(layer, hw, timing, events, "compute")


def vector_row(layer: Layer, hw: Machine, bits: int, behind: float) -> Row:
    """Simulate a vector layer; `behind` is the compute time of the GEMM before it."""
    compute = vector_cycles(layer, hw.vector_lanes, behind)
    if layer.op in FUSED:
        events = Events(0, bits, (), 0, vector_ops(layer))
        return make_row(layer, hw, Timing(compute, compute, 0.0, 0.0, 0.0), events, "vector")
    wide_in, wide_out = layer.op in ("add", "layer_norm"), layer.op == "add"
    read = sum(layer.inputs) * STREAM_BYTES if wide_in else code_bytes(sum(layer.inputs), bits)
    wrote = layer.elements * STREAM_BYTES if wide_out else code_bytes(layer.elements, bits)
    tiles = max(1, ceil_div(read, hw.sram_a_bytes // 2))
    speed = hw.dram_bytes_per_cycle * tiles
    timing = two_buffers(compute / tiles, read / speed, wrote / speed, tiles)
    moved = ((read, hw.sram_a_bytes), (wrote, hw.sram_o_bytes))
    return make_row(
        layer, hw, timing, Events(0, bits, moved, read + wrote, vector_ops(layer)), "vector"
    )


def make_row(layer: Layer, hw: Machine, timing: Timing, events: Events, unit: str) -> Row:
    """Put the figures of a layer together; it is bound by whichever is busy longer."""
    low, high = energy_range_uj(events)
    cycles = timing.cycles
    used = layer.macs / (cycles * hw.rows * hw.cols) if cycles else 0.0
    return Row(
        name=layer.name,
        op=layer.op,
        group=layer.group,
        macs=layer.macs,
        cycles=round(cycles),
        compute_cycles=round(timing.compute),
        stall_cycles=round(cycles) - round(timing.compute),
        utilization=used,
        sram_bytes=events.sram_total,
        dram_bytes=events.dram_bytes,
        us=hw.us(round(cycles)),
        uj_low=low,
        uj_high=high,
        bound="memory" if timing.memory > timing.compute else unit,
    )
