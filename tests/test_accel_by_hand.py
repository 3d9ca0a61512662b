"""Rows of one layer or two, worked out by hand: every count that a machine adds up."""

import math
from dataclasses import replace

import pytest

from refvit.accel import MACHINES, Layer, simulate, simulate_layers
from refvit.accel.gemm import Operands, gemm_cost, gemm_of, sums_moved
from refvit.accel.memory import best_tiling
from refvit.accel.operators import fused_cost, softmax_cost, vector_cost
from refvit.accel.residency import needs
from refvit.accel.steps import Step, steps_of
from refvit.accel.stream import Timing
from refvit.accel.sweep import totals
from refvit.accel.vector import vector_cycles
from refvit.accel.widths import site_widths
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
BIG = dict.fromkeys(("sram_a_bytes", "sram_b_bytes", "sram_o_bytes"), 2**30)
ROOMY = replace(EDGE, **BIG)


def gemm(M, K, N, count=1, reads=("x",), name="fc"):
    weights = len(reads) == 1
    inputs = (M * K * count,) if weights else (M * K * count, K * N * count)
    size = M * N * count
    return Layer(name, "linear" if weights else "matmul", "b", size, M * count, inputs, M, K, N,
                 count, weights, reads, ((name, size),))  # fmt: skip


def other(name, op, rows, cols, *reads):
    size = rows * cols
    return Layer(name, op, "b", size, rows, (size,) * len(reads), reads=reads,
                 writes=((name, size),))  # fmt: skip


def moved(cost):
    return [bytes_moved for bytes_moved, _ in cost.events.sram_bytes]


def test_a_norm_reads_its_rows_in_every_pass():
    """10 rows of 64 codes, all on chip: three passes read, one result is written."""
    norm = other("n", "layer_norm", 10, 64, "x")
    cost = vector_cost(norm, EDGE, (640.0, 0.0), (640.0, 0.0))
    assert moved(cost) == [3 * 640, 0, 640, 0]
    fetched = vector_cost(norm, EDGE, (0.0, 640.0), (0.0, 640.0))
    assert moved(fetched) == [3 * 640 + 640, 0, 640 + 640, 0]  # loads are written, stores read
    assert fetched.events.vector_ops == 3 * 640
    assert cost.timing.compute == 3 * 640 // 32 + 2 * 10


def test_a_vector_layer_streams_by_rows_or_by_quarters_of_a_buffer():
    """8 rows of 64 KB on 128 KB: a quarter holds half a row, so 16 tiles."""
    layer = other("g", "gelu", 8, 2**16, "x")
    whole = 8 * 2**16
    cost = vector_cost(layer, EDGE, (0.0, whole), (0.0, 0.0))
    assert cost.timing.prologue == whole // 16 // 8
    short = other("g", "gelu", 64, 64, "x")
    assert vector_cost(short, EDGE, (0.0, 4096.0), (0.0, 0.0)).timing.prologue == 64 // 8


def test_a_mean_starts_no_rows():
    mean = Layer("m", "mean", "b", 64, 1, (640,), reads=("x",), writes=(("m", 64),))
    assert vector_cycles(mean, 32) == 20


@pytest.mark.parametrize(("dataflow", "pieces", "bytes_moved"), [
    ("os", 1, 0), ("os", 3, 4 * 64 * 32 * 2 * 3),
    ("ws", 1, 4 * 64 * 32 * (3 + 2 + 1)), ("is", 1, 4 * 64 * 32 * (3 + 2 + 1)),
])  # fmt: skip
def test_sums_pass_the_accumulator_as_often_as_they_leave_the_array(dataflow, pieces, bytes_moved):
    """64 x 96 x 32 on 32 x 32: in os once a piece of K, written and read; else three folds of K."""
    assert sums_moved(64, 96, 32, replace(EDGE, dataflow=dataflow), pieces) == bytes_moved


def test_what_stays_in_the_array_is_read_again_for_every_piece_of_time():
    """is, 64 x 64 x 4096: A stays, N is the time; cut in pieces, A is read once for each."""
    hw = replace(EDGE, dataflow="is", sram_b_bytes=2**15, sram_o_bytes=2**15)
    cost = gemm_cost(gemm(64, 64, 4096), hw, Operands(8, 8, 8))
    pieces = math.ceil(4096 / cost.tiling.time_piece)
    assert pieces > 1
    assert moved(cost)[0] == 64 * 64 * pieces + cost.tiling.a_bytes
    assert moved(cost)[1] == 64 * 4096 * 2 + cost.tiling.b_bytes


def test_softmax_reads_its_sums_in_every_pass():
    hw = replace(EDGE, passes=replace(EDGE.passes, softmax=5))
    layer = other("s", "softmax", 12, 64, "scores")
    cost = softmax_cost(layer, hw, 10**6, 3, 0)
    assert moved(cost) == [0, 0, 0, 4 * 12 * 64 * 5]
    assert cost.vector_cycles == 12 * 64 // 32 * 5


def test_a_fused_operand_from_dram_is_written_before_it_is_read():
    add, none = other("a", "add", 8, 64, "x", "r"), Timing(0, 0, 0, 0, 0)
    assert moved(fused_cost(add, EDGE, none, none, (0.0, 512.0)))[0] == 2 * 512
    assert moved(fused_cost(add, EDGE, none, none, (512.0, 0.0)))[0] == 512


def test_requantization_in_two_passes_is_twice_the_work():
    twice = replace(ROOMY, passes=replace(EDGE.passes, requantize=2))
    once, more = (gemm_cost(gemm(64, 64, 64), hw, Operands(8, 8, 8)) for hw in (ROOMY, twice))
    assert (once.vector_cycles, more.vector_cycles) == (64 * 64 // 32, 2 * 64 * 64 // 32)
    assert more.events.vector_ops == 2 * once.events.vector_ops == 2 * 64 * 64


def test_a_host_leaves_sums_as_they_are():
    assert gemm_of(gemm(8, 8, 8), EDGE, Operands(8, 8, 32), host=True).streamed == 0
    report = simulate(VARIANTS["nano_vit"], "edge32", nonlinear="host")
    assert all(row.vector_cycles == 0 for row in report.rows if row.macs)


def test_heads_need_room_for_the_next_one_and_for_two_tiles_where_they_do_not_fit():
    bits = {"q": 8, "k": 8, "scores": 8}.__getitem__
    layer = gemm(64, 32, 64, 3, ("q", "k"), "scores")
    assert needs(Step((layer,)), ROOMY, bits) == (2 * 64 * 32, 2 * 32 * 64, 2 * 64 * 64 * 4)
    assert needs(Step((layer,)), replace(MACHINES["edge16"], sram_a_bytes=2048), bits)[0] == 2048
    single = gemm(64, 32, 64)
    known = {"x": 8, "fc": 8, "fc.weight": 8}.__getitem__
    assert needs(Step((single,)), ROOMY, known) == (64 * 32, 32 * 64, 64 * 64 * 4)


def test_the_tiling_suits_all_that_streams_behind_a_gemm():
    """197 x 768 x 192 on one lane: alone it would be cut otherwise, and be 8 % slower with both."""
    hw = replace(EDGE, vector_lanes=1, dram_bytes_per_cycle=16.0, sram_o_bytes=2**15,
                 fused=("requantize", "gelu", "add"))  # fmt: skip
    layers = [gemm(197, 768, 192), other("act", "gelu", 197, 192, "fc"),
              other("sum", "add", 197, 192, "act", "r")]  # fmt: skip
    widths = site_widths(layers, 8) | {"sum": 16}
    rows = simulate_layers(layers, hw, widths, residency=False)
    alone = gemm_of(layers[0], hw, Operands(8, 8, 16))
    together = replace(alone, streamed=3, beside=1.0)
    best = best_tiling(together, hw)
    assert best.cut.tile != best_tiling(alone, hw).cut.tile
    assert sum(row.cycles for row in rows) == best.cycles
    assert (rows[0].tile_m, rows[0].tile_k, rows[0].tile_n) == best.cut.tile


def test_sums_that_spill_are_results_at_the_last_piece_alone():
    """2048 x 1024 x 64 in tiles 32 x 128 x 32 on two lanes: seven of eight pieces of K hide none
    of the 512 cycles of a tile's results."""
    hw = replace(EDGE, vector_lanes=2)
    x = replace(gemm_of(gemm(2048, 1024, 64), hw, Operands(8, 8, 8)))
    cut = replace(best_tiling(x, hw).cut, tile=(32, 128, 32), order="weights outer")
    assert cut.spills
    array = 4 * 32  # four folds of 32 steps
    assert cut.timing.compute - cut.edge == 64 * 2 * (7 * array + 32 * 32 // 2)
    stays = replace(cut, order="results outer")
    assert stays.timing.compute - stays.edge == 64 * 2 * 8 * array


def test_softmax_waits_for_scores_that_wait_for_memory():
    """Head by head, at the pace of the scores: g + (h - 1) max(g, s + b) + s."""
    hw = replace(EDGE, fused=("requantize", "softmax"), accumulator_bytes=2**20)
    rows = {r.name: r for r in simulate(VARIANTS["deit_tiny"], hw, residency=False).rows}
    scores, softmax = rows["blocks.0.attn.scores"], rows["blocks.0.attn.softmax"]
    assert scores.bound == "memory"
    g, s, b = scores.cycles, softmax.vector_cycles + 2 * 3 * 197, scores.vector_cycles
    whole = (g + 2 * max(g, s + b) + s) / 3
    assert scores.cycles + softmax.cycles == math.ceil(whole)


def test_nothing_streams_behind_a_softmax():
    layers = [gemm(32, 32, 32, 3, ("q", "k"), "scores"), other("soft", "softmax", 96, 32, "scores"),
              other("sum", "add", 96, 32, "soft", "r")]  # fmt: skip
    hw = replace(ROOMY, fused=("requantize", "softmax", "add"))
    steps = steps_of(layers, hw, hw.fused)
    assert [[layer.name for layer in step.layers] for step in steps] == [
        ["scores", "soft"],
        ["sum"],
    ]
    rows = simulate_layers(layers, hw, site_widths(layers, 8))
    assert [row.unit for row in rows] == ["array", "fused", "vector"]


def test_totals_of_a_recipe_that_names_a_few_sites():
    """One layer in the middle of a chain differs: no other block may stand for it."""
    recipe = {f"blocks.{i}.mlp.fc1.weight": 4 for i in (5, 10)}
    whole = simulate(VARIANTS["deit_tiny"], recipe=recipe).totals
    short = totals(VARIANTS["deit_tiny"], recipe=recipe)
    assert {key: short[key] for key in ("cycles", "dram_bytes")} == {
        key: whole[key] for key in ("cycles", "dram_bytes")
    }
