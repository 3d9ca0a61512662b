"""One forward on one machine: layer by layer, cycles, traffic, time and energy.

Every layer reads its operands from DRAM and writes its result there, except GELU and
requantization, which stream from the accumulator; nothing stays resident between layers.
Activations and weights have `bits`; the residual stream and what feeds LayerNorm have 16, as in
the engine's recipes. The outer tiles of a GEMM are taken as equal: each gets its share of the
cycles and bytes.
"""

from __future__ import annotations

import math
from typing import Any

from refvit.accel.energy import TABLES, Events, energy_parts_uj, energy_range_uj
from refvit.accel.machine import Machine
from refvit.accel.machine import machine as find_machine
from refvit.accel.memory import PARTIAL_BYTES, Tiling, Timing, best_tiling, two_buffers
from refvit.accel.report import Report
from refvit.accel.row import Row
from refvit.accel.systolic import (
    ceil_div,
    cut_cycles,
    gemm_cycles,
    mapping,
    sram_outputs,
    sram_reads,
    utilization,
)
from refvit.accel.vector import FUSED, requantize_cycles, vector_cycles, vector_ops
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
    for layer in workload(config, batch):
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
    """Say whether a layer's result belongs to the residual stream: sums, but not those of scores
    and their bias, and what is added to the stream or starts it."""
    if layer.op == "add":
        return not layer.name.endswith("biased")
    starts = ("proj", "fc2", "patch_embed", "patch_norm", "norm_pre", "reduction", "fc_pool")
    return layer.name.endswith(starts)


def reads_stream(layer: Layer) -> bool:
    """Say whether a vector layer reads the residual stream."""
    norm = layer.op == "layer_norm" and not layer.name.endswith(("q_norm", "k_norm"))
    return norm or layer.name.endswith("fc_pool") or (layer.op == "add" and writes_stream(layer))


def gemm_row(layer: Layer, hw: Machine, bits: int) -> Row:
    """Simulate a GEMM: array cycles, tiles through two buffers, SRAM and DRAM traffic."""
    M, K, N, count = layer.M, layer.K, layer.N, layer.count
    tiling = gemm_tiling(layer, hw, bits)
    compute = float(gemm_cycles(M, K, N, hw.rows, hw.cols, hw.dataflow, hw.overlap, count=count))
    if tiling.tiles > 1:  # the array starts over for every piece of its time axis
        array = (hw.rows, hw.cols, hw.dataflow, hw.overlap)
        compute = max(compute, count * float(cut_cycles((M, K, N), tiling.time_piece, *array)))
    compute += requantize_cycles(layer.elements, hw.vector_lanes, compute)
    load, store = gemm_traffic(layer, hw, bits)
    tiles, speed = tiling.tiles, hw.dram_bytes_per_cycle
    timing = two_buffers(
        compute / (tiles * count), load / tiles / speed, store / tiles / speed, tiles * count
    )
    moved = gemm_sram_bytes(layer, hw, bits)
    events = Events(layer.macs, bits, moved, round((load + store) * count), layer.elements)
    return make_row(layer, hw, timing, events, "compute")


def result_bytes(layer: Layer, bits: int) -> int:
    """Return the bytes one result of a GEMM takes in a buffer: a code's, or the stream's."""
    return STREAM_BYTES if writes_stream(layer) or bits > 8 else 1


def gemm_tiling(layer: Layer, hw: Machine, bits: int) -> Tiling:
    """Return the outer tiling of one of a layer's GEMMs; codes narrower than a byte take one."""
    width = ceil_div(bits, 8)
    return best_tiling(layer.M, layer.K, layer.N, hw, width, width, result_bytes(layer, bits))


def gemm_traffic(layer: Layer, hw: Machine, bits: int) -> tuple[float, float]:
    """Return the DRAM bytes that one of a layer's GEMMs loads and stores.

    Codes of less than 8 bits are packed there; partial sums and the residual stream are not codes.
    """
    tiling = gemm_tiling(layer, hw, bits)
    packed, spill = min(bits / 8, 1.0), tiling.spill_bytes
    result = float(tiling.store_bytes - spill)
    if not writes_stream(layer):
        result = result * packed
    return (tiling.load_bytes - spill) * packed + spill, result + spill


def gemm_sram_bytes(layer: Layer, hw: Machine, bits: int) -> tuple[tuple[int, int], ...]:
    """Return (bytes moved, size of the buffer) for A, B and the accumulator, all GEMMs of it."""
    M, K, N, count = layer.M, layer.K, layer.N, layer.count
    read_a, read_b = sram_reads(M, K, N, hw.rows, hw.cols, hw.dataflow)
    wrote, reread = sram_outputs(M, K, N, hw.rows, hw.dataflow)
    pieces = ceil_div(mapping(M, K, N, hw.dataflow)[2], gemm_tiling(layer, hw, bits).time_piece)
    if hw.dataflow == "ws":  # what stays in the array is read again for every piece of time
        read_b *= pieces
    elif hw.dataflow == "is":
        read_a *= pieces
    else:
        wrote, reread = wrote * pieces, wrote * (pieces - 1)
    # os keeps its sums in the PEs
    sum_bytes = result_bytes(layer, bits) if hw.dataflow == "os" else PARTIAL_BYTES
    return (
        (code_bytes(read_a * count, bits), hw.sram_a_bytes),
        (code_bytes(read_b * count, bits), hw.sram_b_bytes),
        ((wrote + reread) * count * sum_bytes, hw.sram_o_bytes),
    )


def vector_row(layer: Layer, hw: Machine, bits: int, behind: float) -> Row:
    """Simulate a vector layer; `behind` is the compute time of the GEMM before it."""
    compute = float(vector_cycles(layer, hw.vector_lanes, behind))
    if layer.op in FUSED:
        events = Events(0, bits, (), 0, vector_ops(layer))
        return make_row(layer, hw, Timing(compute, compute, 0.0, 0.0, 0.0), events, "vector")
    wide_in, wide_out = reads_stream(layer), writes_stream(layer)
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
    array, sram, dram, vector = energy_parts_uj(events, TABLES[hw.energy])
    cycles = timing.cycles
    return Row(
        name=layer.name,
        op=layer.op,
        group=layer.group,
        macs=layer.macs,
        cycles=round(cycles),
        compute_cycles=round(timing.compute),
        stall_cycles=round(cycles) - round(timing.compute),
        utilization=utilization(layer.macs, cycles, hw.rows, hw.cols),
        sram_bytes=events.sram_total,
        dram_bytes=events.dram_bytes,
        us=hw.us(round(cycles)),
        uj_low=low,
        uj_high=high,
        uj=math.fsum((array, sram, dram, vector)),
        uj_array=array,
        uj_sram=sram,
        uj_dram=dram,
        uj_vector=vector,
        bound="memory" if timing.memory > timing.compute else unit,
    )
