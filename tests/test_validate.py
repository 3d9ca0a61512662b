"""Validation: the committed table is what the command prints, and a wrong figure is noticed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import refvit
from refvit import validate as module
from refvit.accel.published import GROUP_VECTOR, GROUP_VECTOR_MS, group_vector_parts
from refvit.accel.records import COLUMNS, FILES, recorded
from refvit.cli import main
from refvit.models import VARIANTS
from refvit.validate import Check, Figure, validate
from refvit.validate_command import table

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
    assert counts["SCALE-Sim 3.0.0, compat=scalesim"] >= 7 * 216
    assert counts["SystemVerilog array, Icarus Verilog 11"] == 3 * 55


def test_zigzags_sums_are_within_a_fifth_and_its_rows_where_they_are_possible(checks):
    totals = next(check for check in checks if check.name.startswith("GEMM totals"))
    for figure in totals.figures:
        if not figure.note:
            assert abs(figure.ours / figure.theirs - 1) <= 0.2
        else:  # less than its bytes take: refvit may not follow
            assert figure.ours >= figure.theirs
    assert sum(figure.name.endswith("in all") for figure in totals.figures) == 3


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


def write(folder, name, change):
    """A folder with one tool's file, in the form of the tool, one record of it changed."""
    records = recorded()[name]
    records[3] = records[3] | change
    if name == "zigzag":
        data = {"runs": {"all": {"layers": records}}}
    else:
        data = {"records": records}
    (folder / FILES[name]).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scalesim", {"cycles": 287}),
        ("scalesim", {"sram_filter_reads": 1}),
        ("scalesim", {"dram_ifmap_reads": 1}),
        ("scalesim", {"mapping_efficiency_pct": 76.5624}),
        ("rtl", {"cycles": 1}),
        ("rtl", {"first_output_cycle": 1}),
        ("zigzag", {"ideal_cycles": 2759.0}),
        ("zigzag", {"plus_offload": 12000.0}),
    ],
)
def test_a_wrong_record_is_found_and_named(capsys, tmp_path, name, change):
    write(tmp_path, name, {})
    assert main(["validate", "--records", str(tmp_path)]) == 0
    capsys.readouterr()
    write(tmp_path, name, change)
    assert main(["validate", "--records", str(tmp_path), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    wrong = [check for check in data["checks"] if not check["ok"]]
    assert len(wrong) == 1
    off = [f for f in wrong[0]["figures"] if f["off"] is None or f["off"] > 1]
    assert len(off) == 1
    assert off[0]["theirs"] == pytest.approx(next(iter(change.values())))


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
    assert (module.KIM_STATED, module.ZIGZAG_STATED, module.GROUP_VECTOR_STATED) == (0.01, 0.2, 1.5)
    assert set(COLUMNS) == set(FILES) == {"scalesim", "rtl", "zigzag"}
