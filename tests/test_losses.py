"""Losses on logits: what each head of a student learns from."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit import losses
from refvit import train as training
from refvit.autodiff import Var, backward
from refvit.ops.functional import softmax
from refvit.train import Batch
from refvit.train_recipe import TrainRecipe

RECIPE = TrainRecipe(images=8 * 6, batch=8, warmup=2, ema=0.5, augment="flip cutmix=0.5")


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
    recipe, student = dataclasses.replace(RECIPE, model="nano_deit"), heads(rng)
    batch = Batch(np.zeros((4, 1)), np.eye(10)[[0, 1, 2, 3]])
    each = [losses.cross_entropy(v, batch.targets, recipe.smoothing) for v in student.values()]
    assert training.student_loss(recipe, student, batch) == pytest.approx(np.mean(each))


logits_of = st.lists(st.integers(-4800, 4800), min_size=12, max_size=12).map(
    lambda values: np.array(values).reshape(3, 4) / 4
)


@given(logits_of, st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_cross_entropy_is_its_double_sum(logits, smoothing):
    """Szegedy et al. 2016, section 7: -sum q' log p with q' = (1 - eps) q + eps / K, the mean over
    the batch, however far apart the logits are; labels and their shares say the same."""
    labels = np.array([1, 3, 0])
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        most = max(row)
        log_sum = most + math.log(sum(math.exp(v - most) for v in row))
        for k, value in enumerate(row):
            target = (1 - smoothing) * (k == label) + smoothing / 4
            total -= target * (value - log_sum) / 3
    found = losses.cross_entropy(logits, labels, smoothing)
    assert found == pytest.approx(total, rel=1e-9, abs=1e-12)
    assert losses.cross_entropy(logits, np.eye(4)[labels], smoothing) == found


@given(logits_of, logits_of, st.sampled_from([0.5, 1.0, 3.0, 8.0]))
def test_soft_distillation_is_its_double_sum(logits, teacher, tau):
    """Hinton et al. 2015, section 2: tau^2 KL(p || q), the mean over the batch. 0 is the least."""
    total = 0.0
    for own, known in zip(logits / tau, teacher / tau, strict=True):
        p, q = (v - v.max() - math.log(np.sum(np.exp(np.maximum(v - v.max(), -700))))
                for v in (known, own))  # fmt: skip
        total += sum(math.exp(max(a, -700)) * (a - b) for a, b in zip(p, q, strict=True))
    found = float(losses.soft_distillation(logits, teacher, tau))
    assert found == pytest.approx(float(tau**2 * total / 3), rel=1e-9, abs=1e-9)
    assert found >= -1e-9


def test_hard_distillation_is_the_cross_entropy_of_what_the_teacher_takes():
    """Touvron et al. 2021, equation 3; at no temperature."""
    rng = np.random.default_rng(2)
    logits, teacher = rng.standard_normal((2, 5, 4))
    wanted = losses.cross_entropy(logits, np.array([int(np.argmax(row)) for row in teacher]))
    assert losses.hard_distillation(logits, teacher, 7.0) == wanted


@pytest.mark.parametrize("loss", [
    lambda v, other: losses.cross_entropy(v, np.array([1, 0, 2]), 0.1),
    lambda v, other: losses.soft_distillation(v, other, 2.0),
    lambda v, other: losses.hard_distillation(v, other),
], ids=["cross-entropy", "soft", "hard"])  # fmt: skip
def test_the_gradient_of_a_loss_is_the_central_difference(loss):
    logits, other, direction = np.random.default_rng(3).standard_normal((3, 3, 4))
    leaf = Var(logits)
    backward(loss(leaf, other))
    e = 1e-6
    numeric = (loss(logits + e * direction, other) - loss(logits - e * direction, other)) / (2 * e)
    assert np.vdot(leaf.grad, direction) == pytest.approx(numeric, rel=1e-7)
