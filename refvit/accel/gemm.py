"""What one GEMM, and what streams behind it, costs: cycles, traffic and events.

The outer tiles of a GEMM are taken as equal: each gets its share of the cycles and bytes. Equal
GEMMs, of heads or windows, follow each other tile by tile, and on an array whose folds overlap
they are one stream with one fill and one drain.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from refvit.accel.energy import Events
from refvit.accel.hardware import Machine
from refvit.accel.memory import Tiling, Timing, best_tiling, two_buffers
from refvit.accel.steps import PARTIAL_BYTES
from refvit.accel.systolic import (
    ceil_div,
    cut_cycles,
    mapping,
    sram_outputs,
    sram_reads,
)
from refvit.accel.vector import requantize_cycles
from refvit.accel.workload import Layer


@dataclass(frozen=True)
class Operands:
    """The widths of a layer's operands A and B and of what it stores, and which stay on chip."""

    a_bits: int
    b_bits: int
    o_bits: int
    resident: tuple[bool, bool, bool] = (False, False, False)


@dataclass(frozen=True)
class Cost:
    """A layer's time, its events, the bytes it loads and stores, and those it need not."""

    timing: Timing
    events: Events
    load_bytes: int
    store_bytes: int
    resident_bytes: int
    vector_cycles: float
    waits: float = 0.0  # cycles that the array waits for the vector unit
    tiling: Tiling | None = None


def gemm_tiling(layer: Layer, hw: Machine, x: Operands) -> Tiling:
    """Return the outer tiling of one of a layer's GEMMs."""
    slices = hw.slices(x.a_bits, x.b_bits)
    bytes_each = x.a_bits / 8, x.b_bits / 8, x.o_bits / 8
    return best_tiling(layer.M, layer.K, layer.N, hw, *bytes_each, x.resident, slices)


def array_cycles(layer: Layer, hw: Machine, tiling: Tiling, slices: int) -> float:
    """Return the cycles of the array for all of a layer's GEMMs, cut in time as their tiles are.

    Equal GEMMs are one whose columns are as many times as wide: so many times the folds.
    """
    _, across, axis = mapping(0, 1, 2, hw.dataflow)
    columns = (layer.M, layer.K, layer.N)[across]
    folds = ceil_div(columns, hw.cols) * layer.count
    sizes = [layer.M, layer.K, layer.N]
    sizes[across] = folds * hw.cols
    sizes[axis] *= slices
    M, K, N = sizes
    piece, array = tiling.time_piece * slices, (hw.rows, hw.cols, hw.dataflow, hw.overlap)
    return float(cut_cycles((M, K, N), piece, *array))


def gemm_cost(layer: Layer, hw: Machine, x: Operands, host: bool = False) -> Cost:
    """Return the cost of a GEMM: array cycles, tiles through two buffers, SRAM and DRAM traffic.

    Sums leave for a `host` as they are, else the vector unit turns them into codes on their way.
    """
    tiling = gemm_tiling(layer, hw, x)
    compute = array_cycles(layer, hw, tiling, hw.slices(x.a_bits, x.b_bits))
    hidden = compute if "requantize" in hw.fused else 0.0
    elements, passes = (0 if host else layer.elements), hw.passes.requantize
    waits = requantize_cycles(elements, hw.vector_lanes, hidden, passes)
    tiles = tiling.tiles * layer.count
    load, store = tiling.load_bytes * layer.count, tiling.store_bytes * layer.count
    speed = tiles * hw.dram_bytes_per_cycle
    timing = two_buffers((compute + waits) / tiles, load / speed, store / speed, tiles)
    moved = sram_traffic(layer, hw, x, tiling)
    dram = ceil(load + store)
    events = Events(layer.macs, x.a_bits, moved, dram, elements * passes, x.b_bits)
    busy = ceil_div(elements, hw.vector_lanes) * passes
    stays = stays_bytes(layer, x)
    return Cost(timing, events, ceil(load), dram - ceil(load), stays, busy, waits, tiling)


def stays_bytes(layer: Layer, x: Operands) -> int:
    """Return the bytes of operands and results that stay on chip."""
    sizes = layer.M * layer.K, layer.K * layer.N, layer.M * layer.N
    widths = x.a_bits, x.b_bits, x.o_bits
    each = zip(sizes, widths, x.resident, strict=True)
    return ceil(sum(size * layer.count * bits / 8 for size, bits, stays in each if stays))


def sram_traffic(
    layer: Layer, hw: Machine, x: Operands, tiling: Tiling
) -> tuple[tuple[int, int], ...]:
    """Return (bytes moved, size) of the SRAMs of A, B, the output, and the accumulator.

    The array reads operands as `sram_reads` counts, again for every piece of time where they stay
    in it; loads are written first. Sums are written and read back as `sram_outputs` counts, and
    read once more to become results, which are written, and read to be stored.
    """
    M, K, N, count = layer.M, layer.K, layer.N, layer.count
    pieces = ceil_div(mapping(M, K, N, hw.dataflow)[2], tiling.time_piece)
    read_a, read_b = sram_reads(M, K, N, hw.rows, hw.cols, hw.dataflow)
    read_a *= pieces if hw.dataflow == "is" else 1
    read_b *= pieces if hw.dataflow == "ws" else 1
    results = M * N * x.o_bits / 8
    stored = 0.0 if x.resident[2] else results
    return (
        (ceil((read_a * x.a_bits / 8 + tiling.a_bytes) * count), hw.sram_a_bytes),
        (ceil((read_b * x.b_bits / 8 + tiling.b_bytes) * count), hw.sram_b_bytes),
        (ceil((results + stored) * count), hw.sram_o_bytes),
        (ceil((sums_moved(M, K, N, hw, pieces) + 2 * tiling.spill_bytes) * count), hw.sums_bytes),
    )


def sums_moved(M: int, K: int, N: int, hw: Machine, pieces: int) -> int:
    """Return the bytes of int32 sums written to and read from the accumulator by one GEMM.

    os keeps its sums in the PEs, so without a cut of K they never go there.
    """
    if hw.dataflow == "os":
        return M * N * 2 * pieces * PARTIAL_BYTES if pieces > 1 else 0
    wrote, reread = sram_outputs(M, K, N, hw.rows, hw.dataflow)
    return (wrote + reread + M * N) * PARTIAL_BYTES
