"""Machines times recipes: grids, sweeps that equal simulations, fronts, and tables that go on."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest

import refvit
from refvit.accel import MACHINES
from refvit.accel.grid import Grid, parse_grid
from refvit.cli import main
from refvit.evaluate import evaluate
from refvit.exploration import OBJECTIVES
from refvit.explore import ACCURACY, Task, explore
from refvit.models import VARIANTS
from refvit.sources import Shapes10

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]


def test_impossible_machines_are_left_out_and_counted():
    found = explore(NANO, parse_grid(["rows=cols=16,200,4096", "dataflow=os,ws"]))
    assert len(found.points) == 2
    assert found.left_out == 4
    assert "4 impossible ones left out" in found.table()
    with pytest.raises(ValueError, match="half a buffer must hold a tile"):
        explore(NANO, parse_grid(["rows=4096"]))


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
