"""The grid that compares methods: it resumes, and belongs to what it was made of."""

import io
import json
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

import refvit
from refvit.cli import main
from refvit.compare import Cell, compare, compare_cell, table, weight_bytes
from refvit.compare_command import resumable
from refvit.evaluate import Task, run_task
from refvit.quant import (
    PRESETS,
    Recipe,
    Spec,
    inject_outliers,
    packed_bytes,
)
from refvit.sources import Folder, Idx, Shapes10


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


def test_a_grid_is_the_same_however_it_is_run_and_resumes(model, tmp_path, monkeypatch):
    asked = (("minmax", "per-tensor"), ("w8a8", "w4a4"), 30)
    kept = tmp_path / "grid.json"
    alone = compare(model, Shapes10(), *asked, kept=kept)
    assert [(cell.method, cell.recipe) for cell in alone] == [
        ("minmax", "w8a8"), ("minmax", "w4a4"), ("per-tensor", "w8a8"), ("per-tensor", "w4a4"),
    ]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        assert compare(model, Shapes10(), *asked, executor=pool) == alone
    about = json.loads(kept.read_text())
    about["cells"] = about["cells"][:3]
    kept.write_text(json.dumps(about))
    done = []
    monkeypatch.setattr(
        "refvit.compare.compare_cell", lambda m, s, *key, **asked: done.append(key) or alone[3]
    )
    assert compare(model, Shapes10(), *asked, kept=kept) == alone
    assert done == [("per-tensor", "w4a4")]
    for other, said in (
        ({"count": 31}, "holds results of count 30, asked are 31; name a new file"),
        ({"count": 30, "images": 64}, "holds results of calibration 128, asked are 64"),
    ):
        with pytest.raises(ValueError, match=said):
            compare(model, Shapes10(), *asked[:2], **other, kept=kept)


def test_a_file_belongs_to_one_model_and_to_what_its_recipes_say(model, tmp_path):
    """Whatever they are called; other recipes and methods join the file."""
    kept, mine = tmp_path / "grid.json", tmp_path / "mine.toml"
    mine.write_text(PRESETS["w8a8"].to_toml())
    first = compare(model, Shapes10(), ("minmax",), ("w4a8", str(mine)), 5, kept=kept)
    assert compare(model, Shapes10(), ("minmax",), ("w6a6",), 5, kept=kept)[0].recipe == "w6a6"
    assert compare(model, Shapes10(), ("minmax",), ("w4a8",), 5, kept=kept) == first[:1]
    assert len(json.loads(kept.read_text())["cells"]) == 3
    mine.write_text(PRESETS["w3a3"].to_toml())
    with pytest.raises(ValueError, match=r"when recipe '.*mine\.toml' said something else"):
        compare(model, Shapes10(), ("minmax",), (str(mine),), 5, kept=kept)
    others = [refvit.random("nano_vit"), refvit.load("nano_swin"), inject_outliers(model, 4)]
    for other in others:
        with pytest.raises(ValueError, match="holds results of another model nano_vit"):
            compare(replace(other, source=model.source), Shapes10(), ("log2",), ("w4a8",), 5,
                    kept=kept)  # fmt: skip


SPOILED = [
    (lambda grid: grid.pop("recipes"), "is not a grid of cells: it has no recipes"),
    (lambda grid: grid.update(cells={}), "is not a grid of cells: it has no cells"),
    (lambda grid: grid.update(cells=[3]), "a cell is 3, wanted an object"),
    (lambda grid: grid["cells"][0].update(extra=1), "a cell has an unknown 'extra'"),
    (lambda grid: grid["cells"][0].pop("sqnr"), "a cell lacks 'sqnr'"),
    (lambda grid: grid["cells"][0].update(top1="0.5"), "top1 of a cell is '0.5', wanted float"),
    (lambda grid: grid["cells"][0].update(bytes=None), "bytes of a cell is None, wanted int"),
    (lambda grid: grid.update(model="mine"), "holds results of model mine, asked are nano_vit"),
]


def test_a_spoiled_file_is_one_line_that_names_it_and_what_is_wrong(tmp_path, capsys):
    kept = tmp_path / "grid.json"
    argv = ["compare", "nano_vit", "--methods", "minmax", "--recipes", "w8a8", "--count", "5"]
    assert main([*argv, "--out", str(kept)]) == 0
    whole = kept.read_text()
    for spoil, message in SPOILED:
        grid = json.loads(whole)
        spoil(grid)
        kept.write_text(json.dumps(grid))
        assert main([*argv, "--out", str(kept)]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.startswith(f"refvit: error: {str(kept)!r} ")
        assert err.count("\n") == 1


def until(said):
    """Wait for what another thread does."""
    end = time.monotonic() + 60
    while not said():
        assert time.monotonic() < end, "waited a minute"
        time.sleep(0.005)


def names_in(kept):
    return [cell["method"] for cell in json.loads(kept.read_text())["cells"]]


@pytest.fixture
def staged(monkeypatch):
    """Cells that wait for what is said by their method; `began` are the methods in order."""
    waits, began = {}, []

    def cell(model, source, name, recipe, count, images):
        began.append(name)
        until(waits.get(name, lambda: True))
        if name == "percentile":
            raise RuntimeError("percentile failed")
        return Cell(name, recipe, count, 0.5, 0.5, 1, 1.0)

    monkeypatch.setattr("refvit.compare.compare_cell", cell)
    return waits, began


def test_a_cell_is_in_the_file_while_an_earlier_one_still_runs(model, tmp_path, staged):
    kept, methods = tmp_path / "grid.json", ("minmax", "mse", "log2")
    staged[0]["minmax"] = lambda: kept.exists() and names_in(kept) == ["mse", "log2"]
    with ThreadPoolExecutor(2) as pool:
        cells = compare(model, Shapes10(), methods, ("w8a8",), 1, pool, kept)
    assert [cell.method for cell in cells] == list(methods), "method by method all the same"
    assert names_in(kept) == ["mse", "log2", "minmax"]


class Listed(ThreadPoolExecutor):
    """Two threads, and the futures they were given."""

    def __init__(self):
        super().__init__(2)
        self.futures = []

    def submit(self, *args):
        self.futures.append(super().submit(*args))
        return self.futures[-1]


def test_a_failure_cancels_what_waits_and_keeps_what_finishes(model, tmp_path, staged):
    waits, began = staged
    kept, methods = tmp_path / "grid.json", ("minmax", "percentile", "mse", "log2", "gptq")
    with Listed() as pool:
        waits["percentile"] = lambda: kept.exists() and "mse" in began
        waits["mse"] = waits["log2"] = lambda: [f.cancelled() for f in pool.futures[4:]] == [True]
        with pytest.raises(RuntimeError, match="percentile failed"):
            compare(model, Shapes10(), methods, ("w8a8",), 1, pool, kept)
    assert {"minmax", "mse"} <= set(names_in(kept)), "mse ran on when percentile failed"
    assert set(began) == {"percentile", *names_in(kept)}, (
        "log2 began before it was cancelled, or not"
    )
    assert "gptq" not in began


def test_a_grid_that_is_stopped_leaves_nothing_waiting(model, tmp_path, staged, monkeypatch):
    waits, began = staged
    monkeypatch.setattr("refvit.cells.write_text", Mock(side_effect=KeyboardInterrupt))
    methods = ("minmax", "mse", "log2", "gptq")
    with Listed() as pool:
        waits["mse"] = waits["log2"] = lambda: [f.cancelled() for f in pool.futures[3:]] == [True]
        with pytest.raises(KeyboardInterrupt):
            compare(model, Shapes10(), methods, ("w8a8",), 1, pool, tmp_path / "grid.json")
    assert "gptq" not in began


def test_a_stopped_command_says_what_is_kept(tmp_path, staged, capsys):
    def stop():
        raise KeyboardInterrupt

    kept = tmp_path / "grid.json"
    argv = ["compare", "nano_vit", "--recipes", "w8a8", "--methods", "minmax", "mse", "log2"]
    staged[0]["log2"] = stop
    assert main([*argv, "--out", str(kept)]) == 130
    said = f"refvit: stopped; {str(kept)!r} keeps 2 cells, and the same command goes on from there"
    assert capsys.readouterr().err == f"\n{said}\n"
    assert main(argv) == 130
    told = "refvit: stopped; nothing is kept: --out FILE keeps what is finished"
    assert capsys.readouterr().err == f"\n{told}\n"


def test_a_stopped_table_names_the_trainings_that_are_kept_beside_it(tmp_path):
    kept = tmp_path / "routes[1].json"
    state = tmp_path / "routes[1].json.w4a4.320.state"
    (tmp_path / "routes1.json.w4a4.320.state").touch()  # of another table
    for files, said in (
        ([], f"nothing was finished, so {str(kept)!r} keeps none"),
        ([state], f"{str(state)!r} keeps a training, and the same command goes on from there"),
        ([kept], f"{str(kept)!r} keeps 1 cell and {str(state)!r} a training, and the same command "
                 "goes on from there"),
    ):  # fmt: skip
        for file in files:
            file.write_text('{"cells": [{}]}')
        with pytest.raises(KeyboardInterrupt) as stop, resumable(kept):
            raise KeyboardInterrupt
        assert str(stop.value) == said


class Reader(pickle.Unpickler):
    """Reads a pickle and keeps which packages it imports."""

    def __init__(self, raw):
        super().__init__(io.BytesIO(raw))
        self.tops = set()

    def find_class(self, module, name):
        self.tops.add(module.partition(".")[0])
        return super().find_class(module, name)


@pytest.mark.parametrize(
    "source", [Shapes10(), Idx(Path("mnist")), Folder(Path("pictures"), ("a", "b"))]
)
def test_what_travels_to_a_worker_is_read_with_refvit_and_numpy_only(model, source):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 4)[0])
    engine = refvit.compile(refvit.quantize(model, pixels))
    for sent in (
        (partial(compare_cell, model, source, count=30, images=8), "minmax", "w8a8"),
        (run_task, Task(engine, model, source, 0, 50)),
    ):
        reader = Reader(pickle.dumps(sent))
        assert getattr(reader.load()[0], "func", run_task) in (compare_cell, run_task)
        assert reader.tops <= {"refvit", "numpy", *sys.stdlib_module_names}


def test_bytes_are_those_of_packed_weights_and_their_scales(model):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 4)[0])
    quantized = refvit.quantize(model, pixels, "w4a8")
    weights = [t for n, t in model.params.items() if n.endswith(".weight") and t.ndim == 2]
    assert weight_bytes(quantized) == sum(packed_bytes(w.size, 4) + 4 * len(w) for w in weights)
    scales = {
        Spec(4, axis=0, group=16): lambda w: 4 * len(w) * -(-w.shape[1] // 16),
        Spec(4, axis=0, symmetric=False): lambda w: (4 + 1) * len(w),
        Spec(4): lambda w: 4,
    }
    for spec, cost in scales.items():
        other = refvit.quantize(model, pixels, Recipe("r", {"*.weight": spec, "*": Spec(8)}))
        assert weight_bytes(other) == sum(packed_bytes(w.size, 4) + cost(w) for w in weights)


def test_a_rewritten_model_is_compared_with_the_float_one(model):
    cell = compare(inject_outliers(model, 64.0), Shapes10(), ("minmax", "repq"), ("w6a6",), 60)
    assert cell[1].top1 > cell[0].top1 + 0.3, "outliers ruin min-max, reparameterisation mends them"
    assert cell[1].agreement >= 0.9


def test_the_table_has_a_row_a_method_and_a_column_a_recipe():
    cells = [Cell(m, r, 100, 0.5, 0.9, 10, 3.0) for m in ("a", "b") for r in ("w8a8", "w4a4")]
    lines = table(cells).splitlines()
    assert lines[0].split() == ["method", "w8a8", "w4a4"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "weights"]
    assert table(cells[:3]).splitlines()[2].split() == ["b", "50.00%", "3.0", "dB", "-"]


MISTAKES = [
    (["--methods", "magic"], "no method 'magic'; there are minmax"),
    (["--recipes", "w9a9"], "no recipe 'w9a9'"),
    (["--count", "0"], "--jobs and --count"),
    (["--outliers", "0"], "a factor is positive and finite; got 0.0"),
    (["--calibration-images", "0"], "--calibration-images is at least 1, got 0"),
    (["--out", "nowhere/x.json"], "no directory 'nowhere'"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_mistakes_are_one_line(argv, message, capsys):
    assert main(["compare", "nano_vit", *argv]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_the_grid(capsys):
    argv = ["compare", "nano_vit", "--methods", "minmax", "--recipes", "w8a8", "--count", "20"]
    assert main([*argv, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cells"][0]["method"] == "minmax"
    assert said["float_top1"] > 0.8
