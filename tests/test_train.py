"""Training: schedule, optimiser, and a run that may be stopped anywhere."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit import data, losses, optim
from refvit import train as training
from refvit.autodiff import Var, backward
from refvit.files import read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.models import parameter_shapes, random_params, variant
from refvit.ops.functional import softmax
from refvit.optim import AdamW, clip_by_global_norm, fresh, warmup_cosine
from refvit.sources import Shapes10
from refvit.train import Batch, Student, train
from refvit.train_recipe import TrainRecipe, read_recipe, recipe_names

RECIPE = TrainRecipe(images=8 * 6, batch=8, warmup=2, ema=0.5, augment="flip cutmix=0.5")


def test_the_schedule_rises_then_falls_to_zero():
    rates = [warmup_cosine(s, 100, 10, 2e-3) for s in range(101)]
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert rates[9] == rates[10] == 2e-3
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] < 1e-18


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    grads = {"a": np.array([3.0]), "b": np.array([[4.0]])}
    clipped, norm = clip_by_global_norm(grads, 1.0)
    assert norm == 5.0
    assert clipped["a"] / clipped["b"][0] == pytest.approx(0.75)
    assert np.hypot(clipped["a"], clipped["b"]).item() == pytest.approx(1.0, rel=1e-6)
    assert (clip_by_global_norm(grads, 9.0)[0]["a"] == grads["a"]).all()


def test_adamw_is_its_equations():
    optimiser, w = AdamW(decay=0.1), np.ones((1, 1))
    state = fresh({"bias": np.array([1.0]), "a.weight": w})
    m = v = 0.0
    wanted = 1.0
    for step, g in enumerate([0.3, -0.2, 0.7], start=1):
        state = optimiser.update(state, {"bias": np.array([g]), "a.weight": 0 * w}, 0.01)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    assert state.params["bias"][0] == pytest.approx(wanted, rel=1e-12)
    assert state.params["a.weight"][0, 0] == pytest.approx(0.999**3), "only matrices decay"
    assert w[0, 0] == 1, "the state before is still whole"


@pytest.mark.parametrize("where", ["gradients", "np.sqrt", "_save"])
def test_a_run_stopped_anywhere_and_resumed_ends_at_the_same_weights(tmp_path, monkeypatch, where):
    """Stopped before, in the middle of, or after an update."""
    whole = dict(train(RECIPE, tmp_path / "whole", Shapes10()).items())
    owner, name = (optim.np, "sqrt") if where == "np.sqrt" else (training, where)
    real, calls = getattr(owner, name), []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == {"gradients": 7, "np.sqrt": 130, "_save": 2}[where]:
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
    with pytest.raises(ValueError, match="belongs to another run"):
        train(dataclasses.replace(RECIPE, seed=1), tmp_path / "state", Shapes10())
    meta = {"recipe": json.dumps(dataclasses.asdict(RECIPE)), "step": "3"}
    write_tensors(tmp_path / "part", {"param/head.bias": np.zeros(10)}, meta)
    with pytest.raises(ValueError, match="not a whole training state"):
        train(RECIPE, tmp_path / "part", Shapes10())
    with pytest.raises(ValueError, match="at least one batch"):
        TrainRecipe(images=1)


DISTILLED = dataclasses.replace(RECIPE, model="nano_deit", teacher="nano_vit", alpha=0.3)


def heads(rng, classes=10):
    return {name: rng.standard_normal((4, classes)) for name in ("head", "head_dist")}


@pytest.mark.parametrize("distill", ["hard", "soft"])
def test_the_first_head_learns_from_labels_and_the_second_from_the_teacher(distill):
    rng = np.random.default_rng(0)
    recipe = dataclasses.replace(DISTILLED, distill=distill, smoothing=0.0)
    student, taught = heads(rng), rng.standard_normal((4, 10))
    batch = Batch(np.zeros((4, 1)), np.eye(10)[[0, 1, 2, 3]], taught)
    leaves = {name: Var(value) for name, value in student.items()}
    backward(training.student_loss(recipe, leaves, batch))
    chance = {name: softmax(value) for name, value in student.items()}
    own = 0.7 * (chance["head"] - batch.targets) / 4
    assert np.allclose(leaves["head"].grad, own)
    if distill == "hard":
        wanted = 0.3 * (chance["head_dist"] - np.eye(10)[taught.argmax(1)]) / 4
    else:
        tau = recipe.temperature
        wanted = 0.3 * tau * (softmax(student["head_dist"] / tau) - softmax(taught / tau)) / 4
    assert np.allclose(leaves["head_dist"].grad, wanted)


def test_soft_distillation_of_a_copy_is_nothing_and_hard_is_its_own_confidence():
    logits = np.random.default_rng(1).standard_normal((5, 10))
    assert losses.soft_distillation(logits, logits, 2.0) == pytest.approx(0, abs=1e-12)
    hard = losses.hard_distillation(logits, logits)
    assert hard == pytest.approx(-np.log(softmax(logits).max(1)).mean())


def test_without_a_teacher_both_heads_learn_from_the_labels():
    rng = np.random.default_rng(0)
    recipe, student = dataclasses.replace(DISTILLED, teacher=""), heads(rng)
    batch = Batch(np.zeros((4, 1)), np.eye(10)[[0, 1, 2, 3]])
    each = [losses.cross_entropy(v, batch.targets, recipe.smoothing) for v in student.values()]
    assert training.student_loss(recipe, student, batch) == pytest.approx(np.mean(each))


def test_a_distilled_run_resumes_too(tmp_path):
    teacher = refvit.load("nano_vit")

    def teach(images):
        return teacher(teacher.preprocess.normalise(images))

    whole = dict(train(DISTILLED, tmp_path / "whole", Shapes10(), teach).items())
    calls = []

    def stopping(images):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return teach(images)

    with pytest.raises(KeyboardInterrupt):
        train(DISTILLED, tmp_path / "part", Shapes10(), stopping, save_every=0.0)
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


def test_the_average_of_weights_trails_them():
    optimiser, state = AdamW(ema=0.9), fresh({"w": np.zeros(1)}, averaged=True)
    values = [0.0]
    for step in range(1, 30):
        state = optimiser.update(state, {"w": np.array([1.0])}, 0.1)
        keep = min(0.9, step / (step + 10))
        values.append(values[-1] * keep + float(state.params["w"][0]) * (1 - keep))
    assert state.average["w"][0] == pytest.approx(values[-1])


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_travels_is_one(name):
    about = read_recipe(name)
    if name == "qat":  # it goes on from any model
        with pytest.raises(ValueError, match="is for training that learns from a teacher"):
            TrainRecipe(**about)
        about |= {"start": "nano_vit", "qat": "w4a4"}
    recipe = TrainRecipe(**about)
    assert name in (recipe.model, "qat")
    assert recipe.config.classes == len(recipe.class_names)
    assert sum(math.prod(s) for s in parameter_shapes(recipe.config).values()) < 1_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates = 0.1", "a recipe has no 'rates', perhaps rate"),
        ('rate = "fast"', "rate is a float, got 'fast'"),
        ("images = 1.5", "images is a int, got 1.5"),
        ("model = ", "is not TOML"),
    ],
)
def test_a_recipe_that_is_none_says_why(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(str(tmp_path / "r.toml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": "spin"}, "no augmentation 'spin'; there are flip"),
        ({"augment": "shift=far"}, "wants a number"),
        ({"distill": "firm"}, "distill one of hard, soft"),
        ({"model": "fashion_vit"}, "reads other"),
        ({"temperature": 0.0}, "temperature is above 0"),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)
    with pytest.raises(FileNotFoundError, match=r"no recipe 'nano': .* by name: .*nano_vit"):
        read_recipe("nano")
