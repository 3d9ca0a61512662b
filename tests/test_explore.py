"""Machines times recipes: grids, sweeps that equal simulations, fronts, and tables that go on."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import refvit
from refvit.accel import MACHINES, simulate, sweep
from refvit.accel.grid import Grid, parse_grid
from refvit.accel.sweep import Chain, chains, pareto, shortened, totals
from refvit.cli import main
from refvit.evaluate import evaluate
from refvit.exploration import OBJECTIVES
from refvit.explore import ACCURACY, Task, explore
from refvit.models import VARIANTS
from refvit.site_bits import site_bits
from refvit.sources import Shapes10

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]
deep = replace(NANO, depth=9)
swin = replace(VARIANTS["nano_swin"], depths=(2, 12))
machines = st.builds(
    lambda rows, cols, dataflow, overlap, speed, lanes, grow: replace(
        EDGE, rows=rows, cols=cols, dataflow=dataflow, overlap=overlap, dram_bytes_per_cycle=speed,
        vector_lanes=lanes, sram_a_bytes=8192 * grow, sram_b_bytes=8192 * grow,
        sram_o_bytes=16384 * grow,
    ),
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["os", "ws", "is"]), st.booleans(),
    st.floats(0.5, 256.0), st.integers(1, 64), st.sampled_from([1, 2, 8, 64]),
)  # fmt: skip


@given(st.sampled_from([NANO, deep, swin, VARIANTS["nano_deit"]]), machines,
       st.sampled_from([4, 8, 16]), st.integers(1, 3))  # fmt: skip
@example(VARIANTS["deit_small"], EDGE, 8, 1)
@example(VARIANTS["swin_small"], EDGE, 8, 1)
@example(VARIANTS["vit_large"], MACHINES["edge16"], 4, 2)
def test_a_sweep_costs_what_simulate_says(config, machine, bits, batch):
    found = totals(config, machine, bits, batch)
    whole = simulate(config, machine, bits, batch).totals
    for key, value in found.items():
        if key in ("macs", "cycles", "dram_bytes", "sram_bytes", "utilization"):
            assert value == whole[key], key
        else:
            assert value == pytest.approx(whole[key], rel=1e-12), key


def test_where_blocks_in_the_middle_differ_all_are_simulated(monkeypatch):
    assert shortened(deep).depth == 4
    assert shortened(swin).depths == (2, 8)
    asked = []

    def watched(config, *rest, **more):
        asked.append(config)
        return simulate(config, *rest, **more)

    monkeypatch.setattr(sweep, "simulate", watched)
    expected = totals(deep)
    assert asked == [shortened(deep)]
    monkeypatch.setattr(sweep, "cost", lambda row: row.name)
    assert totals(deep)["cycles"] == expected["cycles"]
    assert asked[1:] == [shortened(deep), deep]


@given(st.integers(1, 60), st.sampled_from([1, 2]))
def test_a_shortened_chain_stands_for_every_block(blocks, period):
    chain = Chain(blocks, period)
    assert sum(chain.times(block) for block in range(chain.kept)) == blocks
    assert chain.kept <= blocks
    assert chains(swin) == (Chain(2, 2), Chain(12, 2))


costs = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)),
               elements=st.integers(0, 4).map(float))  # fmt: skip


@given(costs)
def test_the_front_is_what_no_other_point_is_better_than(points):
    front = pareto(points)
    for i, a in enumerate(points):
        better = [(b <= a).all() and (b < a).any() for b in points]
        assert front[i] == (not any(better))
        assert front[i] or any(front[j] for j, yes in enumerate(better) if yes)


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
        ("rows=dataflow=8", "rows and dataflow are of different kinds"),
        ("passes=2", "passes cannot be swept; say it in a TOML file"),
        ("chip.toml rows=8", "no machine file 'chip.toml'"),
        ("rows=1:9999999", "has over 1,000,000 values"),
        ("rows=1:2000 cols=1:2000", "the grid has 4,000,000 machines"),
    ],
)
def test_nonsense_in_a_grid_is_one_line(words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        parse_grid(words.split())
    assert "\n" not in str(caught.value)


def test_impossible_machines_are_left_out_and_counted():
    found = explore(NANO, parse_grid(["rows=cols=16,200,4096", "dataflow=os,ws"]))
    assert len(found.points) == 2
    assert found.left_out == 4
    assert "4 impossible ones left out" in found.table()
    with pytest.raises(ValueError, match="half a buffer must hold a tile"):
        explore(NANO, parse_grid(["rows=4096"]))


recipes = st.one_of(
    st.none(),
    st.sampled_from(["w8a8", "w4a8", "w4a4", "w3a3"]),
    st.dictionaries(
        st.sampled_from(["*.fc?.weight", "*.attn.*", "*.0.mlp.act", "*.2.*", "*.softmax", "*"]),
        st.sampled_from([4, 6, 8, 16]), min_size=1,
    ),
)  # fmt: skip


@given(st.sampled_from([NANO, deep, swin]), machines, recipes)
@example(VARIANTS["deit_small"], EDGE, {"blocks.7.*": 4})
@example(VARIANTS["swin_small"], EDGE, {"stages.2.blocks.1.mlp.*": 4})
def test_a_sweep_costs_what_simulate_says_of_mixed_widths(config, machine, recipe):
    table = None if recipe is None else site_bits(config, recipe)
    found = totals(config, machine, recipe=table)
    whole = refvit.simulate(config, machine, recipe=recipe).totals
    for key in ("macs", "cycles", "dram_bytes", "sram_bytes", "utilization"):
        assert found[key] == whole[key], key
    assert found["uj_high"] == pytest.approx(whole["uj_high"], rel=1e-12)


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


GRID = parse_grid(["edge16", "edge32", "rows=cols=8,16", "dram_bytes_per_cycle=4,16"])
TWO = ("w8a8", "w4a4")


def run(model, **more):
    return explore(model, GRID, TWO, Shapes10(), 60, images=32, **more)


def test_points_join_what_simulate_and_the_integer_engine_say(model):
    found = run(model)
    assert len(found.points) == 2 * len(GRID)
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 32)[0])
    for at, recipe in enumerate(TWO):
        engine = refvit.compile(refvit.quantize(model, pixels, recipe))
        right = evaluate(engine, Shapes10(), 60).top1
        points = found.points[at * len(GRID) : (at + 1) * len(GRID)]
        for number, point in enumerate(points):
            whole = refvit.simulate(model, GRID.machine(number), recipe=recipe).totals
            assert (point.recipe, point.top1) == (recipe, right)
            assert (point.cycles, point.dram_bytes) == (whole["cycles"], whole["dram_bytes"])
            assert point.uj_low == pytest.approx(whole["uj_low"], rel=1e-12)
    for point in found.points:
        better = any(o.us <= point.us and o.uj_high <= point.uj_high and o.top1 >= point.top1
                     and (o.us, o.uj_high, o.top1) != (point.us, point.uj_high, point.top1)
                     for o in found.points)  # fmt: skip
        assert point.front == (not better)


def test_any_executor_finds_the_same_and_a_table_goes_on_where_it_ended(
    model, tmp_path, monkeypatch
):
    kept = tmp_path / "grid.json"
    monkeypatch.setattr("refvit.explore.CHUNK", 3)
    with ThreadPoolExecutor(2) as pool:
        first = run(model, executor=pool, kept=kept)
    assert first == run(model)
    cells = json.loads(kept.read_text())
    parts = [cell["part"] for cell in cells["cells"]]
    assert sorted(parts) == sorted(2 * [ACCURACY, "0:3", "3:6", "6:8"])
    cells["cells"] = cells["cells"][:5]  # stopped there
    kept.write_text(json.dumps(cells))
    asked = []
    whole = Task.__call__
    monkeypatch.setattr(Task, "__call__", lambda *a: asked.append(a[1:]) or whole(*a))
    assert run(model, kept=kept) == first
    assert len(asked) == 3
    assert run(model, kept=kept) == first
    assert len(asked) == 3, "nothing is computed again"


def test_processes_find_the_same(model):
    with ProcessPoolExecutor(1) as pool:
        assert run(model, executor=pool) == run(model)


def test_a_cluster_finds_the_same(model, tmp_path):
    distributed = pytest.importorskip("distributed", reason="workers come with the cluster extra")
    own = {"dashboard_address": ":0", "local_directory": tmp_path}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **own) as cluster:
        with distributed.Client(cluster) as client:
            found = run(model, executor=client.get_executor(pure=False))
    assert found.points == run(model).points


def test_without_accuracy_each_recipe_has_a_front_of_its_own():
    both = explore(NANO, GRID, TWO)
    for recipe in TWO:
        alone = explore(NANO, GRID, [recipe])
        assert [p for p in both.points if p.recipe == recipe] == list(alone.points)
        assert alone.front
    assert "Pareto front of each recipe: us, uj_high" in both.table()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machines": parse_grid(["rows=8"])}, "holds results of machines edge16 edge32 rows=cols"),
        ({"count": 50}, "holds results of count 60, asked are 50"),
        ({"method": "mse"}, "holds results of method minmax, asked are mse"),
        ({"batch": 2}, "holds results of batch 1, asked are 2"),
        ({"source": None}, "holds results of"),
    ],
)
def test_a_file_of_another_exploration_is_refused(model, tmp_path, change, message):
    asked = {"model": model, "machines": GRID, "recipes": ("w8a8",), "source": Shapes10(),
             "count": 60, "kept": tmp_path / "grid.json"}  # fmt: skip
    explore(**asked)
    with pytest.raises(ValueError, match=message):
        explore(**asked | change)
    changed = Grid((replace(EDGE, name="edge16"), *GRID.bases[1:]), GRID.axes)  # the same words
    with pytest.raises(ValueError, match="holds results of hardware"):
        explore(**asked | {"machines": changed})


def test_costs_alone_need_no_weights_and_every_objective_can_be_asked_for(tmp_path):
    found = explore(NANO, [EDGE, MACHINES["edge16"]], objectives=list(OBJECTIVES))
    assert [point.top1 for point in found.points] == [None, None]
    for name in OBJECTIVES.keys() - {"top1"}:
        alone = explore(NANO, GRID, objectives=[name])
        best = min(OBJECTIVES[name] * getattr(point, name) for point in alone.points)
        assert all(OBJECTIVES[name] * getattr(point, name) == best for point in alone.front)
    with pytest.raises(ValueError, match="the only objective, top1, was not measured"):
        explore(NANO, GRID, objectives=["top1"])
    with pytest.raises(ValueError, match="objective"):
        explore(NANO, GRID, objectives=["beauty"])


def test_what_was_found_in_every_form(model):
    found = run(model)
    lines = found.table().splitlines()
    assert sum(line.startswith("* ") for line in lines) == len(found.front) > 0
    assert len(lines) == 2 + 1 + len(found.points) + 1
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [line["us"] for line in table] == [str(point.us) for point in found.points]
    assert json.loads(found.to_json())["points"][0]["machine"] == found.points[0].machine
    drawn = ET.fromstring(found.to_svg())
    large = [dot for dot in drawn.iter() if dot.tag.endswith("circle") and dot.get("r") == "4"]
    assert len(large) == len(found.front)
    for path in drawn.iter():
        if path.get("stroke-opacity") == "0.7":
            heights = [float(y) for y in re.findall(r",([\d.]+)", path.get("points"))]
            assert heights == sorted(heights), "downwards is to larger y"
    page = found.to_html()
    assert ET.fromstring(page).tag == "html"
    assert not re.search(r"http|<script|<link|url\(|\bsrc=", page)
    assert page.count("<tr>") == 1 + len(found.front)
    ET.fromstring(found._repr_html_())


def test_a_large_exploration_shows_its_front():
    grid = parse_grid("rows=2:16:2 cols=2:16:2".split())
    found = explore(NANO, grid, objectives=["us", "uj_high", "pes"])
    lines = found.table().splitlines()
    assert len(found.front) > 40
    assert len(lines) == 40 + 5
    few = explore(NANO, grid).table().splitlines()
    assert len(few) == len(explore(NANO, grid).front) + 5 < 10
    assert all(line.startswith("* ") for line in lines[3:-2])
    assert f"of {len(grid)} points are shown" in lines[-2]
    assert len(found.table(every=True).splitlines()) == len(grid) + 4
    assert len(found.to_svg()) < 200 * len(grid)


def test_a_recipe_that_does_not_compile_is_named(model, tmp_path):
    path = tmp_path / "dyn.toml"
    path.write_text(
        '[sites]\n"*.weight" = { bits = 8, axis = 0 }\n"*" = { bits = 8, dynamic = "token" }\n'
    )
    with pytest.raises(ValueError, match=r"recipe '.*dyn.toml' does not compile to integers: "):
        explore(model, GRID, [str(path)], Shapes10(), 20, images=8)


def test_the_command(capsys, tmp_path):
    files = [tmp_path / f"x.{kind}" for kind in ("json", "html", "svg", "csv")]
    options = [
        f"--{name}={path}" for name, path in zip(("out", "html", "svg", "csv"), files, strict=True)
    ]
    argv = ["explore", "nano_vit", "--machines", "edge16", "rows=cols=8,16", "--recipes", "w8a8",
            "w4a4", "--count", "20", "--calibration-images", "8"]  # fmt: skip
    assert main(argv + options) == 0
    assert "4 points" in capsys.readouterr().out
    assert all(path.stat().st_size for path in files)
    assert main([*argv, "--json", f"--out={files[0]}"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["recipe"] for point in points] == 2 * ["w8a8"] + 2 * ["w4a4"]
    quoted = [*argv[:3], "edge16 rows=cols=8,16", *argv[5:]]
    assert main([*quoted, "--json", f"--out={files[0]}"]) == 0
    assert json.loads(capsys.readouterr().out)["points"] == points
    assert main(["explore", "deit_tiny", "--machines", "edge16"]) == 0
    assert "deit_tiny (no weights: no accuracy): edge16: 1 points" in capsys.readouterr().out
    for wrong, message in {
        ("--machines", "rowz=8"): "did you mean 'rows'",
        ("--recipes", "w9a9"): "no recipe 'w9a9'",
        ("--objectives", "us", "beauty"): "beauty",
        ("--count", "0"): "at least 1",
        ("--out", str(tmp_path)): "is a directory",
        ("--svg", str(files[0]), "--out", str(files[0])): "two outputs are",
        ("--recipes", "w8a8", "w4a4", "w8a8"): "twice",
        ("--objectives", "us", "us"): "twice",
    }.items():
        assert main(["explore", "nano_vit", "--machines", "edge16", *wrong]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert message in said.err
        assert said.err.count("\n") == 1
