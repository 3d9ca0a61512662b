"""Losses on logits: what each head of a student learns from."""

import dataclasses

import numpy as np
import pytest

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
    recipe, student = dataclasses.replace(DISTILLED, teacher=""), heads(rng)
    batch = Batch(np.zeros((4, 1)), np.eye(10)[[0, 1, 2, 3]])
    each = [losses.cross_entropy(v, batch.targets, recipe.smoothing) for v in student.values()]
    assert training.student_loss(recipe, student, batch) == pytest.approx(np.mean(each))
