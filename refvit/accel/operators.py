"""What an operator beside the array costs: on the vector unit, behind a GEMM, or on a host."""

from __future__ import annotations

from math import ceil

from refvit.accel.energy import Events
from refvit.accel.gemm import Cost
from refvit.accel.hardware import Machine
from refvit.accel.stream import Timing, in_parts
from refvit.accel.systolic import ceil_div
from refvit.accel.tiles import PARTIAL_BYTES
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
    """Return the cost of a vector layer: it streams row by row, and where a row is more than a
    quarter of a buffer in such quarters."""
    compute = vector_cycles(layer, hw.vector_lanes, hw.passes)
    quarters = (ceil(read[1] / (hw.sram_a_bytes / 4)), ceil(wrote[1] / (hw.sram_o_bytes / 4)))
    tiles = max(layer.rows, *quarters)
    load, store = (part[1] / hw.dram_bytes_per_cycle for part in (read, wrote))
    timing = in_parts(compute, load, store, tiles)
    again = sum(read) * passes_of(layer.op, hw.passes)  # each pass reads all of it
    moved = (
        (ceil(again + read[1]), hw.sram_a_bytes),
        (0, hw.sram_b_bytes),
        (ceil(sum(wrote) + wrote[1]), hw.sram_o_bytes),
        (0, hw.sums_bytes),
    )
    return _cost(layer, hw, timing, moved, read, wrote)


def fused_cost(layer: Layer, hw: Machine, before: Timing, after: Timing, read: Moved) -> Cost:
    """Return the cost of a layer that streams behind a GEMM: by how much longer than `before` the
    GEMM takes with it. `read` are its other operands."""
    timing = Timing(
        after.cycles - before.cycles,
        after.compute - before.compute,
        after.memory - before.memory,
        after.prologue - before.prologue,
        0,
    )
    return _cost(layer, hw, timing, _reads(hw, ceil(sum(read) + read[1]), 0), read, (0.0, 0.0))


def softmax_cost(layer: Layer, hw: Machine, cycles: int, heads: int, busy: int) -> Cost:
    """Return the cost of softmax behind the scores of so many heads, which take `cycles` in all, on
    a vector unit that is `busy` with them as well.

    The scores that softmax works on wait as int32 sums, and every pass reads them.
    """
    alone = vector_cycles(layer, hw.vector_lanes, hw.passes)
    compute = softmax_behind(alone, cycles, heads, busy)
    moved = _reads(hw, 0, layer.elements * PARTIAL_BYTES * hw.passes.softmax)
    return _cost(layer, hw, Timing(compute, compute, 0, 0, 0), moved, (0.0, 0.0), (0.0, 0.0))


def _reads(hw: Machine, codes: int, sums: int) -> tuple[tuple[int, int], ...]:
    """Return the traffic of the SRAMs where a layer reads so many bytes of A's and of sums."""
    sizes = (hw.sram_a_bytes, hw.sram_b_bytes, hw.sram_o_bytes, hw.sums_bytes)
    return tuple(zip((codes, 0, 0, sums), sizes, strict=True))


def host_cost(layer: Layer, hw: Machine, read: float, wrote: float) -> Cost:
    """Return the cost of an operator on the host, which reads and writes memory.

    It is busy for cycles of its own clock, and what its bytes take is in cycles of the array's,
    in which the timing is.
    """
    cycles = host_cycles(layer.op, layer.work)
    busy = ceil(array_cycles_of_host(cycles, hw.clock_mhz, hw.host_mhz))
    memory = ceil((read + wrote) / hw.dram_bytes_per_cycle)
    timing = Timing(max(busy, memory), busy, memory, 0, 0)
    events = Events(0, 8, _reads(hw, 0, 0), ceil(read + wrote), 0)
    return Cost(timing, events, ceil(read), events.dram_bytes - ceil(read), 0, 0)


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
