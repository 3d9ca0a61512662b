"""What streams behind a GEMM: it shares the vector unit, and costs what the GEMM takes longer."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, gemm_cycles, simulate, simulate_layers, workload
from refvit.accel.steps import steps_of
from refvit.accel.vector import softmax_behind, vector_cycles
from refvit.accel.widths import site_widths
from refvit.models import VARIANTS

EDGE, NANO = MACHINES["edge32"], VARIANTS["nano_vit"]
MODELS = ("nano_vit", "nano_swin", "deit_tiny", "deit_tiny_distilled")
FUSED = ((), ("requantize",), ("gelu",), ("requantize", "gelu", "add"),
         ("requantize", "gelu", "add", "softmax"))  # fmt: skip
vectors = st.builds(
    lambda hw, lanes, dram, fused, sums: replace(
        hw, vector_lanes=lanes, dram_bytes_per_cycle=dram, fused=fused,
        accumulator_bytes=sums if hw.cols <= 32 else hw.accumulator_bytes,
    ),
    st.sampled_from([MACHINES[name] for name in ("edge32", "edge16", "gemmini16", "cloud128")]),
    st.integers(1, 64), st.sampled_from([1.0, 4.0, 16.0, 1e6]), st.sampled_from(FUSED),
    st.sampled_from([0, 2**20]),
)  # fmt: skip


@given(st.sampled_from(MODELS), vectors)
@example("deit_tiny", replace(EDGE, vector_lanes=1))
@example("deit_tiny", replace(EDGE, vector_lanes=2, dram_bytes_per_cycle=1e6, fused=FUSED[3]))
@example("deit_tiny", replace(EDGE, vector_lanes=2, dram_bytes_per_cycle=1e6, fused=FUSED[4],
                              accumulator_bytes=2**20))  # fmt: skip
def test_no_unit_is_busy_for_longer_than_there_is_time(name, hw):
    """Step by step: what streams behind a GEMM has the same lanes and the same port."""
    rows = {row.name: row for row in simulate(VARIANTS[name], hw).rows}
    for step in steps_of(workload(VARIANTS[name]), hw, hw.fused):
        parts = [rows[layer.name] for layer in step.layers]
        cycles = sum(row.cycles for row in parts)
        assert sum(row.vector_cycles for row in parts) <= cycles
        assert sum(row.memory_cycles for row in parts) <= cycles
        assert all(row.cycles >= row.compute_cycles >= 0 for row in parts)


@given(st.sampled_from(MODELS), vectors)
def test_more_lanes_are_never_slower_by_more_than_a_twentieth(name, hw):
    few, many = (
        simulate(VARIANTS[name], each, residency=False).totals["cycles"]
        for each in (hw, replace(hw, vector_lanes=2 * hw.vector_lanes))
    )
    assert many <= few * 1.05


@given(st.sampled_from(MODELS), vectors)
def test_what_is_fused_is_never_slower_by_more_than_a_twentieth(name, hw):
    """Where nothing stays on chip anyway: else the room that a residual sum takes may be missed."""
    apart, together = (
        simulate(VARIANTS[name], each, residency=False).totals
        for each in (replace(hw, fused=()), hw)
    )
    assert together["cycles"] <= apart["cycles"] * 1.05
    assert together["macs"] == apart["macs"]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_fused_moves_no_more_on_edge32(name):
    before = simulate(VARIANTS[name], replace(EDGE, fused=())).totals
    for fused in (("requantize",), ("requantize", "gelu"), ("requantize", "gelu", "softmax")):
        after = simulate(VARIANTS[name], replace(EDGE, fused=fused)).totals
        assert after["dram_bytes"] <= before["dram_bytes"]
        before = after


def chain(M, K, N, lanes, dram=1e9, fused=("requantize", "gelu", "add"), residual=True):
    """fc, GELU and, if asked for, a residual sum, on one array whose buffers hold all of it."""
    big = dict.fromkeys(("sram_a_bytes", "sram_b_bytes", "sram_o_bytes"), 2**30)
    hw = replace(EDGE, vector_lanes=lanes, dram_bytes_per_cycle=dram, fused=fused, **big)
    n = M * N
    layers = [
        Layer("fc", "linear", "b", n, M, (M * K,), M, K, N, 1, True, ("x",), (("fc", n),)),
        Layer("act", "gelu", "b", n, M, (n,), reads=("fc",), writes=(("act", n),)),
    ]
    if residual:
        sites = ("act", "r")
        layers += [Layer("sum", "add", "b", n, M, (n, n), reads=sites, writes=(("sum", n),))]
    return hw, simulate_layers(layers, hw, site_widths(layers, 8), residency=False)


@pytest.mark.parametrize(("lanes", "passes"), [(1, 3), (2, 3), (1, 2), (64, 2)])
def test_three_operators_share_the_lanes_by_hand(lanes, passes):
    """64 x 32 x 64: 2 folds of 64 steps, 4,096 results, each of which passes once an operator."""
    _, rows = chain(64, 32, 64, lanes, residual=passes == 3)
    array, unit = gemm_cycles(64, 32, 64, 32, 32, "ws", True), 4096 // lanes
    edge = array - 2 * 64
    ends = [max(2 * 64, unit * n) + edge for n in range(1, passes + 1)]
    tiles = 4  # a memory this fast is busy a cycle for a tile's load and one for its store
    found, total = [row.cycles for row in rows], 0
    for cycles, end in zip(found, ends, strict=True):
        total += cycles
        assert end <= total <= end * 1.05 + 2 * tiles
    assert [row.vector_cycles for row in rows] == [unit] * passes
    assert [row.unit for row in rows] == ["array", "fused", "fused"][:passes]


def test_a_residual_comes_with_the_tiles_and_its_bytes_take_their_time():
    """At half a byte a cycle the port alone counts: 2,048 bytes more are 4,096 cycles more."""
    hw, rows = chain(32, 32, 64, 64, dram=0.5)
    total = rows[2]
    assert (total.load_bytes, total.store_bytes) == (32 * 64 * 1, 0)
    assert total.memory_cycles == 4096
    assert 4096 <= total.cycles <= 4096 * 1.05 + 4
    port = (32 * 32 + 32 * 64 + 32 * 64 * 3) / hw.dram_bytes_per_cycle  # the sum has 16 bits
    assert port <= sum(row.cycles for row in rows) <= port * 1.05 + 200


def test_a_gelu_hides_behind_its_gemm_where_there_are_lanes():
    _, rows = chain(256, 512, 256, 32, residual=False)
    assert rows[1].cycles == rows[1].compute_cycles == 0
    assert rows[1].vector_cycles == 256 * 256 // 32
    gelu = {layer.name: layer for layer in workload(NANO)}["blocks.0.mlp.act"]
    assert vector_cycles(gelu, 32) == 65 * 192 // 32


def test_softmax_reads_three_times_and_starts_every_row():
    softmax = {layer.name: layer for layer in workload(NANO)}["blocks.0.attn.softmax"]
    assert vector_cycles(softmax, 32) == -(-4 * 65 * 65 // 32) * 3 + 4 * 65 * 2


def test_softmax_behind_the_scores_by_hand():
    assert softmax_behind(300, 600, 3) == 100  # only that of the last head is seen
    assert softmax_behind(600, 300, 3) == 2 * 100 + 200
    assert softmax_behind(50, 100, 1) == 50
    assert softmax_behind(300, 600, 3, busy=360) == 2 * 20 + 100  # it shares its unit


@given(st.integers(1, 12), *(st.integers(0, 10**6) for _ in range(3)))
def test_scores_and_softmax_take_as_long_as_their_unit_is_busy(heads, softmax, gemm, busy):
    gemm = max(gemm, busy)  # the array waits for what streams behind it
    whole = gemm + softmax_behind(softmax, gemm, heads, busy)
    assert whole >= max(gemm, softmax + busy)


def test_a_narrow_vector_unit_slows_the_gemms_it_serves():
    wide, narrow = (simulate(NANO, replace(EDGE, vector_lanes=lanes)) for lanes in (32, 1))
    gemms = [i for i, row in enumerate(wide.rows) if row.macs]
    assert any(narrow.rows[i].compute_cycles > wide.rows[i].compute_cycles for i in gemms)
    assert all(narrow.rows[i].cycles >= wide.rows[i].cycles for i in gemms)
    assert "vector" in {narrow.rows[i].bound for i in gemms}


def test_the_residual_sum_can_stream_behind_proj():
    fused = replace(EDGE, fused=("requantize", "gelu", "add"))
    rows = {row.name: row for row in simulate(VARIANTS["deit_tiny"], fused).rows}
    add = rows["blocks.0.add1"]
    assert add.unit == "fused"
    assert add.load_bytes + add.resident_bytes == 197 * 192 * 2  # the stream alone
    assert add.store_bytes == 0  # proj's row stores the sum
    assert rows["blocks.0.attn.proj"].o_bits == 16


def test_sequential_passes_cost_what_the_machine_says():
    slow = replace(EDGE, passes=replace(EDGE.passes, softmax=6))
    name = "blocks.0.attn.softmax"
    once, twice = (
        next(row for row in simulate(NANO, hw).rows if row.name == name) for hw in (EDGE, slow)
    )
    assert twice.vector_cycles == 2 * once.vector_cycles
    assert twice.compute_cycles - once.compute_cycles == once.vector_cycles
