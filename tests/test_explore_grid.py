"""Grids of machines: every combination in order, read as they are said, nonsense in one line."""

import re
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Machine, Passes, simulate
from refvit.accel.energy import TABLES
from refvit.accel.grid import OPTIONS, Axis, Grid, kinds, parse_grid, shown, spanned
from refvit.accel.possible import FUSABLE
from refvit.accel.sweep import totals
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4, unique=True),
       st.integers(1, 50), st.integers(0, 60), st.integers(1, 9))  # fmt: skip
def test_a_grid_is_every_combination_in_order(rows, first, more, step):
    last = first + more
    words = ["edge16", "edge32", f"rows={','.join(map(str, rows))}",
             f"vector_lanes={first}:{last}:{step}", "overlap=true,false"]  # fmt: skip
    room = dict.fromkeys(("sram_a_bytes", "sram_b_bytes", "sram_o_bytes"), 2**24)
    big = [replace(MACHINES[name], **room) for name in words[:2]]
    grid = Grid(tuple(big), parse_grid(words).axes)
    lanes = range(first, last + 1, step)
    wanted = [(m, r, v, o) for m in words[:2] for r in rows for v in lanes for o in (True, False)]
    found = [grid.machine(i) for i in range(len(grid))]
    assert [(m.name.split()[0], m.rows, m.vector_lanes, m.overlap) for m in found] == wanted
    assert len({m.name for m in found}) == len(grid) == len(wanted)


def test_grids_are_read_as_they_are_said():
    grid = parse_grid(
        "rows=cols=8:64:*2 sram_a_bytes=64K,0.5M dram_bytes_per_cycle=0.5:2:0.5".split()
    )
    assert [axis.values for axis in grid.axes] == [
        (8, 16, 32, 64), (65536, 524288), (0.5, 1.0, 1.5, 2.0)
    ]  # fmt: skip
    assert str(grid) == ("edge32 rows=cols=8,16,32,64 sram_a_bytes=64K,512K "
                         "dram_bytes_per_cycle=0.5,1,1.5,2")  # fmt: skip
    assert grid.machine(len(grid) - 1).cols == 64
    again = parse_grid(str(grid).split())
    assert again == grid
    assert len(parse_grid(["edge16", "edge32"])) == 2


def test_a_grid_starts_from_machines_in_files(tmp_path):
    path = tmp_path / "chip.toml"
    path.write_text('base = "edge16"\nvector_lanes = 4\n')
    grid = parse_grid([str(path), "rows=8,16"])
    assert [grid.machine(i).name for i in range(2)] == ["chip rows=8", "chip rows=16"]
    assert grid.machine(0).vector_lanes == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cray", "no machine 'cray'"),
        ("edge16 edge16", "'edge16' is in the grid twice"),
        ("rowz=8", "a machine has no 'rowz'; did you mean 'rows'"),
        ("source=x", "a machine has no 'source'"),
        ("rows=8 rows=9", "rows is said twice"),
        ("rows=cols=rows=9", "rows is said twice"),
        ("rows=8,8", "says a value twice"),
        ("rows=", "'' is not a whole number"),
        ("rows=8,,9", "'' is not a whole number"),
        ("rows=8.5", "'8.5' is not a whole number"),
        ("rows=-8", "'-8' is not a whole number"),
        ("rows=nan", "'nan' is not a whole number"),
        ("clock_mhz=fast", "'fast' is not a number"),
        ("clock_mhz=1e999", "'1e999' is not a number"),
        ("rows=9:8", "the range '9:8' is empty"),
        ("rows=8:64:0", "the range '8:64:0' is empty or has no end"),
        ("rows=8:64:*1", "the range '8:64:*1' is empty or has no end"),
        ("rows=0:64:*2", "is empty or has no end"),
        ("rows=8:16:2:2", "a range is of numbers"),
        ("dataflow=os:ws", "a range is of numbers"),
        ("overlap=maybe", "'maybe' is neither true nor false"),
        ("dataflow=", "says an empty value"),
        ("dataflow=os,xs", "no dataflow 'xs'; there are os, ws, is"),
        ("energy=coal", "no energy 'coal'; there are horowitz45, accelergy45"),
        ("nonlinear=cpu", "no nonlinear 'cpu'; there are vector, host"),
        ("residency=maybe", "'maybe' is neither true nor false"),
        ("fused=gelu+conv", "no fused 'conv'; there are requantize, gelu, add, softmax"),
        ("fused=gelu+gelu", "gelu+gelu says an item twice"),
        ("fused=", "says an empty value"),
        ("fused=gelu+", "says an empty value"),
        ("widths=8,wide", "no widths 'wide'; there are 1, 2, 3"),
        ("widths=8+64", "no widths 64; there are 1, 2, 3"),
        ("widths=8:16", "a range is of numbers"),
        ("passes.softmx=2", "did you mean 'passes.softmax'"),
        ("rows=dataflow=8", "rows and dataflow are of different kinds"),
        ("passes=2", "a machine has no 'passes'; did you mean 'passes.add'"),
        ("chip.toml rows=8", "no machine file 'chip.toml'"),
        ("rows=1:9999999", "has over 1,000,000 values"),
        ("rows=1:2000 cols=1:2000", "the grid has 4,000,000 machines"),
    ],
)
def test_nonsense_in_a_grid_is_one_line(words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        parse_grid(words.split())
    assert "\n" not in str(caught.value)


combinations = st.lists(st.sampled_from(FUSABLE), unique=True).map(tuple)
axes = st.fixed_dictionaries(
    {},
    optional={
        "rows": st.lists(st.integers(1, 300), min_size=1, unique=True),
        "vector_lanes": st.builds(
            lambda first, step, count: [*range(first, first + step * count, step)],
            st.integers(1, 5000), st.integers(1, 9), st.integers(1, 20),
        ),
        "clock_mhz": st.lists(st.integers(1, 4000).map(lambda n: n / 4), min_size=1, unique=True),
        "overlap": st.lists(st.booleans(), min_size=1, unique=True),
        "dataflow": st.lists(st.sampled_from(["os", "ws", "is"]), min_size=1, unique=True),
        "energy": st.lists(st.sampled_from(sorted(TABLES)), min_size=1, unique=True),
        "fused": st.lists(combinations, min_size=1, max_size=4, unique=True),
        "widths": st.lists(st.sampled_from([(16,), (8, 16), (4, 8)]), min_size=1, unique=True),
        "passes.softmax": st.lists(st.integers(1, 9), min_size=1, unique=True),
        "nonlinear": st.lists(st.sampled_from(["vector", "host"]), min_size=1, unique=True),
        "residency": st.lists(st.booleans(), min_size=1, unique=True),
    },
)  # fmt: skip


@given(axes)
def test_a_grid_says_itself(values):
    grid = Grid((EDGE,), tuple(Axis((name,), tuple(each)) for name, each in values.items()))
    assert parse_grid(str(grid).split()) == grid
    assert len(str(grid)) < 2500


@given(axes, st.integers(0, 10**6))
def test_a_machine_of_a_grid_has_the_values_of_its_number_and_nothing_else(values, number):
    grid = Grid((EDGE,), tuple(Axis((name,), tuple(each)) for name, each in values.items()))
    number %= len(grid)
    _, chosen = grid.values(number)
    wanted = {axis.names[0]: value for axis, value in chosen}
    assert grid.options(number) == {k: v for k, v in wanted.items() if k in OPTIONS}
    try:
        found = grid.machine(number)
    except ValueError:
        assert wanted.get("rows", 0) > 181, "half of the smallest buffer holds 181 x 181 of 16 bits"
        return
    for field in fields(Machine):
        if field.name not in ("name", "passes"):
            assert getattr(found, field.name) == wanted.get(field.name, getattr(EDGE, field.name))
    assert found.passes == Passes(softmax=wanted.get("passes.softmax", 3))
    assert found.name == " ".join(["edge32", *(f"{k}={shown(v)}" for k, v in wanted.items())])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30, unique=True))
@example([*range(1, 50, 4)])
@example([*range(9, 0, -1)])
def test_a_span_is_read_as_the_values_it_stands_for(values):
    said = spanned(tuple(values))
    if said:
        assert parse_grid([f"vector_lanes={said}"]).axes[0].values == tuple(values)
    else:
        steps = {b - a for a, b in pairwise(values)}
        assert len(values) <= 8 or len(steps) > 1 or min(steps) < 1


def test_all_that_a_machine_has_can_be_swept():
    wanted = {field.name for field in fields(Machine)} - {"name", "source", "passes"}
    wanted |= {f"passes.{field.name}" for field in fields(Passes)} | {"nonlinear", "residency"}
    assert set(kinds(EDGE)) == wanted


@pytest.mark.parametrize("word", [
    "fused=none,requantize+gelu+add", "passes.softmax=1,5", "widths=16,4+8+16",
    "energy=horowitz45,accelergy45", "nonlinear=vector,host", "residency=true,false",
])  # fmt: skip
def test_what_is_swept_changes_what_simulate_says(word):
    """Each value costs what `simulate` says of it, and not what the other does."""
    grid, costs = parse_grid([word]), []
    for number in range(2):
        hw, options = grid.machine(number), grid.options(number)
        whole = simulate(NANO, hw, 4, **options)
        assert totals(NANO, hw, 4, **options) == pytest.approx(
            {key: whole.totals[key] for key in totals(NANO, hw)}, rel=1e-12
        )
        costs.append([whole.totals[key] for key in ("cycles", "dram_bytes", "uj")])
    assert costs[0] != costs[1]
