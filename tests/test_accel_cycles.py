"""Cycles: closed forms against recordings, and against an array stepped edge by edge."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import gemm_cycles, mapping_efficiency, sram_reads, step_gemm, workload
from refvit.accel.records import read_folder, recorded
from refvit.accel.systolic import DATAFLOWS, mapping, sram_outputs, utilization
from refvit.models import VARIANTS

RECORDED = recorded()
small = st.integers(1, 13)


@pytest.mark.parametrize("r", RECORDED["scalesim"], ids=lambda r: " ".join(map(str, r.values())))
def test_cycles_and_sram_reads_equal_scalesim(r):
    gemm, array = (r["M"], r["K"], r["N"]), (r["array_rows"], r["array_cols"], r["dataflow"])
    assert gemm_cycles(*gemm, *array, compat="scalesim") == r["cycles"]
    assert sram_reads(*gemm, *array) == (r["sram_ifmap_reads"], r["sram_filter_reads"])
    assert sram_outputs(*gemm, r["array_rows"], r["dataflow"])[0] == r["sram_ofmap_writes_true"]


@pytest.mark.parametrize("r", RECORDED["rtl"], ids=lambda r: " ".join(map(str, r.values())))
def test_cycles_equal_rtl(r):
    gemm = (r["M"], r["K"], r["N"])
    got = gemm_cycles(*gemm, r["R"], r["C"], r["dataflow"], overlap=bool(r["overlap"]))
    assert got == r["cycles"]


def test_the_records_that_travel_along_are_all_there_are(shared):
    assert read_folder(shared / "reference") == RECORDED


@given(small, small, small, small, small, st.sampled_from(DATAFLOWS), st.booleans())
@example(1, 1, 1, 1, 1, "ws", True)
@example(3, 13, 2, 5, 1, "os", True)
def test_a_stepped_array_makes_the_product_in_exactly_those_cycles(
    M, K, N, rows, cols, df, overlap
):
    rng = np.random.default_rng(M * 13 + K)
    a = rng.integers(-128, 128, (M, K)).astype(np.int8)
    b = rng.integers(-128, 128, (K, N)).astype(np.int8)
    product, cycles = step_gemm(a, b, rows, cols, df, overlap)
    assert product.dtype == np.int32
    assert np.array_equal(product, a.astype(int) @ b.astype(int))
    assert cycles == gemm_cycles(M, K, N, rows, cols, df, overlap)


sizes = st.integers(1, 400)


@given(sizes, sizes, sizes, small, small, st.sampled_from(DATAFLOWS))
def test_cycles_are_never_below_the_work_and_overlap_never_hurts(M, K, N, rows, cols, df):
    plain = gemm_cycles(M, K, N, rows, cols, df)
    overlapped = gemm_cycles(M, K, N, rows, cols, df, overlap=True)
    assert overlapped * rows * cols >= M * K * N
    assert plain >= overlapped
    assert 0 < mapping_efficiency(M, K, N, rows, cols, df) <= 1
    reads = sram_reads(M, K, N, rows, cols, df)
    assert reads[0] >= M * K
    assert reads[1] >= K * N


@given(small, small, small, st.integers(1, 5), st.sampled_from(DATAFLOWS))
def test_equal_gemms_in_a_row(M, K, N, count, df):
    one = gemm_cycles(M, K, N, 4, 3, df)
    assert gemm_cycles(M, K, N, 4, 3, df, count=count) == count * one
    stream = gemm_cycles(M, K, N, 4, 3, df, overlap=True, count=count)
    assert stream <= count * gemm_cycles(M, K, N, 4, 3, df, overlap=True)


# Thousands of cycles of a whole model (SCALE-Sim's rule), by (model, dataflow) at 8, 16, 32, 128;
# every head and every window is a GEMM of its own.
TOTALS = {
    ("vit_base", "os"): (284120, 75570, 21280, 1990),
    ("vit_base", "ws"): (305540, 84960, 25550, 3374),
    ("vit_base", "is"): (285900, 76480, 21780, 2158),
    ("deit_tiny", "os"): (21270, 5954, 1838, 274),
    ("deit_tiny", "ws"): (21890, 6124, 1862, 360),
    ("deit_tiny", "is"): (21750, 6201, 1973, 327),
    ("swin_tiny", "os"): (77060, 21560, 6224, 1229),
    ("swin_tiny", "ws"): (81300, 23450, 7365, 1762),
    ("swin_tiny", "is"): (78370, 22270, 6588, 1521),
}


@pytest.mark.parametrize("key", TOTALS, ids=str)
def test_whole_models_take_the_recorded_cycles(key):
    name, df = key
    gemms = [layer for layer in workload(VARIANTS[name]) if layer.M]
    for side, thousands in zip((8, 16, 32, 128), TOTALS[key], strict=True):
        total = sum(
            x.count * gemm_cycles(x.M, x.K, x.N, side, side, df, compat="scalesim") for x in gemms
        )
        printed = 5 if thousands > 10_000 else 0.5  # half of the last digit recorded
        assert total / 1e3 == pytest.approx(thousands, abs=printed)


# Thousands of cycles on square arrays as the RTL takes them, each GEMM alone, by (model, side):
# ideal, OS, OS overlapped, WS, WS overlapped.
RTL_TOTALS = {
    ("vit_base", 16): (68609, 77165, 72585, 84960, 68826),
    ("vit_base", 32): (17152, 22159, 19614, 25550, 17303),
    ("vit_base", 128): (1072, 2269, 1602, 3374, 1277),
    ("deit_tiny", 16): (4897, 6354, 5209, 6124, 4953),
    ("deit_tiny", 32): (1224, 2058, 1423, 1862, 1266),
    ("swin_tiny", 32): (4385, 6847, 5193, 7365, 4632),
}


@pytest.mark.parametrize("key", RTL_TOTALS, ids=str)
def test_whole_models_take_the_cycles_of_the_rtl(key):
    name, side = key
    gemms = [layer for layer in workload(VARIANTS[name]) if layer.M]
    ways = [(df, overlap) for df in ("os", "ws") for overlap in (False, True)]
    got = [sum(layer.macs for layer in gemms) / side**2] + [
        sum(x.count * gemm_cycles(x.M, x.K, x.N, side, side, df, overlap) for x in gemms)
        for df, overlap in ways
    ]
    assert [x / 1e3 for x in got] == pytest.approx(RTL_TOTALS[key], abs=0.5001)
    merged = sum(gemm_cycles(x.M, x.K, x.N, side, side, "ws", True, count=x.count) for x in gemms)
    assert got[0] <= merged <= got[4]  # the heads as one stream


def test_linears_that_read_one_input_are_one_gemm():
    layers = {layer.name: layer for layer in workload(VARIANTS["vit_base"])}
    qkv = layers["blocks.0.attn.qkv"]
    assert (qkv.M, qkv.K, qkv.N, qkv.count, qkv.weights) == (197, 768, 2304, 1, True)
    scores = layers["blocks.0.attn.scores"]
    assert (scores.M, scores.K, scores.N, scores.count) == (197, 64, 197, 12)
    assert not scores.weights


@given(small, small, small, small, small, st.sampled_from(DATAFLOWS), st.booleans())
def test_utilization_is_mapping_times_pipeline(M, K, N, rows, cols, df, overlap):
    """Time is MACs / (PEs x both): what padding wastes, and what filling and draining waste."""
    cycles = gemm_cycles(M, K, N, rows, cols, df, overlap)
    used = utilization(M * K * N, cycles, rows, cols)
    a, b, time = mapping(M, K, N, df)
    pipeline = -(-a // rows) * -(-b // cols) * time / cycles  # cycles that stream, of all
    assert used == pytest.approx(mapping_efficiency(M, K, N, rows, cols, df) * pipeline)
    assert 0 < used <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"M": 0}, "M is a whole number of at least 1; got 0"),
        ({"K": 2.5}, "K is a whole number of at least 1; got 2.5"),
        ({"count": 0}, "count is a whole number of at least 1"),
        ({"dataflow": "rs"}, "no dataflow 'rs'; there are os, ws, is"),
        ({"compat": "timeloop"}, "no compat"),
        ({"compat": "scalesim", "overlap": True}, "does not overlap"),
    ],
)
def test_impossible_requests_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gemm_cycles(**({"M": 2, "K": 3, "N": 4} | change))
    with pytest.raises(ValueError, match=r"wanted \[M, K\]"):
        step_gemm(np.zeros((2, 3), np.int8), np.zeros((4, 3), np.int8), 2, 2)
    with pytest.raises(ValueError, match="operands are int8; got float64 and float64"):
        step_gemm(np.ones((2, 2)), np.ones((2, 2)), 2, 2)
    with pytest.raises(ValueError, match="rows is a whole number"):
        step_gemm(np.ones((2, 2), np.int8), np.ones((2, 2), np.int8), 0, 2)
    for count in (mapping_efficiency, sram_reads):
        with pytest.raises(ValueError, match="K is a whole number"):
            count(2, 0, 2, 4, 4, "ws")
