"""What one GEMM, and what streams behind it, costs: cycles, traffic and events.

Equal GEMMs, of heads or windows, follow each other tile by tile, and on an array whose folds
overlap they are one stream with one fill and one drain. What streams behind a GEMM shares the lanes
of one vector unit, and what it loads comes with the tiles whose results it works on; so its time is
what all of it together takes longer than the GEMM alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from refvit.accel.energy import Events
from refvit.accel.hardware import Machine
from refvit.accel.memory import Tiling, best_tiling
from refvit.accel.stream import Timing
from refvit.accel.systolic import ceil_div, mapping, sram_outputs, sram_reads
from refvit.accel.tiles import PARTIAL_BYTES, Cut, Gemm
from refvit.accel.vector import passes_of
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
    vector_cycles: int
    waits: int = 0  # cycles that the array waits for the vector unit
    tiling: Tiling | None = None


def gemm_of(layer: Layer, hw: Machine, x: Operands, host: bool = False) -> Gemm:
    """Return a layer's GEMMs with the requantization of their results; a `host` takes their sums as
    they are."""
    passes, streams = (0 if host else hw.passes.requantize), "requantize" in hw.fused
    return Gemm(
        *(layer.M, layer.K, layer.N), *(x.a_bits / 8, x.b_bits / 8, x.o_bits / 8), x.resident,
        layer.count, hw.slices(x.a_bits, x.b_bits), passes * streams, passes * (not streams),
    )  # fmt: skip


def followed(gemm: Gemm, layer: Layer, hw: Machine, loads: float) -> Gemm:
    """Return the GEMM with `layer` streaming behind it, which loads so many bytes besides.

    It may work on a few more elements than the GEMM has results: where a class token joins.
    """
    results = gemm.M * gemm.N * gemm.count
    passes = passes_of(layer.op, hw.passes) * layer.work / results
    return replace(gemm, streamed=gemm.streamed + passes, beside=gemm.beside + loads / results)


def gemm_cost(
    layer: Layer, hw: Machine, x: Operands, host: bool = False, all_of_it: Gemm | None = None
) -> Cost:
    """Return the cost of a GEMM: array cycles, tiles through two buffers, SRAM and DRAM traffic.

    Sums leave for a `host` as they are, else the vector unit turns them into codes on their way.
    The tiling is the one that suits the GEMM and what streams behind it, `all_of_it`.
    """
    gemm = gemm_of(layer, hw, x, host)
    tiling = best_tiling(all_of_it or gemm, hw)
    cut = cut_like(tiling, gemm)
    load, store = tiling.load_bytes * layer.count, tiling.store_bytes * layer.count
    moved = sram_traffic(layer, hw, x, tiling)
    dram, passes = ceil(load + store), int(gemm.streamed) + gemm.serial
    events = Events(layer.macs, x.a_bits, moved, dram, layer.elements * passes, x.b_bits)
    busy = ceil_div(layer.elements, hw.vector_lanes) * passes
    stays = stays_bytes(layer, x)
    return Cost(cut.timing, events, ceil(load), dram - ceil(load), stays, busy, cut.waits, tiling)


def cut_like(tiling: Tiling, gemm: Gemm) -> Cut:
    """Return `gemm`, which has less or more behind it, in the tiles of `tiling`."""
    return tiling.cut if gemm == tiling.cut.gemm else replace(tiling.cut, gemm=gemm)


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
