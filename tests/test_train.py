"""Training: a run that may be stopped anywhere, and goes on from its own state alone."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit import data, optim
from refvit import train as training
from refvit.files import read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.models import random_params, variant
from refvit.optim import AdamW, fresh
from refvit.sources import Shapes10
from refvit.train import Batch, Student, Teacher, train
from refvit.train_recipe import TrainRecipe

RECIPE = TrainRecipe(images=8 * 6, batch=8, warmup=2, ema=0.5, augment="flip cutmix=0.5")


@pytest.mark.parametrize("where", ["gradients", "np.sqrt", "save"])
def test_a_run_stopped_anywhere_and_resumed_ends_at_the_same_weights(tmp_path, monkeypatch, where):
    """Stopped before, in the middle of, or after an update."""
    whole = dict(train(RECIPE, tmp_path / "whole", Shapes10()).items())
    owner, name = (optim.np, "sqrt") if where == "np.sqrt" else (training, where)
    real, calls = getattr(owner, name), []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == {"gradients": 7, "np.sqrt": 130, "save": 2}[where]:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, tmp_path / "part", Shapes10(), save_every=0.0)
    resumed = dict(train(RECIPE, tmp_path / "part", Shapes10()).items())
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_shards_give_the_gradient_of_the_batch():
    config = variant("nano_vit")
    tensors = {k: v.astype(np.float64) for k, v in random_params(config, 0).items()}
    rng = np.random.default_rng(0)
    targets = np.eye(10)[rng.integers(0, 10, 8)]
    batch = Batch(rng.standard_normal((8, 3, 32, 32)), targets)
    recipe = TrainRecipe(images=8, batch=8, shards=4)
    whole, loss, _ = training.gradients(recipe, Student(config, tensors), tensors, batch)
    with ThreadPoolExecutor(4) as pool:
        parts = training.sharded_gradients(recipe, Student(config, tensors), tensors, batch, pool)
    assert parts[1] == pytest.approx(loss)
    for name, g in whole.items():
        np.testing.assert_allclose(parts[0][name], g, atol=1e-12)


def test_gradients_that_are_no_numbers_are_never_stepped_along(monkeypatch):
    """Not in the last step either, whose loss is a number."""
    real, calls = training.gradients, []

    def diverging(*args):
        calls.append(1)
        grads, loss, right = real(*args)
        last = len(calls) > RECIPE.shards * (RECIPE.steps - 1)
        return (
            {name: g * np.float32("nan" if last else 1) for name, g in grads.items()},
            loss,
            right,
        )

    monkeypatch.setattr(training, "gradients", diverging)
    with pytest.raises(ValueError, match="the loss is nan"):
        train(RECIPE, None, Shapes10())
    assert len(calls) == RECIPE.shards * RECIPE.steps


def test_running_means_begin_at_the_first_batch():
    first = training.running(None, (0.4, 0.9))
    assert first == pytest.approx((0.4, 0.9))
    assert training.running(first, (1.4, 0.4)) == pytest.approx((0.42, 0.89))


def test_a_run_that_diverges_keeps_its_last_good_state(tmp_path, monkeypatch):
    real, calls = training.gradients, []

    def diverging(*args):
        calls.append(1)
        grads, loss, right = real(*args)
        return grads, loss if len(calls) < 5 else float("nan"), right

    monkeypatch.setattr(training, "gradients", diverging)
    with pytest.raises(ValueError, match="the loss is nan after step 2; lower the rate"):
        train(RECIPE, tmp_path / "state", Shapes10(), save_every=0.0)
    monkeypatch.setattr(training, "gradients", real)
    whole, resumed = (
        dict(train(RECIPE, tmp_path / name, Shapes10()).items()) for name in ("new", "state")
    )
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_learning_lowers_the_loss():
    config = variant("nano_vit")
    state = fresh(dict(random_params(config, 0).items()))
    images, labels = data.shapes10("train", 16)
    batch, seen = Batch(Preprocess(config.image).normalise(images), np.eye(10)[labels]), []
    for _ in range(12):
        grads, loss, _ = training.gradients(RECIPE, Student(config, {}), state.params, batch)
        state = AdamW().update(state, grads, 3e-3)
        seen.append(loss)
    assert seen[-1] < 0.7 * seen[0]


def test_a_state_that_does_not_know_a_field_has_its_default(tmp_path):
    """States outlive the fields that recipes gain."""
    path = tmp_path / "state"
    whole = train(RECIPE, path, Shapes10())
    tensors, meta = read_tensors(path)
    said = json.loads(meta["recipe"])
    write_tensors(path, tensors, meta | {"recipe": json.dumps({
        name: value for name, value in said.items() if value != getattr(TrainRecipe(), name)
    })})  # fmt: skip
    again = train(RECIPE, path, Shapes10())
    assert all(np.array_equal(again[name], tensor) for name, tensor in whole.items())
    for spoiled in ("", "[1]", '{"later": 3}'):
        write_tensors(path, tensors, meta | {"recipe": spoiled})
        with pytest.raises(ValueError, match="belongs to another run"):
            train(RECIPE, path, Shapes10())


def test_a_state_of_another_recipe_is_refused(tmp_path):
    train(RECIPE, tmp_path / "state", Shapes10())
    other = dataclasses.replace(RECIPE, seed=1, rate=0.5)
    said = r"belongs to another run: its rate 0\.002, asked is 0\.5, seed 0, asked is 1; name a new"
    with pytest.raises(ValueError, match=said):
        train(other, tmp_path / "state", Shapes10())
    meta = {"recipe": json.dumps(dataclasses.asdict(RECIPE)), "step": "3"}
    write_tensors(tmp_path / "part", {"param/head.bias": np.zeros(10)}, meta)
    with pytest.raises(ValueError, match="not a whole training state"):
        train(RECIPE, tmp_path / "part", Shapes10())
    with pytest.raises(ValueError, match="at least one batch"):
        TrainRecipe(images=1)


DISTILLED = dataclasses.replace(RECIPE, model="nano_deit", teacher="nano_vit", alpha=0.3)


def test_a_distilled_run_resumes_too(tmp_path):
    teacher = refvit.load("nano_vit")
    teach = Teacher(lambda images: teacher(teacher.preprocess.normalise(images)))
    whole = dict(train(DISTILLED, tmp_path / "whole", Shapes10(), teach).items())
    calls = []

    def stopping(images):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return teach.logits(images)

    with pytest.raises(KeyboardInterrupt):
        train(DISTILLED, tmp_path / "part", Shapes10(), Teacher(stopping), save_every=0.0)
    resumed = dict(train(DISTILLED, tmp_path / "part", Shapes10(), teach).items())
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


KILLED = """
import sys
from pathlib import Path
from refvit.sources import Shapes10
from refvit.train import train
from refvit.train_recipe import TrainRecipe
recipe = TrainRecipe(images=8 * 60, batch=8, warmup=2)
train(recipe, Path(sys.argv[1]), Shapes10(), save_every=0.0)
"""


def test_a_run_that_is_killed_leaves_a_whole_state_and_ends_alike(tmp_path):
    """SIGKILL, at a moment nobody chose, twice; to the bit at one thread of BLAS, which at more
    divides its work by what is free."""
    state, whole = tmp_path / "state", tmp_path / "whole"
    about = {"cwd": Path(refvit.__file__).parents[1],
             "env": os.environ | {"OPENBLAS_NUM_THREADS": "1"}}  # fmt: skip
    for _ in range(2):
        job = subprocess.Popen([sys.executable, "-c", KILLED, str(state)], **about)
        before = state.stat().st_mtime_ns if state.exists() else 0
        while job.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(0.05)
        job.kill()
        job.wait()
        tensors, meta = read_tensors(state)
        assert int(meta["step"]) >= 1
        assert all(np.isfinite(t).all() for t in tensors.values())
    for path in (state, whole):
        subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True, **about)
    resumed, once = (read_tensors(path)[0] for path in (state, whole))
    assert resumed.keys() == once.keys()
    assert all(np.array_equal(once[name], resumed[name]) for name in once)
