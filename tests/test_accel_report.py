"""Traffic, time, energy and the report: laws, and published figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, Machine, roofline, simulate, workload
from refvit.accel.energy import HIGHS, LOWS, TABLES, Events, energy_range_uj, energy_uj
from refvit.accel.roofline import dot
from refvit.accel.row import COUNTS, SUMMED
from refvit.accel.systolic import cut_cycles, gemm_cycles
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]
sizes = st.integers(1, 700)


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
        mac + registers + sram + 2 * 1300 / 8 + 0.5
    )
    low, high = energy_range_uj(events)
    assert low == energy_uj(events, LOWS["accelergy45"]) < high
    assert high == energy_uj(events, HIGHS["horowitz45"])


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
