"""Traffic, time, energy and the report: laws, and published figures."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Machine, roofline, simulate, workload
from refvit.accel.energy import TABLES, Events, energy_range_uj, energy_uj
from refvit.accel.memory import best_tiling, recurrence, two_buffers
from refvit.accel.vector import vector_cycles
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
def test_the_closed_form_is_the_recurrence_where_it_says_so(c, d, s, tiles):
    exact = recurrence([c] * tiles, [d] * tiles, [s] * tiles)
    closed = two_buffers(c, d, s, tiles)
    assert exact <= closed.cycles <= exact + min(c, s)
    if c >= d + s:
        assert closed.cycles == exact
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
        assert 0 <= row.uj_low <= row.uj_high
        assert row.bound in {"compute", "memory", "vector"}
        assert 0 <= row.utilization <= 1
    for key in ("macs", "cycles", "dram_bytes", "us", "uj_low", "uj_high", "stall_cycles"):
        assert report.totals[key] == sum(getattr(row, key) for row in report.rows)
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


def test_the_report_in_every_form():
    report = simulate(NANO)
    data = json.loads(report.to_json())
    assert data["totals"]["macs"] == 8_958_816
    assert len(data["rows"]) == len(report.rows)
    assert "leakage" in data["not_modelled"]
    for groups in (True, False):
        text = report.table(groups)
        assert text.count("\n") == (len(report.groups) if groups else len(report.rows)) + 3
        assert len({len(line.split("  ")[0]) for line in text.splitlines()}) > 1
    page = report.to_html()
    assert page.count("<rect") == len(report.rows)
    assert "http" not in page.replace("http-equiv", "")
    assert report._repr_html_().startswith("<pre>")


def test_the_trace_nests_layers_in_blocks_in_the_forward():
    events = json.loads(simulate(NANO).to_trace())["traceEvents"]
    ends = [(e["ts"], e["ts"] + e["dur"]) for e in events]
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
    ("change", "message"),
    [
        ({"rows": 0}, "above 0"),
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
    assert isinstance(EDGE, Machine)
