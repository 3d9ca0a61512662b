"""Gradients agree with central differences along random directions, in float64."""

import dataclasses

import numpy as np
import pytest

from refvit.autodiff import RULES, SPENT, Var, backward, getitem
from refvit.losses import cross_entropy
from refvit.models import SwinConfig, ViTConfig, random_params
from refvit.ops import functional as F
from refvit.quant.density import kernel_density
from refvit.quant.lsq import lsq, scaled, straight_through
from refvit.train import Batch, Student, gradients
from refvit.train_recipe import TrainRecipe

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.5, 2.0, shape)


CASES = {  # one for every rule: function of arrays, and where to differentiate it
    np.add: (np.add, normal(3, 1, 4), normal(2, 4)),
    np.subtract: (np.subtract, normal(3, 4), normal(4)),
    np.multiply: (np.multiply, normal(3, 4), normal(3, 1)),
    np.where: (lambda a, b: np.where(np.arange(4) % 2 == 0, a, b), normal(3, 4), normal(4)),
    np.true_divide: (np.true_divide, normal(3, 4), positive(4)),
    np.negative: (np.negative, normal(5)),
    np.exp: (np.exp, normal(5)),
    np.log: (np.log, positive(5)),
    np.sqrt: (np.sqrt, positive(5)),
    np.matmul: (np.matmul, normal(2, 3, 4), normal(4, 5)),
    np.reshape: (lambda x: np.reshape(x, (6, 2)), normal(3, 4)),
    np.sum: (lambda x: np.sum(x, axis=1), normal(3, 4)),
    np.mean: (lambda x: np.mean(x, axis=(0, 2), keepdims=True), normal(3, 4, 2)),
    getitem: (lambda x: x[:, np.array([0, 0, 2])], normal(3, 4)),
    F.linear: (F.linear, normal(2, 3, 4), normal(5, 4), normal(5)),
    F.softmax: (F.softmax, normal(3, 4)),
    F.layer_norm: (lambda x, w, b: F.layer_norm(x, w, b, 1e-2), normal(3, 4), normal(4), normal(4)),
    F.gelu: (F.gelu, normal(30) * 2),
    F.gelu_tanh: (F.gelu_tanh, normal(30) * 2),
    F.roll: (lambda x: F.roll(x, (-1, 2), (1, 2)), normal(2, 3, 4)),
    F.pad: (lambda x: F.pad(x, (1, 2), (1, 2)), normal(2, 3, 4)),
    F.rearrange: (lambda x: F.rearrange(x, "b n (h d) -> b h d n", h=2), normal(2, 3, 4)),
    lsq: (  # all clipped, where it is smooth but in its zero point, a staircase
        lambda x, s: lsq(x, s, np.array(2.0), -8, 7, 1.0),
        np.repeat([99.0, -99.0], 4),
        positive(8),
    ),
    kernel_density: (
        lambda x: kernel_density(x, np.linspace(-1, 1, 4), 0.3),
        rng.uniform(-1, 1, (2, 7)),
    ),
    F.concat: (lambda a, b: F.concat((a, b), 1), normal(1, 1, 3), normal(2, 4, 3)),
}


def test_every_rule_has_a_case():
    """But for the straight-through estimators, whose gradient is on purpose not the derivative."""
    assert set(CASES) == set(RULES) - {straight_through, scaled}


@pytest.mark.parametrize("rule", CASES, ids=lambda fn: getattr(fn, "__name__", str(fn)))
def test_vjp_is_the_directional_derivative(rule):
    fn, *args = CASES[rule]
    leaves = [Var(a) for a in args]
    out = fn(*leaves)
    assert np.array_equal(out.value, fn(*args)), "a Var holds what the arrays give"
    weight = normal(*out.shape)
    backward(np.sum(out * weight))
    direction = [normal(*a.shape) for a in args]
    step = 1e-6
    ahead, behind = (
        fn(*[a + s * d for a, d in zip(args, direction, strict=True)]) for s in (step, -step)
    )
    numeric = np.sum((ahead - behind) * weight) / (2 * step)
    exact = sum(np.vdot(leaf.grad, d) for leaf, d in zip(leaves, direction, strict=True))
    assert numeric == pytest.approx(exact, rel=1e-6, abs=1e-7)
    assert [leaf.grad.shape for leaf in leaves] == [a.shape for a in args]


VIT = ViTConfig(12, 2, 3, 20, image=(8, 8), patch=(4, 4), classes=5)
WHOLE = {
    "vit": VIT,
    "deit": dataclasses.replace(VIT, depth=1, distillation="heads"),
    "options": dataclasses.replace(
        VIT, depth=1, pool="mean", fc_norm=True, gelu="tanh", layer_scale=True, qk_norm=True
    ),
    # grids of 5 and 3 by windows of 4: padded, rolled, masked, merged, and absolute positions
    "swin": SwinConfig(4, (2, 2), (2, 2), (6, 8), ((4, 4),) * 2, (10, 10), (2, 2), classes=5),
    "swin_hf": SwinConfig(4, (2,), (2,), (6,), ((4, 4),), (10, 10), (2, 2), classes=5,
                          positions=True, rule="hf"),
}  # fmt: skip


@pytest.mark.parametrize("config", WHOLE.values(), ids=WHOLE)
def test_whole_models_and_their_loss(config):
    start = {
        k: v.astype(np.float64) + 0.3 * normal(*v.shape)
        for k, v in random_params(config, 0).items()
    }
    batch = Batch(normal(3, 3, *config.image), np.eye(5)[[0, 3, 2]])
    student = Student(config, start)
    grads, _, _ = gradients(TrainRecipe(), student, start, batch)
    assert set(grads) == set(start)
    for name, tensor in start.items():
        d = normal(*tensor.shape)
        moved = [
            gradients(TrainRecipe(), student, start | {name: tensor + s * d}, batch)[1]
            for s in (1e-6, -1e-6)
        ]
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(
            np.vdot(grads[name], d), rel=1e-5, abs=1e-7
        ), name


def test_cross_entropy_is_the_mean_negative_log_likelihood():
    logits, labels = normal(4, 5), np.array([0, 1, 4, 2])
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert cross_entropy(logits, labels) == pytest.approx(
        -np.log(chance[np.arange(4), labels]).mean()
    )
    assert cross_entropy(np.zeros((2, 5)), labels[:2], 0.3) == pytest.approx(np.log(5))


def test_a_leaf_used_twice_gets_both_gradients():
    x = Var(np.array([3.0]))
    backward(np.sum(x * x + x))
    assert x.grad == [7.0]


def test_the_tape_is_freed_as_it_unwinds():
    x = Var(normal(4))
    y = x * 2
    backward(np.sum(y))
    assert y._call is SPENT
    with pytest.raises(ValueError, match="unwound by an earlier backward"):
        backward(np.sum(y * y))


def test_a_function_without_a_rule_is_named():
    with pytest.raises(TypeError, match="no gradient rule for 'arctan'"):
        np.arctan(Var(np.ones(2)))
    with pytest.raises(TypeError, match="not reduce"):
        np.add.reduce(Var(np.ones(2)))
    with pytest.raises(ValueError, match="one number"):
        backward(Var(np.ones(2)))
