"""From a layer's cost to the figures of its row."""

from __future__ import annotations

import math
from typing import Any

from refvit.accel.energy import (
    TABLES,
    Events,
    end_parts_uj,
    energy_parts_uj,
    mac_uj,
    register_uj,
    sram_uj,
)
from refvit.accel.gemm import Cost, Operands
from refvit.accel.hardware import Machine
from refvit.accel.row import PARTS
from refvit.accel.stream import NOISE
from refvit.accel.systolic import mapping_efficiency, utilization
from refvit.accel.workload import Layer

SRAMS = ("uj_sram_a", "uj_sram_b", "uj_sram_o", "uj_accumulator")


def row_of(layer: Layer, hw: Machine, cost: Cost, unit: str, x: Operands) -> dict[str, Any]:
    """Return all of a row but its name and group."""
    time = cycles_of(cost)
    kept = (name for name, stays in zip("abo", x.resident, strict=True) if stays)
    return {
        "op": layer.op,
        "macs": layer.macs,
        "unit": unit,
        "utilization": utilization(layer.macs, time["cycles"], hw.rows, hw.cols),
        "us": hw.us(time["cycles"]),
        "bound": bound_of(cost, unit),
        "sram_bytes": cost.events.sram_total,
        "dram_bytes": cost.events.dram_bytes,
        "load_bytes": cost.load_bytes,
        "store_bytes": cost.store_bytes,
        "resident_bytes": cost.resident_bytes,
        "resident": "".join(kept),
        "a_bits": x.a_bits,
        "b_bits": x.b_bits,
        "o_bits": x.o_bits,
        **time,
        "array_cycles": max(0, time["compute_cycles"] - cost.waits) if unit == "array" else 0,
        **tile_of(layer, hw, cost),
        **energy_of(cost.events, hw),
    }


def bound_of(cost: Cost, unit: str) -> str:
    """Return what a layer waits for: whichever is busy longer."""
    works = max(cost.timing.compute, cost.vector_cycles if unit == "fused" else 0)
    if cost.timing.memory > works:
        return "memory"
    gemm = "vector" if cost.vector_cycles > cost.timing.compute - cost.waits else "compute"
    return {"array": gemm, "host": "host"}.get(unit, "vector")


def cycles_of(cost: Cost) -> dict[str, int]:
    """Return whole cycles: in all rounded up, and parts that add up to them."""
    timing = cost.timing
    cycles = math.ceil(timing.cycles - NOISE)
    compute = min(round(timing.compute), cycles)
    prologue, epilogue = math.floor(timing.prologue), math.floor(timing.epilogue)
    return {
        "cycles": cycles,
        "compute_cycles": compute,
        "stall_cycles": cycles - compute,
        "prologue_cycles": prologue,
        "steady_cycles": cycles - prologue - epilogue,
        "epilogue_cycles": epilogue,
        "memory_cycles": math.ceil(timing.memory - NOISE),
        "vector_cycles": math.ceil(cost.vector_cycles),
    }


def tile_of(layer: Layer, hw: Machine, cost: Cost) -> dict[str, Any]:
    """Return the outer tile of a GEMM, nothing for other layers."""
    if cost.tiling is None:
        return {}
    tiling, array = cost.tiling, (hw.rows, hw.cols, hw.dataflow)
    return {
        "tile_m": tiling.m,
        "tile_k": tiling.k,
        "tile_n": tiling.n,
        "tiles": tiling.tiles * layer.count,
        "order": tiling.order,
        "mapping_efficiency": mapping_efficiency(layer.M, layer.K, layer.N, *array),
    }


def energy_of(events: Events, hw: Machine) -> dict[str, float]:
    """Return microjoules by the machine's table, part by part, and the range over all tables."""
    lows, highs = end_parts_uj(events, hw.slices(*events.widths), hw.multiplier_bits)
    own = TABLES[hw.energy]
    parts = energy_parts_uj(events, own)
    ends = min(map(math.fsum, lows)), max(map(math.fsum, highs))
    figures = {"uj_low": ends[0], "uj_high": ends[1], "uj": math.fsum(parts)}
    for at, name in enumerate(PARTS):
        figures[f"uj_{name}"] = parts[at]
        figures[f"uj_{name}_low"] = min(each[at] for each in lows)
        figures[f"uj_{name}_high"] = max(each[at] for each in highs)
    figures |= {"uj_mac": mac_uj(events, own), "uj_registers": register_uj(events, own)}
    return figures | dict(zip(SRAMS, sram_uj(events, own), strict=True))
