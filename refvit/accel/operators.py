"""What an operator beside the array costs: on the vector unit, behind a GEMM, or on a host."""

from __future__ import annotations

from math import ceil

from refvit.accel.energy import Events
from refvit.accel.gemm import Cost
from refvit.accel.hardware import Machine
from refvit.accel.memory import Timing, two_buffers
from refvit.accel.steps import PARTIAL_BYTES
from refvit.accel.systolic import ceil_div
from refvit.accel.vector import (
    array_cycles_of_host,
    host_cycles,
    passes_of,
    softmax_behind,
    vector_cycles,
    vector_ops,
)
from refvit.accel.workload import Layer

Moved = tuple[float, float]  # bytes that stay on chip, bytes that cross to or from DRAM


def vector_cost(layer: Layer, hw: Machine, read: Moved, wrote: Moved) -> Cost:
    """Return the cost of a vector layer: its rows stream in tiles of a quarter of a buffer."""
    compute = float(vector_cycles(layer, hw.vector_lanes, passes=hw.passes))
    tiles = max(1, ceil(read[1] / (hw.sram_a_bytes / 4)), ceil(wrote[1] / (hw.sram_o_bytes / 4)))
    speed = hw.dram_bytes_per_cycle * tiles
    timing = two_buffers(compute / tiles, read[1] / speed, wrote[1] / speed, tiles)
    again = sum(read) * passes_of(layer.op, hw.passes)  # each pass reads all of it
    moved = (
        (ceil(again + read[1]), hw.sram_a_bytes),
        (0, hw.sram_b_bytes),
        (ceil(sum(wrote) + wrote[1]), hw.sram_o_bytes),
        (0, hw.sums_bytes),
    )
    return _cost(layer, hw, timing, moved, read, wrote)


def fused_cost(layer: Layer, hw: Machine, gemm: Cost, heads: int, read: Moved) -> Cost:
    """Return the cost of a layer that streams behind a GEMM; `read` are its other operands,
    whose loads nothing hides.

    The scores that softmax works on wait as int32 sums, and every pass reads them.
    """
    if layer.op == "softmax":
        alone = vector_cycles(layer, hw.vector_lanes, passes=hw.passes)
        compute = softmax_behind(alone, gemm.timing.compute, heads)
        sums = layer.elements * PARTIAL_BYTES * hw.passes.softmax
    else:
        behind = gemm.timing.compute
        compute = float(vector_cycles(layer, hw.vector_lanes, behind, hw.passes))
        sums = 0
    load = read[1] / hw.dram_bytes_per_cycle
    timing = two_buffers(compute, load, 0.0, 1)
    sizes = (hw.sram_a_bytes, hw.sram_b_bytes, hw.sram_o_bytes, hw.sums_bytes)
    bytes_moved = (ceil(sum(read) + read[1]), 0, 0, sums)
    moved = tuple(zip(bytes_moved, sizes, strict=True))
    return _cost(layer, hw, timing, moved, read, (0.0, 0.0))


def host_cost(layer: Layer, hw: Machine, read: float, wrote: float) -> Cost:
    """Return the cost of an operator on the host, which reads and writes memory.

    It is busy for cycles of its own clock, and what its bytes take is in cycles of the array's,
    in which the timing is.
    """
    cycles = host_cycles(layer.op, layer.work)
    busy = ceil(array_cycles_of_host(cycles, hw.clock_mhz, hw.host_mhz))
    memory = (read + wrote) / hw.dram_bytes_per_cycle
    timing = Timing(max(busy, memory), busy, memory, 0.0, 0.0)
    events = Events(0, 8, _none(hw), ceil(read + wrote), 0)
    return Cost(timing, events, ceil(read), events.dram_bytes - ceil(read), 0, 0.0)


def _none(hw: Machine) -> tuple[tuple[int, int], ...]:
    sizes = (hw.sram_a_bytes, hw.sram_b_bytes, hw.sram_o_bytes, hw.sums_bytes)
    return tuple((0, size) for size in sizes)


def _cost(
    layer: Layer,
    hw: Machine,
    timing: Timing,
    moved: tuple[tuple[int, int], ...],
    read: Moved,
    wrote: Moved,
) -> Cost:
    dram, stays = ceil(read[1] + wrote[1]), ceil(read[0] + wrote[0])
    events = Events(0, 8, moved, dram, vector_ops(layer, hw.passes))
    busy = ceil_div(layer.work, hw.vector_lanes) * passes_of(layer.op, hw.passes)
    load = ceil(read[1])
    return Cost(timing, events, load, dram - load, stays, busy)
