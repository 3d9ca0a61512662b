"""Traffic, time, energy and the report: laws, and published figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, Machine, roofline, simulate, workload
from refvit.accel.energy import TABLES, Events, energy_range_uj, energy_uj
from refvit.accel.memory import best_tiling, recurrence, two_buffers
from refvit.accel.roofline import dot
from refvit.accel.row import COUNTS, SUMMED
from refvit.accel.systolic import cut_cycles, gemm_cycles
from refvit.accel.vector import requantize_cycles, vector_cycles
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]
sizes = st.integers(1, 700)
times = st.integers(0, 50)


@given(sizes, sizes, sizes, st.sampled_from(["os", "ws", "is"]), st.integers(0, 4))
def test_traffic_is_compulsory_at_least_and_falls_with_larger_buffers(M, K, N, df, doublings):
    small = replace(EDGE, dataflow=df, sram_a_bytes=8192, sram_b_bytes=8192, sram_o_bytes=16384)
    grow = 2**doublings
    large = replace(
        small, sram_a_bytes=8192 * grow, sram_b_bytes=8192 * grow, sram_o_bytes=16384 * grow
    )
    a, b = (best_tiling(M, K, N, hw, 1, 1, 1) for hw in (small, large))
    assert a.bytes >= b.bytes >= M * K + K * N + M * N
    for tiling, hw in ((a, small), (b, large)):
        assert tiling.m * tiling.k <= hw.sram_a_bytes // 2
        assert tiling.k * tiling.n <= hw.sram_b_bytes // 2
        assert 4 * tiling.m * tiling.n <= hw.sram_o_bytes // 2
    endless = replace(
        EDGE, dataflow=df, **dict.fromkeys(("sram_a_bytes", "sram_b_bytes", "sram_o_bytes"), 2**26)
    )
    assert best_tiling(M, K, N, endless, 1, 1, 1).bytes == M * K + K * N + M * N


def test_tiling_by_hand():
    """A 64 x 4096 x 64 GEMM in 8 KB halves: K is cut, sums stay, so nothing moves twice."""
    hw = replace(EDGE, sram_a_bytes=16384, sram_b_bytes=16384, sram_o_bytes=32768)
    tiling = best_tiling(64, 4096, 64, hw, 1, 1, 1)
    assert tiling.bytes == 2 * 64 * 4096 + 64 * 64
    assert tiling.k <= 128
    tight = replace(hw, sram_o_bytes=8192)  # half holds 1,024 sums: 32 x 32 of the output
    assert best_tiling(64, 4096, 64, tight, 1, 1, 1).bytes > tiling.bytes


@given(times, times, times, st.integers(1, 12))
def test_the_closed_form_is_the_recurrence(c, d, s, tiles):
    exact = recurrence([c] * tiles, [d] * tiles, [s] * tiles)
    closed = two_buffers(c, d, s, tiles)
    assert closed.cycles == exact
    simple = d + (tiles - 1) * max(c, d + s) + c + s  # the pipeline as textbooks have it
    assert exact <= simple <= exact + min(c, s)
    assert closed.stall == closed.cycles - c * tiles >= 0


@given(st.lists(st.tuples(times, times, times), min_size=1, max_size=8))
def test_time_is_at_least_each_of_its_parts(tiles):
    c, d, s = (list(map(float, part)) for part in zip(*tiles, strict=True))
    total = recurrence(c, d, s)
    assert total >= max(sum(c), sum(d) + sum(s))
    assert total <= sum(c) + sum(d) + sum(s)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["nano_vit", "deit_tiny"])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_rows_add_up_and_keep_their_floors(machine, name, bits):
    report = simulate(VARIANTS[name], machine, bits)
    hw = report.machine
    layers = {layer.name: layer for layer in workload(VARIANTS[name])}
    assert [row.name for row in report.rows] == list(layers)
    for row in report.rows:
        assert row.cycles * hw.rows * hw.cols >= row.macs
        assert row.cycles >= row.compute_cycles + row.stall_cycles - 1
        assert row.cycles >= row.dram_bytes / hw.dram_bytes_per_cycle - 1
        assert 0 <= row.uj_low <= row.uj <= row.uj_high
        parts = row.uj_array + row.uj_sram + row.uj_dram + row.uj_vector
        assert row.uj == pytest.approx(parts)
        assert row.bound in {"compute", "memory", "vector"}
        assert 0 <= row.utilization <= 1
    for key in COUNTS + SUMMED:
        assert report.totals[key] == math.fsum(getattr(row, key) for row in report.rows)
    assert report.totals["macs"] == sum(layer.macs for layer in layers.values())


def test_more_bandwidth_fewer_bits_and_overlap_are_never_slower():
    base = simulate(NANO, EDGE).totals["cycles"]
    assert simulate(NANO, replace(EDGE, dram_bytes_per_cycle=64.0)).totals["cycles"] < base
    assert simulate(NANO, replace(EDGE, overlap=False)).totals["cycles"] >= base
    assert (
        simulate(NANO, EDGE, bits=4).totals["cycles"]
        <= base
        <= simulate(NANO, EDGE, bits=16).totals["cycles"]
    )
    assert simulate(NANO, EDGE, batch=4).totals["macs"] == 4 * simulate(NANO, EDGE).totals["macs"]


def test_energy_by_hand():
    events = Events(macs=10, bits=8, sram_bytes=((8, 1024), (16, 4096)), dram_bytes=2, vector_ops=5)
    mac, registers = 10 * 0.30, 10 * 48 * 0.009
    sram = 8 * 3.5 / 8 + 16 * 3.5 * 2 / 8
    assert energy_uj(events, TABLES["horowitz45"]) * 1e6 == pytest.approx(
        mac + registers + sram + 324 + 0.5
    )
    low, high = energy_range_uj(events)
    assert low == energy_uj(events, TABLES["accelergy45"]) < high


def test_gelu_hides_behind_its_gemm_and_softmax_reads_three_times():
    layers = {layer.name: layer for layer in workload(NANO)}
    gelu = layers["blocks.0.mlp.act"]
    assert vector_cycles(gelu, 32, gemm_cycles=1e9) == 0
    assert vector_cycles(gelu, 32, gemm_cycles=100) == 65 * 192 // 32 - 100
    assert (
        vector_cycles(layers["blocks.0.attn.softmax"], 32) == -(-4 * 65 * 65 // 32) * 3 + 4 * 65 * 2
    )


@given(st.integers(0, 10**6), st.integers(1, 64), st.integers(0, 10**6))
def test_requantizing_hides_behind_its_gemm_or_outlasts_it(elements, lanes, cycles):
    extra = requantize_cycles(elements, lanes, cycles)
    assert max(cycles, -(-elements // lanes)) == cycles + extra


def test_a_narrow_vector_unit_slows_the_gemms_it_serves():
    wide, narrow = (simulate(NANO, replace(EDGE, vector_lanes=lanes)) for lanes in (32, 1))
    gemms = [i for i, row in enumerate(wide.rows) if row.macs]
    assert any(narrow.rows[i].compute_cycles > wide.rows[i].compute_cycles for i in gemms)
    assert all(narrow.rows[i].cycles >= wide.rows[i].cycles for i in gemms)


def test_the_report_in_every_form():
    report = simulate(NANO)
    data = json.loads(report.to_json())
    assert data["totals"]["macs"] == 8_958_816
    assert len(data["rows"]) == len(report.rows)
    assert "leakage" in data["not_modelled"]
    for bits in (4, 16):
        assert "an assumption" in simulate(NANO, bits=bits).table()
    assert "an assumption" not in report.table()
    for groups in (True, False):
        text = report.table(groups)
        assert text.count("\n") == (len(report.groups) if groups else len(report.rows)) + 3
        assert len({len(line.split("  ")[0]) for line in text.splitlines()}) > 1
    assert "edge32" in report.to_html()


def test_the_trace_nests_layers_in_blocks_in_the_forward():
    events = json.loads(simulate(NANO).to_trace())["traceEvents"]
    ends = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["tid"] == 0]
    assert ends[0][1] == pytest.approx(max(end for _, end in ends))
    open_spans: list[tuple[float, float]] = []
    for start, end in ends:
        while open_spans and start >= open_spans[-1][1] - 1e-9:
            open_spans.pop()
        assert not open_spans or end <= open_spans[-1][1] + 1e-6
        open_spans.append((start, end))


# Operations a byte at 16 bits, unfused (QK^T and A V are alike for d = 64, N = 197).
INTENSITIES = {
    "patch_embed": 129.8,
    "blocks.0.attn.qkv": 146.8,
    "blocks.0.attn.proj": 130.2,
    "blocks.0.mlp.fc1": 149.2,
    "blocks.0.mlp.fc2": 149.2,
    "blocks.0.attn.scores": 38.8,
    "blocks.0.attn.context": 38.8,
    "blocks.0.mlp.act": 2.0,
    "blocks.0.norm1": 1.75,
    "blocks.0.attn.softmax": 1.25,
    "blocks.0.add1": 1 / 6,
    "head": 1.0,
}


@pytest.mark.parametrize("name", INTENSITIES)
def test_the_roofline_has_the_intensities_of_vit_base(name):
    dots = {row.name: row for row in roofline(VARIANTS["vit_base"], bits=16).rows}
    halves = {row.name: row for row in roofline(VARIANTS["vit_base"], bits=8).rows}
    assert dots[name].intensity == pytest.approx(INTENSITIES[name], rel=2.5e-3)
    assert halves[name].intensity == pytest.approx(2 * dots[name].intensity)
    assert dots[name].attainable <= roofline(VARIANTS["vit_base"]).peak


@pytest.mark.parametrize(
    ("name", "intensity"), [("deit_tiny", 88.2), ("deit_small", 136.2), ("vit_base", 197.7)]
)
def test_the_roofline_has_the_intensities_of_whole_models(name, intensity):
    """To the last digit in test_accel_roofline."""
    assert roofline(VARIANTS[name]).intensity == pytest.approx(intensity, rel=5e-3)


# Kim et al. 2023, table 3, BERT-Base at 8 bits: length, operations a byte of projections,
# feed-forward and attention products, and their billions of operations over 12 layers.
KIM = [
    (128, 192.00, 211.86, 63.62, 7.25, 14.50, 0.60),
    (512, 438.86, 558.54, 101.95, 28.99, 57.98, 9.62),
    (4096, 702.17, 1068.52, 123.63, 231.93, 463.86, 616.02),
]


@pytest.mark.parametrize("row", KIM, ids=lambda row: row[0])
def test_the_roofline_has_the_rows_of_kim_et_al(row):
    length, *intensities, projections, feed_forward, attention = row
    for (inner, cols), intensity in zip(((768, 768), (768, 3072)), intensities, strict=False):
        got = gemm_dot(length, inner, cols).intensity
        assert got == pytest.approx(intensity, abs=0.01)
    scores, context = gemm_dot(length, 64, length, 12), gemm_dot(length, length, 64, 12)
    # the paper counts K - 1 additions for K products, so one operation less an output
    ops = scores.ops + context.ops - 12 * (length * length + length * 64)
    assert ops / (scores.bytes + context.bytes) == pytest.approx(intensities[2], abs=0.01)
    assert 12 * ops / 1e9 == pytest.approx(attention, abs=0.01)
    assert 12 * 4 * gemm_dot(length, 768, 768).ops / 1e9 == pytest.approx(projections, abs=0.01)
    assert 12 * 2 * gemm_dot(length, 768, 3072).ops / 1e9 == pytest.approx(feed_forward, abs=0.01)


def gemm_dot(M, K, N, count=1):
    """The place of `count` equal GEMMs under the roof of edge32, at 8 bits."""
    weights = count == 1
    inputs = (M * K * count,) if weights else (M * K * count, K * N * count)
    layer = Layer("x", "linear", "x", M * N * count, M, inputs, M, K, N, count, weights)
    return dot(layer, 8, 2048.0, 8.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "machine 'edge32': rows is 0; it has to be above 0"),
        ({"cols": 2.5}, "cols is 2.5; give a whole number"),
        ({"energy": "coal"}, "no energy table 'coal'; there are horowitz45, accelergy45"),
        ({"dataflow": "xs"}, "no dataflow 'xs'"),
        ({"sram_a_bytes": 1024}, "half a buffer must hold a tile"),
    ],
)
def test_impossible_machines_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(EDGE, **change)
    with pytest.raises(ValueError, match="no machine 'cray'; there are edge32, edge16"):
        simulate(NANO, "cray")
    with pytest.raises(ValueError, match="3 bits"):
        simulate(NANO, bits=3)
    with pytest.raises(ValueError, match="wanted a model or its configuration, got 42"):
        simulate(42)
    with pytest.raises(ValueError, match="0 bits"):
        roofline(NANO, bits=0)
    assert isinstance(EDGE, Machine)


@given(sizes, sizes, sizes, st.sampled_from(["os", "ws", "is"]), st.booleans(), st.integers(1, 700))
def test_cutting_the_time_axis_is_paid_for(M, K, N, df, overlap, piece):
    array = (8, 4, df, overlap)
    whole = cut_cycles((M, K, N), 10_000, *array)
    assert whole == gemm_cycles(M, K, N, *array)
    assert cut_cycles((M, K, N), piece, *array) >= whole


@pytest.mark.parametrize("name", ["deit_tiny", "vit_base"])
@pytest.mark.parametrize("machine", MACHINES)
def test_larger_buffers_never_move_more(name, machine):
    """Bytes fall with size; time may not, as fewer, larger tiles overlap less."""
    hw = MACHINES[machine]
    before = None
    for grow in (1, 2, 4, 32):
        buffers = {
            key: getattr(hw, key) * grow for key in ("sram_a_bytes", "sram_b_bytes", "sram_o_bytes")
        }
        moved = simulate(VARIANTS[name], replace(hw, **buffers)).totals["dram_bytes"]
        assert before is None or moved <= before
        before = moved


def test_columns_never_touch_and_sizes_never_wrap():
    text = simulate(VARIANTS["vit_large"], batch=8).table(groups=False)
    widths = [len(line.split()) for line in text.splitlines()[2:-2]]
    assert set(widths) == {9}
    big = np.int32(2**20)
    assert gemm_cycles(big, big, big) == gemm_cycles(2**20, 2**20, 2**20) > 2**31


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_every_gemm_moves_its_operands_at_least_once(bits):
    layers = {layer.name: layer for layer in workload(VARIANTS["deit_tiny"])}
    for row in simulate(VARIANTS["deit_tiny"], bits=bits).rows:
        x = layers[row.name]
        least = x.count * (x.M * x.K + x.K * x.N + x.M * x.N) * bits // 8
        assert row.dram_bytes + row.resident_bytes >= least  # what stays on chip need not move
