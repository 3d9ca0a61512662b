"""Validation: the committed table is what the command prints, and a wrong figure is noticed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import refvit
from refvit import validated_papers, validated_records
from refvit.accel import simulate
from refvit.accel.checks import Check, Figure
from refvit.accel.kim import KIM_USED
from refvit.accel.published import (
    GROUP_VECTOR,
    GROUP_VECTOR_MS,
    ZIGZAG,
    group_vector_parts,
    ideal_cycles,
    least_cycles,
    simulated_cycles,
)
from refvit.accel.records import COLUMNS, FILES, recorded
from refvit.cli import main
from refvit.models import VARIANTS
from refvit.validate import validate
from refvit.validate_command import as_json, table
from refvit.validated_papers import GROUP_VECTOR_STATED, used
from refvit.validated_records import zigzag_row

COMMITTED = Path(refvit.__file__).parent / "accel" / "validation.md"


@pytest.fixture(scope="module")
def checks():
    return validate()


def test_the_committed_table_is_what_the_command_prints(capsys):
    """Made by `refvit validate > refvit/accel/validation.md`."""
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == COMMITTED.read_text(encoding="utf-8")


def test_every_figure_is_as_near_as_was_stated(checks):
    assert [check.name for check in checks if not check.ok] == []
    exact = [check for check in checks if check.stated == "exact"]
    assert len(exact) == 4
    assert all(figure.off == 0 for check in exact for figure in check.figures)
    counts = {check.source: len(check.figures) for check in checks}
    assert counts["SCALE-Sim 3.0.0, compat=scalesim"] == 10 * 216 + 4 * 88 + 62
    assert counts["SystemVerilog array, Icarus Verilog 11"] == 3 * 55


def named(checks, name):
    return next(check for check in checks if check.name == name)


def test_zigzag_is_compared_with_as_it_is_and_what_is_farther_off_is_counted(checks):
    alone = named(checks, "GEMM totals, one by one")
    assert len(alone.figures) == 21
    least = {f"{r['run']} {r['layer']}": bytes_alone(r) for r in recorded()["zigzag"]}
    for figure in alone.figures:
        assert figure.off == pytest.approx(abs(figure.ours / figure.theirs - 1) / 0.2)
        if not figure.within:  # less than its bytes take, which refvit may not follow
            assert figure.theirs < least[figure.name] <= figure.ours <= 1.2 * least[figure.name]
            assert figure.excuse
    outside = sum(abs(f.ours / f.theirs - 1) > 0.2 for f in alone.figures)
    assert 0 < outside < 21
    assert alone.holds == f"{21 - outside} of 21, {outside} excused"
    sums = named(checks, "GEMM totals, the sum of a run")
    assert [f.name for f in sums.figures] == ["deit_lat", "vitb_lat", "deit_en"]
    assert all(abs(f.ours / f.theirs - 1) <= 0.2 for f in sums.figures)
    for run in sums.figures:
        rows = [f.ours for f in alone.figures if f.name.startswith(f"{run.name} ")]
        assert (len(rows), sum(rows)) == (7, run.ours)


def bytes_alone(r):
    return (r["M"] * r["K"] + r["K"] * r["N"] + r["M"] * r["N"]) / 8


def test_what_zigzag_is_compared_with_is_what_the_simulator_prints(checks):
    """qkv and fc1 read and write codes of 8 bits in a whole model too."""
    alone = {f.name: f.ours for f in named(checks, "GEMM totals, one by one").figures}
    for run, model in (("deit_lat", "deit_tiny"), ("vitb_lat", "vit_base")):
        rows = {row.name: row for row in simulate(VARIANTS[model], ZIGZAG, residency=False).rows}
        assert alone[f"{run} qkv"] == rows["blocks.0.attn.qkv"].cycles
        assert alone[f"{run} fc1"] == rows["blocks.0.mlp.fc1"].cycles


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_no_gemm_is_faster_than_its_folds_or_its_bytes(M, K, N):
    cycles = simulated_cycles(M, K, N, ZIGZAG)
    assert cycles >= ideal_cycles(M, K, N, ZIGZAG)
    assert cycles >= least_cycles(M, K, N, ZIGZAG)


cycle_counts = st.integers(1, 10**6)


@given(cycle_counts, cycle_counts, cycle_counts)
@example(6404, 8004, 8003)  # QK^T of DeiT-T
@example(6404, 12000, 8003)
@example(9000, 12000, 8003)
def test_only_a_total_below_its_bytes_excuses_and_only_what_is_near_them(theirs, ours, least):
    figure = zigzag_row("x", theirs, ours, least)
    assert figure.within == (abs(ours / theirs - 1) / 0.2 <= 1)
    excused = not figure.within and theirs < least and abs(ours / least - 1) <= 0.2
    assert bool(figure.excuse) == excused
    assert Check("x", "y", "z", (figure,)).ok == (figure.within or excused)


@given(st.floats(0.1, 100))
@example(66.0)
@example(91.0)
def test_a_share_of_the_array_may_be_above_their_range_and_never_below(percent):
    figure = used("x", percent, "")
    low, high = KIM_USED
    assert (low, high) == (66, 91)
    assert figure.within == (low <= percent <= high)
    assert bool(figure.excuse) == (percent > high)
    assert figure.theirs == (low if percent < 78.5 else high)


def test_both_gemminis_are_shown_and_which_of_them_is_outside_is_said(checks):
    check = named(checks, "share of the array used by products")
    assert [f.name for f in check.figures] == ["edge16", "gemmini16"]
    assert all(66 <= f.ours <= 100 for f in check.figures)
    gemmini = check.figures[1]
    assert gemmini.ours > 91
    assert "outside, above" in table([check])
    assert check.holds != "yes"


def test_the_ratio_of_the_two_models_is_a_figure_of_its_own(checks):
    (ratio,) = named(checks, "ViT-S over ViT-T").figures
    small, large = named(checks, "milliseconds an image").figures
    assert ratio.theirs == pytest.approx(11.15 / 4.077)
    assert ratio.ours == pytest.approx(large.ours / small.ours)
    assert ratio.off == pytest.approx(abs(ratio.ours / 2.7348 - 1) / 0.2, abs=1e-3)
    assert ratio.within


def test_the_factor_is_as_wide_as_the_table_says():
    """It says that folds in series would pass."""
    series = replace(GROUP_VECTOR, overlap=False)
    for name, theirs in GROUP_VECTOR_MS.items():
        ours = group_vector_parts(VARIANTS[name], series)["total"]
        assert theirs < ours <= GROUP_VECTOR_STATED * theirs


@pytest.mark.parametrize("name", GROUP_VECTOR_MS)
def test_the_parts_of_the_group_vector_machine_are_the_whole(name):
    """They add up, the peak is the published one, and no assumption can be faster than it."""
    parts = group_vector_parts(VARIANTS[name])
    whole = parts.pop("total")
    assert sum(parts.values()) == pytest.approx(whole)
    assert all(ms >= 0 for ms in parts.values())
    peak = 2 * GROUP_VECTOR.rows * GROUP_VECTOR.cols * GROUP_VECTOR.clock_mhz / 1e3
    assert peak == 1228.8
    assert parts["peak"] < GROUP_VECTOR_MS[name]
    slower = replace(GROUP_VECTOR, overlap=False)
    assert group_vector_parts(VARIANTS[name], slower)["total"] > whole


def test_a_check_fails_on_one_figure_too_far_off():
    near, far = Figure("a", 1.0, 1.1, 0.5), Figure("b", 1.0, 2.0, 1.01)
    assert Check("x", "y", "z", (near,)).ok
    failed = Check("x", "y", "z", (near, far))
    assert not failed.ok
    assert "| NO |" in table([failed])
    assert "b: 1 there, 2 here" in table([failed])


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), min_size=1, max_size=5))
def test_a_check_says_yes_only_if_every_figure_is_as_near_as_stated(drawn):
    figures = tuple(Figure("a", 1, 1, off, excuse="why" * excuse) for off, excuse in drawn)
    check = Check("x", "y", "z", figures, "about")
    near = sum(off <= 1 for off, _ in drawn)
    reasons = sum(off > 1 and excuse for off, excuse in drawn)
    assert (check.within, check.excused) == (near, reasons)
    assert (check.holds == "yes") == (near == len(drawn))
    assert (check.holds == "NO") == (not check.ok) == (near + reasons < len(drawn))
    (row,) = as_json([check])["checks"]
    assert (row["ok"], row["within"], row["excused"]) == (check.ok, near, reasons)
    assert as_json([check])["ok"] == check.ok
    assert table([check]).count("excused: why") == sum(excuse for _, excuse in drawn)


@pytest.mark.parametrize(
    ("off", "said"), [(0.0, "0%"), (0.996, "100%"), (1.0, "100%"), (1.001, "101%"), (2.5, "250%")]
)
def test_what_is_farther_off_than_stated_never_reads_as_if_it_were_not(off, said):
    check = Check("x", "y", "z", (Figure("a", 2.0, 3.0, off),), "about")
    assert f"| a | 2 | 3 | 1.500 | {said} |" in table([check])


def write(folder, name, change):
    """A folder with one tool's file, in the form of the tool, one record of it changed."""
    records = recorded()[name]
    records[3] = records[3] | change
    if name == "zigzag":
        data = {"runs": {"all": {"layers": records}}}
    else:
        data = {"records": records}
    (folder / FILES[name]).write_text(json.dumps(data))


SIZES = {"M", "K", "N", "array_rows", "array_cols", "dataflow", "R", "C", "overlap", "run", "layer",
         "ifmap_sram_kB", "filter_sram_kB", "ofmap_sram_kB"}  # fmt: skip
FOUND = [(name, key) for name in COLUMNS for key in COLUMNS[name] if key not in SIZES]


@pytest.mark.parametrize("name", FILES)
def test_records_of_one_tool_are_enough(capsys, tmp_path, name):
    write(tmp_path, name, {})
    assert main(["validate", "--records", str(tmp_path)]) == 0


@pytest.mark.parametrize(("name", "key"), FOUND)
def test_a_wrong_record_is_found_and_named(capsys, tmp_path, name, key):
    """Every recorded column is compared: a cycle or a word more is noticed, or 6000 of ZigZag's."""
    more = {"plus_offload": 6000}.get(key, 1e-4 if key.endswith("_pct") else 1)
    change = {key: recorded()[name][3][key] + more}
    write(tmp_path, name, change)
    assert main(["validate", "--records", str(tmp_path), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    wrong = [check for check in data["checks"] if not check["ok"]]
    assert len(wrong) == 1
    far = [f for f in wrong[0]["figures"] if f["off"] is None or f["off"] > 1]
    off = [f for f in far if not f["excuse"]]
    assert len(off) == 1
    assert off[0]["theirs"] == pytest.approx(change[key])


def test_records_of_a_folder_are_read_as_the_tools_write_them(shared, checks):
    ours = validate(shared / "reference")
    assert [(c.name, len(c.figures), c.ok) for c in ours] == [
        (c.name, len(c.figures), c.ok) for c in checks
    ]


def test_the_command_draws_a_tile(tmp_path, capsys):
    target = tmp_path / "tile.svg"
    assert main(["validate", "--timeline", str(target), "--dataflow", "os"]) == 0
    assert "os on 4 x 3 PEs" in target.read_text()
    tile = ["--tile", "5", "4", "3", "2", "2", "--overlap"]
    assert main(["validate", "--timeline", str(target), *tile]) == 0
    assert "ws on 2 x 2 PEs: M=5 K=4 N=3, folds overlapped" in target.read_text()


def test_a_mistake_is_one_line(tmp_path, capsys):
    broken = tmp_path / "scalesim.json"
    for text, message in (
        (None, "no records in"),
        ("[]", "has no records of scalesim"),
        ("{", "has no records of scalesim"),
        ('{"records": []}', "it is empty"),
        ('{"records": [{"M": 1}]}', "lacks 'array_rows'"),
    ):
        if text is not None:
            broken.write_text(text)
        assert main(["validate", "--records", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert main(["validate", "--timeline", str(tmp_path / "a" / "b.svg")]) == 2
    assert main(["validate", "--timeline", str(broken), "--dataflow", "rs"]) == 2
    assert "no dataflow 'rs'" in capsys.readouterr().err
    for options, message in (
        (["--overlap"], "give --timeline FILE"),
        (["--timeline", str(broken), "--tile", "0", "1", "1", "1", "1"], "M is a whole number"),
        (["--timeline", str(broken), "--tile", "99", "99", "99", "9", "9"], "too large to read"),
    ):
        assert main(["validate", *options]) == 2
        assert message in capsys.readouterr().err


def test_the_factor_and_the_tolerances_are_written_down():
    assert (validated_papers.KIM_STATED, validated_papers.GROUP_VECTOR_STATED) == (0.01, 1.5)
    assert (validated_papers.RATIO_STATED, validated_records.ZIGZAG_STATED) == (0.2, 0.2)
    assert set(COLUMNS) == set(FILES) == {"scalesim", "rtl", "zigzag"}
