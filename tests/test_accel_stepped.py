"""The stepped array: every product the integer engine's, every cycle the closed form's."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import gemm_cycles, step_gemm, timeline
from refvit.accel.systolic import DATAFLOWS, ceil_div, first_result_cycle, mapping
from refvit.accel.timeline import MOVE, WORK
from refvit.integer import FAST, PLAIN

small, arrays = st.integers(1, 13), st.integers(1, 7)
shapes = st.tuples(small, small, small, arrays, arrays, st.sampled_from(DATAFLOWS), st.booleans())


@given(shapes, st.sampled_from(["random", "least", "mixed"]))
@example((1, 1, 1, 1, 1, "os", True), "least")
@example((13, 13, 13, 1, 1, "is", True), "least")  # a 1 x 1 array
@example((13, 2, 13, 7, 3, "ws", True), "least")  # K < R: a fold waits for its weights
@example((1, 13, 5, 4, 6, "ws", True), "mixed")  # M = 1
@example((13, 1, 13, 5, 2, "os", True), "least")  # K < R: a fold waits for the drain
@example((13, 13, 13, 4, 3, "os", False), "mixed")  # many folds, the last ones part full
def test_products_are_the_engines_and_cycles_the_closed_form(shape, codes):
    """Also of -128 x -128, the product that int8 cannot negate."""
    M, K, N, *array = shape
    rng = np.random.default_rng(M * 169 + K * 13 + N)
    low, high = {"random": (-128, 127), "least": (-128, -128), "mixed": (-1, 1)}[codes]
    a, b = (rng.integers(low, high + 1, size).astype(np.int8) for size in ((M, K), (K, N)))
    product, cycles = step_gemm(a, b, *array)
    assert product.dtype == np.int32
    for arithmetic in (PLAIN, FAST):
        assert np.array_equal(product, arithmetic.matmul(a, b))
    assert cycles == gemm_cycles(M, K, N, *array)


@given(shapes)
def test_a_timeline_shows_all_the_work_and_nothing_else(shape):
    M, K, N, rows, cols, df, _ = shape
    line = timeline(*shape)
    a, b, time = mapping(M, K, N, df)
    folds = ceil_div(a, rows) * ceil_div(b, cols)
    assert line.cycles == gemm_cycles(*shape) == sum(cycles for _, cycles in line.phases)
    assert line.works.sum() == folds * rows * cols * time
    assert line.moves.sum() == folds * rows * cols * rows
    assert line.leaves.sum() == folds * cols * (rows if df == "os" else time)
    assert line.leaves[-1].any(), "the last cycle latches a result"
    assert line.leaves.any(1).argmax() == first_result_cycle(*shape)


@given(shapes)
def test_every_pe_does_the_same_at_its_own_time(shape):
    """PE(r, c) does at cycle t + r + c what PE(0, 0) does at t."""
    line = timeline(*shape)
    _, rows, cols = line.works.shape
    for marks in (line.works, line.moves):
        for r, c in np.ndindex(rows, cols):
            assert np.array_equal(marks[r + c :, r, c], marks[: len(marks) - r - c, 0, 0])
            assert not marks[: r + c, r, c].any()


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_the_picture_has_a_mark_for_every_step(dataflow, overlap):
    line = timeline(6, 5, 4, 4, 3, dataflow, overlap)
    root = ElementTree.fromstring(line.to_svg())
    fills = [node.get("fill") for node in root.iter()]
    assert fills.count(WORK) == line.works.sum() + 1  # and one in the key
    assert fills.count(MOVE) == line.moves.sum() + 1
    assert sum(node.tag.endswith("circle") for node in root.iter()) == line.leaves.sum()
    width, height = (float(x) for x in root.get("viewBox").split()[2:])
    for node in root.iter("{http://www.w3.org/2000/svg}rect"):
        if node.get("x"):
            assert float(node.get("x")) + float(node.get("width")) <= width
            assert float(node.get("y")) + float(node.get("height")) <= height
    assert line._repr_svg_() == line.to_svg()
    assert f"{line.cycles} cycles" in line.to_svg()


def test_recorded_arrays_give_their_first_result_when_stepped(shared):
    """The SystemVerilog array says when its first result is latched; so does the stepped one."""
    records = json.loads((shared / "reference" / "rtl_cycles.json").read_text())["records"]
    for r in records:
        shape = (r["M"], r["K"], r["N"], r["R"], r["C"], r["dataflow"], bool(r["overlap"]))
        assert first_result_cycle(*shape) == r["first_output_cycle"]
        if r["cycles"] * r["R"] * r["C"] < 5000:
            assert timeline(*shape).leaves.any(1).argmax() == r["first_output_cycle"]


def test_a_picture_that_nobody_can_read_is_refused():
    with pytest.raises(ValueError, match="1024 PEs and 3492 cycles is too large to read"):
        timeline(197, 192, 64, 32, 32)
    with pytest.raises(ValueError, match="rows is a whole number"):
        timeline(2, 2, 2, 0, 2)
