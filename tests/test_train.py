"""Training: schedule, optimiser, and a run that may be stopped anywhere."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from refvit import data, optim
from refvit import train as training
from refvit.files import write_tensors
from refvit.images import Preprocess
from refvit.models import random_params, variant
from refvit.optim import AdamW, clip_by_global_norm, fresh, warmup_cosine
from refvit.train import TrainRecipe, train

RECIPE = TrainRecipe(images=8 * 6, batch=8, warmup=2)


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
    whole = dict(train(RECIPE, tmp_path / "whole").items())
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
            train(RECIPE, tmp_path / "part", save_every=0.0)
    resumed = dict(train(RECIPE, tmp_path / "part").items())
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_shards_give_the_gradient_of_the_batch():
    config = variant("nano_vit")
    tensors = {k: v.astype(np.float64) for k, v in random_params(config, 0).items()}
    rng = np.random.default_rng(0)
    pixels, labels = rng.standard_normal((8, 3, 32, 32)), rng.integers(0, 10, 8)
    whole, loss, _ = training.gradients(config, tensors, pixels, labels, 0.1)
    with ThreadPoolExecutor(4) as pool:
        recipe = TrainRecipe(images=8, batch=8, shards=4)
        parts = training.sharded_gradients(recipe, config, tensors, pixels, labels, pool)
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
        train(RECIPE, tmp_path / "state", save_every=0.0)
    monkeypatch.setattr(training, "gradients", real)
    whole, resumed = (dict(train(RECIPE, tmp_path / name).items()) for name in ("new", "state"))
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_learning_lowers_the_loss():
    config = variant("nano_vit")
    state = fresh(dict(random_params(config, 0).items()))
    images, labels = data.shapes10("train", 16)
    pixels, losses = Preprocess(config.image).normalise(images), []
    for _ in range(12):
        grads, loss, _ = training.gradients(config, state.params, pixels, labels, 0.0)
        state = AdamW().update(state, grads, 3e-3)
        losses.append(loss)
    assert losses[-1] < 0.7 * losses[0]


def test_a_state_of_another_recipe_is_refused(tmp_path):
    train(RECIPE, tmp_path / "state")
    with pytest.raises(ValueError, match="belongs to another run"):
        train(TrainRecipe(images=8 * 6, batch=8, warmup=2, seed=1), tmp_path / "state")
    meta = {"recipe": json.dumps(dataclasses.asdict(RECIPE)), "step": "3"}
    write_tensors(tmp_path / "part", {"param/head.bias": np.zeros(10)}, meta)
    with pytest.raises(ValueError, match="not a whole training state"):
        train(RECIPE, tmp_path / "part")
    with pytest.raises(ValueError, match="at least one batch"):
        TrainRecipe(images=1)
