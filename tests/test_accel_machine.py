"""Machines: presets, TOML in and out, and what is refused."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import (
    MACHINES,
    Machine,
    Passes,
    machine,
    machine_of,
    read_machine,
    simulate,
    workload,
)
from refvit.accel.energy import TABLES
from refvit.accel.machine import fields_of
from refvit.accel.possible import FUSABLE
from refvit.accel.schedule import schedule
from refvit.accel.systolic import DATAFLOWS
from refvit.cli import main
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
PRESETS = ("edge32", "edge16", "gemmini16", "tpuv1", "eyeriss-like", "cloud128")
whole, real = st.integers(1, 64), st.floats(0.01, 1e6)
size = st.integers(2**17, 2**30)

machines = st.builds(
    Machine,
    name=st.text(min_size=1),
    rows=whole,
    cols=whole,
    dataflow=st.sampled_from(DATAFLOWS),
    overlap=st.booleans(),
    clock_mhz=real,
    sram_a_bytes=size,
    sram_b_bytes=size,
    sram_o_bytes=size,
    dram_bytes_per_cycle=real,
    vector_lanes=whole,
    source=st.text(),
    energy=st.sampled_from(sorted(TABLES)),
    accumulator_bytes=st.one_of(st.just(0), size),
    passes=st.builds(Passes, softmax=whole, add=whole),
    fused=st.lists(st.sampled_from(FUSABLE), unique=True).map(tuple),
    widths=st.sampled_from([(4, 8, 16), (8,), (16,), (4, 6, 8)]),
    multiplier_bits=st.integers(1, 16),
    host_mhz=real,
)


@given(machines)
def test_a_machine_comes_back_from_toml_as_it_was(tmp_path_factory, hw):
    path = tmp_path_factory.mktemp("machine") / "m.toml"
    path.write_text(hw.to_toml(), encoding="utf-8")
    assert read_machine(path) == hw
    assert machine_of(fields_of(hw)) == hw


def test_every_preset_has_a_source_and_takes_every_model():
    assert tuple(MACHINES) == PRESETS
    for name, hw in MACHINES.items():
        assert hw.name == name
        assert len(hw.source) > 20
        assert simulate(VARIANTS["nano_vit"], name).totals["macs"] == 8_958_816


def test_a_file_names_what_differs_from_its_base(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_text('base = "edge32"\ncols = 64\n[passes]\nsoftmax = 5\n')
    wide = machine(path)
    assert (wide.name, wide.cols, wide.passes.softmax, wide.passes.layer_norm) == ("wide", 64, 5, 3)
    assert wide.source == "edge32 with other cols, passes"
    kept = {f.name for f in fields(Machine)} - {"name", "cols", "passes", "source"}
    assert {name: getattr(wide, name) for name in kept} == {
        name: getattr(EDGE, name) for name in kept
    }
    assert machine(str(path)) == wide
    assert simulate(VARIANTS["nano_vit"], path).machine == wide


BROKEN = [
    ("rows = ", "is not TOML"),
    ("cols = 64\n[passes]\nsoftmaxx = 3", "passes: no key 'softmaxx', perhaps softmax"),
    ("colz = 64", "machine: no key 'colz', perhaps cols"),
    ("rows = 0", "rows is 0; it has to be above 0 and finite"),
    ("rows = 2.5", "rows is 2.5; give a whole number"),
    ("rows = true", "rows is True"),
    ('rows = "many"', "rows is 'many'"),
    ("clock_mhz = nan", "clock_mhz is nan"),
    ("dram_bytes_per_cycle = inf", "dram_bytes_per_cycle is inf"),
    ("source = 3", "name and source are words"),
    ("overlap = 1", "overlap is true or false"),
    ('dataflow = "xs"', "no dataflow 'xs'; there are os, ws, is"),
    ('energy = "coal"', "no energy table 'coal'; there are horowitz45, accelergy45"),
    ("sram_a_bytes = 1024", "half a buffer must hold a tile of the array; give A and B 4096"),
    ("accumulator_bytes = 64", "the accumulator 8192, or 0 for none"),
    ("accumulator_bytes = -8192", "half a buffer must hold"),
    ("vector_lanes = 1048577", "vector_lanes is 1048577; give at most 1,048,576"),
    (f"vector_lanes = {10**24}", "vector_lanes is 1000000000000000000000000; give at most"),
    (f"rows = {10**90}", "000...; give at most 65,536"),
    (f"rows = {'9' * 5000}", "is not TOML: Exceeds the limit"),
    (f"rows = 0x{'f' * 5000}", "rows is a number of 20,000 bits; give at most 65,536"),
    (f"name = {'[' * 20000}", "is not TOML of a machine: lists too deep"),
    ("multiplier_bits = 64", "multiplier_bits is 64; give at most 32"),
    ("clock_mhz = 1e-300", "clock_mhz is 1e-300; give 0.001 to 1,000,000,000"),
    ("dram_bytes_per_cycle = 1e10", "dram_bytes_per_cycle is 10000000000.0; give 0.001 to"),
    ("sram_a_bytes = 1000000000000000", "sram_a_bytes is 1000000000000000; give at most"),
    ("accumulator_bytes = true", "accumulator_bytes is True; give a whole number"),
    ('fused = [["gelu"]]', "fused is a list of requantize, gelu, add, softmax, each once; got (["),
    ('fused = ["gelu", "gelu"]', "each once; got ('gelu', 'gelu')"),
    ('fused = "gelu"', "fused is a list of"),
    ("widths = [true, 8]", "widths are whole numbers of 1 to 32, rising; got (True, 8)"),
    ("widths = [[8]]", "widths are whole numbers"),
    ("[passes]\nadd = true", "passes of add are a whole number of at least 1 and at most 1,000"),
    ("[passes]\nadd = 1001", "at most 1,000; got 1001"),
    ("[passes]\nadd = [1]", "passes of add are a whole number"),
    ("widths = [8, 4]", "widths are whole numbers of 1 to 32, rising; got (8, 4)"),
    ("widths = []", "widths are whole numbers"),
    ('fused = ["conv"]', "fused is a list of requantize, gelu, add, softmax"),
    ("passes = 3", "passes are a table of operators; got 3"),
    (
        "[passes]\nadd = 0",
        "passes of add are a whole number of at least 1 and at most 1,000; got 0",
    ),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[text[:40] for text, _ in BROKEN])
def test_an_impossible_machine_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "m.toml"
    path.write_text(f'base = "edge32"\n{text}\n')
    assert main(["simulate", "nano_vit", "--machine", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert message in err


def test_a_machine_without_a_base_needs_all_that_has_no_default(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text("rows = 4\ncols = 4\n")
    with pytest.raises(ValueError, match="a machine needs dataflow, overlap, clock_mhz"):
        read_machine(path)
    with pytest.raises(FileNotFoundError, match="no machine file"):
        machine("nowhere.toml")
    with pytest.raises(ValueError, match="base 'cray' is no preset; there are edge32, edge16"):
        machine_of({"name": "x", "base": "cray"})
    path.write_text(f'base = "{path.as_posix()}"\n')
    with pytest.raises(ValueError, match="is no preset"):
        read_machine(path)


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 16))
def test_wide_operands_take_a_cycle_a_slice(a, b, multiplier):
    hw = replace(EDGE, multiplier_bits=multiplier)
    slices = hw.slices(a, b)
    assert slices * multiplier**2 >= a * b
    assert (slices - 1) * multiplier**2 < a * b or slices > 1
    assert hw.slices(multiplier, multiplier) == 1
    assert hw.stored_bits(a) >= a
    assert hw.stored_bits(a) in hw.widths


def test_a_machine_stores_no_codes_wider_than_it_has():
    narrow = replace(EDGE, widths=(4, 8))
    with pytest.raises(ValueError, match="machine 'edge32': codes of 16 bits are not modelled"):
        simulate(VARIANTS["nano_vit"], narrow)


def test_the_command_writes_a_machine_and_reads_it_again(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    said = ["simulate", "nano_vit", "--json", "--machine"]
    assert main([*said, "gemmini16", "--write-machine", str(path)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*said, str(path)]) == 0
    second = json.loads(capsys.readouterr().out)
    assert first == second


@given(machines, st.sampled_from(["nano_vit", "nano_swin"]), st.sampled_from(["vector", "host"]),
       st.booleans(), st.integers(1, 3))  # fmt: skip
def test_any_machine_that_is_not_refused_can_be_simulated(hw, name, unit, residency, batch):
    said = {"nonlinear": unit, "residency": residency}
    if max(hw.widths) < 16:
        with pytest.raises(ValueError, match="codes of 16 bits are not modelled"):
            simulate(VARIANTS[name], hw, 8, batch, **said)
        return
    report = simulate(VARIANTS[name], hw, 8, batch, **said)
    for row in report.rows:
        assert row.cycles == row.prologue_cycles + row.steady_cycles + row.epilogue_cycles
        assert min(row.stall_cycles, row.steady_cycles, row.prologue_cycles) >= 0
        assert row.memory_cycles >= row.dram_bytes / hw.dram_bytes_per_cycle - 1
        assert row.cycles >= row.memory_cycles or row.unit == "fused"  # hidden behind its GEMM
        assert row.compute_cycles * hw.rows * hw.cols >= row.macs
    assert report.totals["macs"] == sum(layer.macs for layer in workload(VARIANTS[name], batch))
    assert report.table() + report.to_html() + report.to_trace() + schedule(report.rows)
