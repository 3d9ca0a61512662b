"""What a report says of itself: the model, the machine, the widths, and who did what."""

import json
import re
import tomllib
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refvit
from refvit.accel import MACHINES, Machine, Passes, machine, machine_of, read_machine, simulate
from refvit.accel.notes import notes
from refvit.accel.possible import FUSABLE
from refvit.accel.schedule import FIELDS
from refvit.accel.vector import HOST_CYCLES
from refvit.cli import main
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
choices = st.tuples(st.sampled_from([None, "w4a8", "w8a8"]), st.sampled_from(["vector", "host"]),
                    st.booleans())  # fmt: skip


@given(choices)
@settings(max_examples=12)
def test_every_form_of_a_report_says_what_was_run(choice):
    recipe, unit, residency = choice
    report = refvit.simulate("nano_vit", recipe=recipe, nonlinear=unit, residency=residency)
    events = json.loads(report.to_trace())["traceEvents"]
    process = next(e["args"]["name"] for e in events if e["name"] == "process_name")
    page = report.to_html()
    title = re.search("<title>(.*?)</title>", page)[1]
    for said in (report.table().splitlines()[0], title, process, repr(report), page):
        assert "nano_vit on edge32" in said
        assert recipe is None or recipe in said
        assert ("nonlinear=host" in said) == (unit == "host")
        assert ("no residency" in said) == (not residency)
    assert "weights 4" in report.about or recipe != "w4a8"
    data = json.loads(report.to_json())
    assert (data["model"], data["recipe"], data["nonlinear"], data["residency"]) == (
        "nano_vit", recipe, unit, residency,
    )  # fmt: skip
    assert data["widths"]["weights"] == [4 if recipe == "w4a8" else 8]
    assert data["widths"]["residual stream"] == [16]
    assert "\n" not in repr(report)
    assert len(repr(report)) < 120


def test_a_model_is_known_by_its_name_its_file_or_its_configuration():
    assert refvit.simulate("vit_base").model == "vit_base"
    assert refvit.simulate("vit_base").rows == simulate(VARIANTS["vit_base"]).rows
    assert refvit.simulate(refvit.load("nano_vit")).model == "nano_vit"
    assert simulate(VARIANTS["deit_base"]).model == "vit_base or deit_base"
    assert simulate(replace(VARIANTS["nano_vit"], depth=1)).model == ""
    assert "vit_tiny" in simulate(refvit.random("vit_tiny")).model
    assert refvit.roofline("deit_tiny").ops == refvit.roofline(VARIANTS["deit_tiny"]).ops
    with pytest.raises(ValueError, match="no variant 'vit_bas'; there are vit_tiny"):
        refvit.simulate("vit_bas")


def test_the_command_says_the_model_as_it_was_asked_for(capsys):
    assert main(["simulate", "deit_base", "--nonlinear", "host"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("deit_base on edge32: ")
    assert first.endswith("weights 8, activations 8, residual stream 16 bits, batch 1, "
                          "nonlinear=host")  # fmt: skip


def test_machines_may_be_mappings():
    described = {"base": "edge32", "cols": 64}
    assert simulate("nano_vit", described).machine == machine_of(described) == machine(described)
    with pytest.raises(ValueError, match=r"no machine \['x'\]; there are edge32"):
        simulate("nano_vit", ["x"])


@given(st.sampled_from(sorted(MACHINES)), st.integers(1, 9), st.integers(0, 2),
       st.lists(st.sampled_from(FUSABLE), unique=True), st.text(max_size=9))  # fmt: skip
def test_a_whole_machine_in_toml_has_every_field_and_reads_back(name, passes, more, fused, source):
    hw = replace(MACHINES[name], passes=Passes(softmax=passes), fused=tuple(fused), source=source,
                 accumulator_bytes=more * 2**20)  # fmt: skip
    said = tomllib.loads(hw.to_toml(whole=True))
    assert set(said) == {each.name for each in fields(Machine)}
    assert said["passes"] == asdict(hw.passes)
    assert machine_of(said) == hw == machine_of(tomllib.loads(hw.to_toml()))


def test_the_command_writes_a_machine_whole(tmp_path, capsys):
    path = tmp_path / "m.toml"
    assert main(["simulate", "nano_vit", "--write-machine", str(path)]) == 0
    assert set(tomllib.loads(path.read_text())) == {each.name for each in fields(Machine)}
    assert read_machine(path) == EDGE


def test_rows_of_a_host_are_bound_by_it_or_by_memory():
    report = simulate("deit_tiny", "edge16", nonlinear="host")
    hosts = [row for row in report.rows if row.unit == "host"]
    assert {row.bound for row in hosts} == {"host"}
    for row in simulate("deit_tiny", replace(EDGE, dram_bytes_per_cycle=1e-3),
                        nonlinear="host").rows:  # fmt: skip
        assert row.bound == "memory"
    assert "host 9" in report.table().splitlines()[-2]
    assert "host</span>" in report.to_html()
    assert "host</span>" not in simulate("deit_tiny").to_html()


def test_the_notes_say_where_the_cycles_of_a_host_come_from():
    hw = replace(EDGE, host_mhz=1200.0)
    said = " ".join(notes(simulate("nano_vit", hw, nonlinear="host").rows, hw))
    for word in ("Kim et al. 2023", "512 tokens", "1200 MHz", "prediction",
                 *(f"{op} {cycles}" for op, cycles in HOST_CYCLES.items())):  # fmt: skip
        assert word in said
    assert "Kim" not in " ".join(notes(simulate("nano_vit").rows, EDGE))


def test_a_machine_of_eight_bits_says_the_cure_and_the_cure_works(tmp_path, capsys):
    hw = replace(EDGE, widths=(8,))
    with pytest.raises(ValueError, match="the residual stream has 16 bits") as refused:
        refvit.simulate("nano_vit", hw, bits=8)
    cure = re.search(r"recipe=(\{.*?\}),", str(refused.value))[1]
    found = refvit.simulate("nano_vit", hw, recipe=json.loads(cure))
    assert {bits for row in found.rows for bits in (row.a_bits, row.o_bits)} <= {0, 8}
    toml, small = tmp_path / "r.toml", tmp_path / "m.toml"
    line = re.search(r'\[sites\] and (".*?\})', str(refused.value))[1]
    toml.write_text(f"[sites]\n{line}\n")
    small.write_text('base = "edge32"\nwidths = [8]\n')
    argv = ["simulate", "nano_vit", "--machine", str(small)]
    assert main(argv) == 2
    assert "--recipe FILE of TOML" in capsys.readouterr().err
    assert main([*argv, "--recipe", str(toml), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"] == found.totals


def test_bits_beside_a_recipe_of_every_site_are_refused():
    with pytest.raises(ValueError, match="bits is the width of every site, recipe of each"):
        refvit.simulate("nano_vit", bits=4, recipe="w8a8")
    found = refvit.simulate("nano_vit", bits=4, recipe={"*.fc1.weight": 8})
    assert {row.b_bits for row in found.rows if row.op == "linear"} == {4, 8}


def test_a_schedule_shows_what_is_unfolded(capsys):
    argv = ["simulate", "nano_vit", "--schedule"]
    assert main([*argv, "--unfold", "blocks.1"]) == 0
    shown = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    rows = [row for row in simulate("nano_vit").rows if row.group == "blocks.1"]
    assert [line.split()[0] for line in shown] == [row.name for row in rows]
    assert main([*argv, "--unfold", "blocks.1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["schedule"]
    assert data == [{key: getattr(row, key) for key in FIELDS} for row in rows]
    assert main(argv) == 0
    whole = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    assert len(whole) == len(simulate("nano_vit").rows)
    assert refvit.simulate("nano_vit").table(unfold="blocks.1") == refvit.simulate(
        "nano_vit"
    ).table(unfold=["blocks.1"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--trace", "-"], "--trace - is no file; give its name, or --json for stdout"),
        (["--all", "--unfold", "blocks.1"], "--all shows every layer, so --unfold changes nothing"),
    ],
)
def test_options_that_mean_nothing_are_refused(argv, said, capsys):
    assert main(["simulate", "nano_vit", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_word_where_a_number_is_wanted_is_called_one():
    with pytest.raises(ValueError, match="rows is '64', a word where a number is wanted"):
        machine_of({"base": "edge32", "rows": "64"})


def test_an_array_that_waits_for_the_vector_unit_does_not_multiply_meanwhile():
    """On few lanes it takes longer, but multiplies as long as on many, in the same tiles."""
    few, many = (simulate("deit_tiny", replace(EDGE, vector_lanes=n)).rows for n in (1, 1024))
    tile = [(row.tile_m, row.tile_k, row.tile_n, row.order) for row in few]
    alike = [row.macs and t == (other.tile_m, other.tile_k, other.tile_n, other.order)
             for row, other, t in zip(few, many, tile, strict=True)]  # fmt: skip
    waits = 0
    for row, other, same in zip(few, many, alike, strict=True):
        if same:
            assert row.array_cycles == other.array_cycles
            waits += row.array_cycles < row.compute_cycles
    assert waits > 0
