"""The routes to few bits: one table of calibration, training, and images that the model made."""

import json
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import refvit
from refvit import routes as routes_module
from refvit.checkpoints import save_model
from refvit.cli import main
from refvit.model import Model
from refvit.routes import ROUTES, Arrival, Means, arrival, arrivals, said_of, table
from refvit.sources import Folder, Shapes10
from refvit.train import advanced
from refvit.train_state import seconds_in


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture
def means(model, monkeypatch):
    """Little of everything."""
    monkeypatch.setattr("refvit.methods.STEPS", 2)
    made = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    return Means(40, 8, {"images": 32, "batch": 16, "warmup": 0}, made)


def test_every_route_ends_in_accuracies_of_what_it_made(model, means):
    found = {route: arrival(model, Shapes10(), route, "w8a8", means=means) for route in ROUTES}
    for route, cell in found.items():
        quantized = ROUTES[route](model, Shapes10(), "w8a8", means)
        engine = refvit.compile(quantized)
        assert cell.top1 == refvit.evaluate(quantized, count=40).top1
        assert cell.integer_top1 == refvit.evaluate(engine, count=40).top1
        assert (cell.route, cell.count) == (route, 40)
    assert len({cell.bytes for cell in found.values()}) == 1  # all on the same grids of weights


def test_routes_differ_in_what_they_look_at(model, means):
    """No route is another one by mistake."""
    pixels = model.preprocess.normalise(refvit.data.shapes10("test", 4)[0])
    logits = [route(model, Shapes10(), "w4a4", means)(pixels) for route in ROUTES.values()]
    for i, one in enumerate(logits):
        assert all(not np.array_equal(one, other) for other in logits[:i])


def test_a_table_resumes_and_belongs_to_its_means(model, means, tmp_path, monkeypatch):
    kept, asked = tmp_path / "routes.json", (["qat", "data-free"], ["w8a8", "w4a4"])
    first = arrivals(model, Shapes10(), means, *asked, kept=kept)
    monkeypatch.setattr(
        "refvit.routes.arrival", Mock(side_effect=AssertionError)
    )  # nothing is computed again
    assert arrivals(model, Shapes10(), means, *asked, kept=kept) == first
    longer = {**means.training, "images": 64}
    others = {
        "count 40": replace(means, count=41),
        "qat on images 32": replace(means, training=longer),
        "data-free on made": replace(means, made=means.made + np.float32(1)),
    }
    for what, other in others.items():
        with pytest.raises(ValueError, match=f"holds results of {what}"):
            arrivals(model, Shapes10(), other, *asked, kept=kept)


@pytest.mark.parametrize("part", ["damping", "smoothing", "ema"])
def test_a_table_is_not_one_of_a_training_that_said_more(model, means, part, tmp_path):
    """Nor, if a default changes, one of what is not said."""
    kept = tmp_path / "routes.json"
    more = replace(means, training={**means.training, part: 0.5})
    arrivals(model, Shapes10(), more, ["qat"], ["w8a8"], kept=kept)
    with pytest.raises(ValueError, match=f"of qat on {part} 0.5, asked are 0"):
        arrivals(model, Shapes10(), means, ["qat"], ["w8a8"], kept=kept)


def test_a_table_knows_the_teacher_by_its_weights(model, means, tmp_path):
    kept, teacher = tmp_path / "routes.json", tmp_path / "teacher.safetensors"
    taught = replace(means, training={**means.training, "teacher": str(teacher)})
    for seed in (0, 1):
        save_model(teacher, refvit.random("nano_vit", seed=seed), {})
        if seed == 0:
            arrivals(model, Shapes10(), taught, ["qat"], ["w8a8"], kept=kept)
    with pytest.raises(ValueError, match="of qat on teacher_digest"):
        arrivals(model, Shapes10(), taught, ["qat"], ["w8a8"], kept=kept)


def test_routes_join_a_file_whatever_the_others_used(model, means, tmp_path):
    """What a route does not look at may be anything, and is remembered for those that do."""
    kept, recipes = tmp_path / "routes.json", ["w8a8"]
    bare = replace(means, made=None, calibration=3)
    first = arrivals(model, Shapes10(), bare, ["qat"], recipes, kept=kept)
    rest = replace(means, training={"images": 16, "batch": 16})
    arrivals(model, Shapes10(), rest, ["data-free", "ptq"], recipes, kept=kept)
    assert arrivals(model, Shapes10(), bare, ["qat"], recipes, kept=kept) == first
    about = json.loads(kept.read_text())
    assert about["routes"]["qat"] == said_of(bare, "qat")
    assert about["routes"]["qat"].items() >= means.training.items()
    assert about["routes"]["ptq"] == {"calibration": 8}
    assert about["routes"]["data-free"]["images"] == 8
    assert len(about["cells"]) == 3


def test_mistakes_are_found_before_anything_is_computed(model, means, monkeypatch):
    monkeypatch.setattr("refvit.routes.arrival", Mock(side_effect=AssertionError))
    with pytest.raises(ValueError, match="no images but those it is tested on"):
        arrivals(model, Folder(Path("any"), model.labels), means, ["qat-long"])
    for given, said in (
        ((means, ["qta"]), "no route 'qta'; there are ptq, qat"),
        ((means, ["qat"], ["w9a9"]), "no recipe 'w9a9'"),
        ((replace(means, made=None), ["qat", "data-free"]), "name them with --made DIR"),
    ):
        with pytest.raises(ValueError, match=said):
            arrivals(model, Shapes10(), *given)


def test_the_command_takes_the_images_of_synthesize(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refvit.methods.STEPS", 2)
    made, out = tmp_path / "made", tmp_path / "routes.json"
    assert main(["synthesize", "nano_vit", "--count", "12", "--steps", "2", "--out",
                 str(made)]) == 0  # fmt: skip
    asked = ["routes", "nano_vit", "--routes", "data-free", "qat", "--recipes", "w8a8", "--made",
             str(made), "--images", "128", "--count", "40", "--out", str(out)]  # fmt: skip
    capsys.readouterr()
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "top-1 of 40 test images of shapes10" in said
    about = json.loads(out.read_text())
    assert about["routes"]["data-free"]["images"] == 12
    assert about["routes"]["qat"]["images"] == 128
    assert table([Arrival(**cell) for cell in about["cells"]]) in said
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == about["cells"]
    assert about["float_top1"] == refvit.evaluate(refvit.load("nano_vit"), count=40).top1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "routes.json"]


def test_the_float_model_is_tested_once(model, means, tmp_path, capsys, monkeypatch):
    """By the command, which says it, and by `arrivals` only where nobody knows."""
    tested, real = [], routes_module.evaluate

    def counted(found, *args):
        tested.extend([found] if isinstance(found, Model) else [])
        return real(found, *args)

    monkeypatch.setattr("refvit.routes.evaluate", counted)
    monkeypatch.setattr("refvit.routes_command.evaluate", counted)
    monkeypatch.setattr("refvit.routes.arrival", lambda *key, means: Arrival(*key[2:], *[1] * 5))
    kept = tmp_path / "routes.json"
    assert main(["routes", "nano_vit", "--routes", "ptq", "--count", "40", "--out",
                 str(kept)]) == 0  # fmt: skip
    assert len(tested) == 1
    found = json.loads(kept.read_text())["float_top1"]
    assert f"float {100 * found:.2f}" in capsys.readouterr().out
    arrivals(model, Shapes10(), means, ["ptq"], float_top1=0.5, kept=tmp_path / "other.json")
    assert len(tested) == 1
    assert json.loads((tmp_path / "other.json").read_text())["float_top1"] == 0.5
    arrivals(model, Shapes10(), means, ["ptq"], kept=tmp_path / "third.json")
    assert len(tested) == 2
    assert json.loads((tmp_path / "third.json").read_text())["float_top1"] == found


def test_mistakes_of_the_command_are_one_line(tmp_path, capsys):
    made, odd = tmp_path / "made", tmp_path / "odd.toml"
    odd.write_text("pool = 100\n")
    assert main(["synthesize", "nano_swin", "--count", "2", "--steps", "2", "--out",
                 str(made)]) == 0  # fmt: skip
    capsys.readouterr()
    for argv, said in (
        (["--made", str(tmp_path / "none")], "no directory"),
        (["--made", str(made)], "as this model made them, its card says 'nano_swin'"),
        (["--routes", "qat", "--made", str(made)], "--made is for data-free and data-free-tuned"),
        (["--routes", "ptq", "--images", "9"], "--images is for qat and qat-long; asked for are"),
        (["--routes", "qat", "--training", str(odd)], "says pool = 100, which the table decides"),
        (["--routes", "qat", "--images", "1"], "sees at least one batch"),
    ):
        assert main(["routes", "nano_vit", *argv]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_a_training_that_is_stopped_goes_on(model, means, tmp_path, monkeypatch):
    """Its state lies beside the table until the cell is there."""
    kept = tmp_path / "routes.json"
    means = replace(means, training={**means.training, "images": 80}, state=kept)
    whole = ROUTES["qat"](model, Shapes10(), "w8a8", replace(means, state=None))
    steps = []

    def stopping(*args):
        steps.append(args)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return advanced(*args)

    monkeypatch.setattr("refvit.train.advanced", stopping)
    with pytest.raises(KeyboardInterrupt):
        ROUTES["qat"](model, Shapes10(), "w8a8", means)
    assert [path.suffix for path in tmp_path.iterdir()] == [".state"]
    (state,) = tmp_path.iterdir()
    before = seconds_in(state)
    assert before > 0
    monkeypatch.setattr("refvit.routes.seconds_in", lambda path: 60 * (path == state))
    found = arrival(model, Shapes10(), "qat", "w8a8", means=means)
    assert 1 < found.minutes < 10  # with the one that the first part is said to have taken
    assert len(steps) == 3 + 3
    assert not list(tmp_path.iterdir())
    again = ROUTES["qat"](model, Shapes10(), "w8a8", means)
    assert all(np.array_equal(again.params[name], t) for name, t in whole.params.items())


def test_a_table_is_as_wide_as_its_names():
    """A recipe is also the name of a file: its figures stand under the ends of their heads."""
    recipes = ("w8a8", "a_longer_recipe.toml")
    head, row, foot = table(
        [Arrival("ptq", r, 10, 0.5, 0.25, 1000, 1.26) for r in recipes]
    ).splitlines()
    ends = [m.end() for m in re.finditer(r"sim\.|int\.|min", head)]
    assert [m.end() for m in re.finditer(r"\d+\.\d+", row)] == ends
    assert [m.end() for m in re.finditer(r"1,000", foot)] == [ends[1], ends[4]]


def test_a_table_has_a_dash_where_there_is_no_cell():
    cells = [
        Arrival("ptq", "w4a4", 10, 0.5, 0.25, 1000, 1.26),
        Arrival("qat", "w3a3", 10, 0.75, 1.0, 900, 12.0),
    ]
    rows = table(cells).splitlines()
    assert rows[1].split() == ["ptq", "50.00", "25.00", "1.3", "-", "-", "-"]
    assert rows[2].split() == ["qat", "-", "-", "-", "75.00", "100.00", "12.0"]
    assert rows[3].split() == ["bytes,", "weights", "1,000", "900"]
