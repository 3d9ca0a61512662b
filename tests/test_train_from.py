"""`refvit train --from`: training that goes on from a model, on grids or without."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit import train as train_module
from refvit import train_from, train_inputs
from refvit.checkpoints import find_model, save_model
from refvit.cli import main
from refvit.methods import changed, resolved
from refvit.quant import (
    PRESETS,
)
from refvit.sources import Shapes10
from refvit.train_from import learn
from refvit.train_recipe import TrainRecipe, read_recipe

W4A4 = resolved(refvit.random("nano_vit"), PRESETS["w4a4"])


GROUPED = changed(W4A4, "*.weight", group=16)


def test_the_command_trains_on_and_writes_an_engine_that_replays(tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    asked = ["train", "--qat", "w4a4", "--from", "nano_vit", "--images", "512", "--batch", "64",
             "--test", "1000", "--out", str(out)]  # fmt: skip
    assert main(asked) == 0
    first = out.read_bytes()
    card = json.loads(out.with_suffix(".json").read_text())
    engine = refvit.load(out)
    assert engine.digest == card["digest"]
    assert card["integer_top1"] == pytest.approx(card["top1"], abs=0.03)
    assert card["recipe"]["start"] == "nano_vit"
    assert "--from nano_vit --qat w4a4" in card["command"]
    assert main(asked) == 0  # the finished state gives the same engine again
    assert out.read_bytes() == first
    capsys.readouterr()


def test_a_teacher_and_damping_change_what_is_learned():
    base = {"start": "nano_vit", "qat": "w3a3", "images": 64, "batch": 32, "warmup": 0,
            "calibration": 16, "shards": 1}  # fmt: skip
    model, ways = refvit.load("nano_vit"), ({}, {"alpha": 0.0}, {"damping": 1.0})
    found = [learn(model, Shapes10(), TrainRecipe(**base, **way)).params for way in ways]
    other = [learn(model, Shapes10(), TrainRecipe(**base, teacher="nano_swin")).params]
    for i, one in enumerate(found + other):
        for two in (found + other)[:i]:
            assert any(not np.array_equal(two[name], t) for name, t in one.items())


def test_what_the_engine_refuses_is_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refvit.train_from.train", None)
    named = tmp_path / "grouped.toml"
    named.write_text(GROUPED.to_toml())
    out = tmp_path / "out" / "e.safetensors"
    asked = ["train", "--from", "nano_vit", "--out", str(out), "--qat"]
    for argv, said in (
        ([str(named), "--method", "minmax"], "write group = 0 in its line of the recipe"),
        (["w4a4", "--method", "dynamic"], "found at run time"),
    ):
        assert main([*asked, *argv]) == 2
        assert said in capsys.readouterr().err
    assert not list(out.parent.iterdir())


def stopped(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("what", ["grids", "teacher"])
def test_a_stopped_training_goes_on_with_what_it_began_with_alone(what, tmp_path, monkeypatch):
    """Grids that learn nothing are no tensors, and a teacher is more than its name."""
    model, state = refvit.load("nano_vit"), tmp_path / "state"
    sites, teacher = tmp_path / "r.toml", tmp_path / "teacher.safetensors"
    about = {"start": "nano_vit", "qat": str(sites), "images": 48, "batch": 16, "calibration": 8,
             "teacher": str(teacher), "method": "minmax"}  # fmt: skip

    def write(bits, seed):
        grids = changed(W4A4, "*.softmax", quantizer="log2", observer="mse", bits=bits)
        sites.write_text(grids.to_toml())
        save_model(teacher, refvit.random("nano_vit", seed=seed), {})

    write(4, 0)
    real, steps = train_module.advanced, []
    monkeypatch.setattr(
        "refvit.train.advanced", lambda *a: stopped() if len(steps) else steps.append(1) or real(*a)
    )
    with pytest.raises(KeyboardInterrupt):
        learn(model, Shapes10(), TrainRecipe(**about), state)
    monkeypatch.setattr("refvit.train.advanced", stopped)
    with pytest.raises(KeyboardInterrupt):  # it goes on
        learn(model, Shapes10(), TrainRecipe(**about), state)
    write(3 if what == "grids" else 4, 1 if what == "teacher" else 0)
    with pytest.raises(ValueError, match="its teacher, its model or the recipe of its grids"):
        learn(model, Shapes10(), TrainRecipe(**about), state)


def test_a_state_that_is_cut_is_one_line_with_its_cure(tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    (tmp_path / "x.safetensors.state").write_bytes(b"cut")
    for asked in ([], ["--qat", "w8a8"]):
        argv = ["train", "--from", "nano_vit", "--images", "128", *asked, "--out", str(out)]
        assert main(argv) == 2
        err = capsys.readouterr().err
        assert err.rstrip().endswith("delete it to begin anew")
        assert err.count("\n") == 1


def test_a_model_is_not_written_into_the_directory_it_is_read_from(tmp_path, capsys):
    held = tmp_path / "held"
    held.mkdir()
    shutil.copy(find_model("nano_vit"), held / "model.safetensors")
    before = (held / "model.safetensors").read_bytes()
    for name in ("--from", "--teacher"):
        asked = ["--from", "nano_vit"] if name == "--teacher" else []
        argv = ["train", "nano_vit", *asked, name, str(held), "--out", str(held / "x.safetensors")]
        assert main(argv) == 2
        assert "lies in the directory of the model that is read" in capsys.readouterr().err
    assert [path.name for path in held.iterdir()] == ["model.safetensors"]
    assert (held / "model.safetensors").read_bytes() == before


def test_a_float_model_goes_on_without_grids(tmp_path, capsys):
    out = tmp_path / "tuned.safetensors"
    asked = ["train", "nano_vit", "--from", "nano_vit", "--images", "256", "--rate", "1e-5",
             "--test", "200", "--out", str(out)]  # fmt: skip
    assert main(asked) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["top1"] == pytest.approx(card["start_top1"], abs=0.02)
    assert isinstance(refvit.load(out), type(refvit.load("nano_vit")))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--qat", "w4a4"], "name it with --from"),
        (["--qat", "w9a9", "--from", "nano_vit"], "no recipe 'w9a9'"),
        (["--qat", "w4a4", "--from", "nano_vti"], "nano_vit"),
        (["--from", "nano_vit", "--damping", "5"], "damping 5.0 is for training that quantizes"),
        (["--from", "nano_vit", "--model", "nano_swin"], "what --from names has its own"),
        (["--qat", "w4a4", "--from", "nano_vit", "--damping", "inf"], "not below 0, calibration"),
        (["--qat", "w4a4", "--from", "nano_vit", "--calibration", "0"], "at least 1 image"),
        (["--qat", "w4a4", "--from", "nano_vit", "--test", "0"], "--test is at least 1 image"),
        (
            ["--qat", "w4a4", "--from", "nano_vit", "--images", "10"],
            "got 10 images and a batch of 32: more images or a smaller batch",
        ),
        (["--qat", "w4a4", "--from", "nano_vit", "--pool", "-1"], "0 for all there are; got -1"),
        (["qat"], "is for training that learns from a teacher"),
    ],
)
def test_what_cannot_be_trained_is_one_line(asked, said, tmp_path, capsys):
    assert main(["train", *asked, "--out", str(tmp_path / "x.safetensors")]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_the_shipped_recipe_needs_a_start():
    about = read_recipe("qat")
    assert about["distill"] == "soft"
    with pytest.raises(ValueError, match="--from"):
        TrainRecipe(**about, qat="w4a4")


@pytest.mark.parametrize("asked", [["--qat", "w8a8"], ["nano_vit", "--teacher", "nano_swin"]])
def test_a_teacher_is_made_once_and_is_the_one_that_teaches(tmp_path, capsys, monkeypatch, asked):
    made, taught, real = [], [], train_from.train

    def teacher_of(*args):
        made.append(train_inputs.teacher_of(*args))
        return made[-1]

    def watched(recipe, state, source, teacher, student):
        taught.append(teacher)
        return real(recipe, state, source, teacher, student=student)

    monkeypatch.setattr("refvit.train_from.teacher_of", teacher_of)
    monkeypatch.setattr("refvit.train_from.train", watched)
    out = tmp_path / "x.safetensors"
    assert main(["train", *asked, "--from", "nano_vit", "--images", "128", "--batch", "128",
                 "--test", "20", "--out", str(out)]) == 0  # fmt: skip
    assert len(made) == 1
    assert taught == [made[0][0]]
    card = json.loads(out.with_suffix(".json").read_text())
    assert ("teacher_sha256" in card) == ("--teacher" in asked)
    capsys.readouterr()


@pytest.mark.parametrize("asked", [["nano_vit"], ["nano_vit", "--from", "nano_vit"]])
def test_a_stopped_training_names_the_state_it_goes_on_from(tmp_path, capsys, monkeypatch, asked):
    """And a run that is stopped before it has one says no more than that."""
    out, steps, real = tmp_path / "x.safetensors", [], train_module.advanced

    def stopping(*args):
        steps.append(1)
        if len(steps) in (1, 3):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr("refvit.train.advanced", stopping)
    argv = ["train", *asked, "--images", "32", "--batch", "8", "--test", "20", "--out", str(out)]
    assert main(argv) == 130
    assert capsys.readouterr().err == "\nrefvit: stopped\n"
    assert main(argv) == 130
    assert capsys.readouterr().err == (
        f"\nrefvit: stopped; '{out}.state' keeps the training, and the same command goes on from "
        "there\n"
    )
    assert main(argv) == 0
    assert len(steps) == 1 + 2 + 3
    capsys.readouterr()


def test_a_rate_that_is_too_high_is_one_line(tmp_path):
    """In a process of its own, where nothing stands between NumPy's warnings and the user."""
    argv = ["train", "nano_vit", "--from", "nano_vit", "--rate", "1e30", "--warmup", "0",
            "--images", "32", "--batch", "8", "--out", str(tmp_path / "x.safetensors")]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "refvit", *argv], capture_output=True, text=True,
        cwd=Path(refvit.__file__).parents[1],
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr == "refvit: error: the loss is nan after step 0; lower the rate\n"
