"""Training: schedule, optimiser, and a run that may be stopped anywhere."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from refvit import data
from refvit import train as training
from refvit.images import Preprocess
from refvit.models import random_params, variant
from refvit.optim import AdamW, clip_by_global_norm, warmup_cosine
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
    optimiser, p, w = AdamW(decay=0.1), np.array([1.0]), np.ones((1, 1))
    m = v = 0.0
    wanted = 1.0
    for step, g in enumerate([0.3, -0.2, 0.7], start=1):
        optimiser.update(
            {"bias": p, "a.weight": w}, {"bias": np.array([g]), "a.weight": 0 * w}, 0.01
        )
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    assert p[0] == pytest.approx(wanted, rel=1e-12)
    assert w[0, 0] == pytest.approx((1 - 0.001) ** 3), "only matrices decay"


def test_a_run_stopped_and_resumed_ends_at_the_same_weights(tmp_path, monkeypatch):
    whole = dict(train(RECIPE, tmp_path / "whole").items())
    calls = []

    def stopping(*args):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    real = training.gradients
    monkeypatch.setattr(training, "gradients", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path / "part")
    monkeypatch.setattr(training, "gradients", real)
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


def test_learning_lowers_the_loss():
    config = variant("nano_vit")
    tensors = dict(random_params(config, 0).items())
    images, labels = data.shapes10("train", 16)
    pixels = Preprocess(config.image).normalise(images)
    optimiser, losses = AdamW(), []
    for _ in range(12):
        grads, loss, _ = training.gradients(config, tensors, pixels, labels, 0.0)
        optimiser.update(tensors, grads, 3e-3)
        losses.append(loss)
    assert losses[-1] < 0.7 * losses[0]


def test_a_state_of_another_recipe_is_refused(tmp_path):
    train(RECIPE, tmp_path / "state")
    with pytest.raises(ValueError, match="belongs to another run"):
        train(TrainRecipe(images=8 * 6, batch=8, warmup=2, seed=1), tmp_path / "state")
    with pytest.raises(ValueError, match="at least one batch"):
        TrainRecipe(images=1)
