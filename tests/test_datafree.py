"""Images out of a model: every part of their loss against its formula, and what they become."""

from dataclasses import replace
from itertools import pairwise
from math import exp, log, pi, sqrt

import numpy as np
import pytest

import refvit
from refvit.autodiff import Var, backward
from refvit.images import Preprocess
from refvit.losses import cross_entropy
from refvit.model import Model
from refvit.models import SwinConfig, ViTConfig, random_params
from refvit.ops import Record
from refvit.quant import datafree as D
from refvit.quant import prior_labels, synthesize
from refvit.quant.density import POINTS, differential_entropy, kernel_density, spread

VIT = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 4), classes=5)
DEIT = replace(VIT, depth=1, distillation="heads")
# windows of 2 x 2 on a grid of 4 x 4, shifted in the second block
SWIN = SwinConfig(8, (2,), (2,), (16,), ((2, 2),), (8, 8), (2, 2), classes=5)
MODELS = {"vit": VIT, "deit": DEIT, "swin": SWIN}


def random_model(config, dtype=np.float32):
    """Weights three times as large as at birth, so that patches differ."""
    params = random_params(config, 0).map(lambda t: (t * (3 if t.ndim > 1 else 1)).astype(dtype))
    half = (0.5,) * config.channels
    return Model(config, params, Preprocess(config.image, half, half), tuple("abcde"))


def pixels_for(config, count=3, dtype=np.float64, seed=0):
    shape = (count, config.channels, *config.image)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def slow_entropy(rows):
    """The paper's formula, one term after the other."""
    lo, hi = min(map(min, rows)), max(map(max, rows))
    points = [lo + (hi - lo) * k / 9 for k in range(10)]
    found = []
    for row in rows:
        terms = []
        for x in points:
            total = 0.0
            for v in row:
                total += exp(-((x - v) ** 2) / (2 * 0.01**2)) / sqrt(2 * pi * 0.01**2)
            p = total / len(row) + 1e-4
            terms.append(-p * log(p))
        found.append(sum((a + b) / 2 * (hi - lo) / 9 for a, b in pairwise(terms)))
    return found


def slow_similarities(context, prefix):
    """Cosines of every two patches of [W, H, N, d], windows one after the other."""
    cosines = []
    for window in context:
        patches = window.mean(0)[prefix:]
        for a in patches:
            for b in patches:
                cosines.append(float(a @ b) / sqrt(float(a @ a)) / sqrt(float(b @ b)))
    return cosines


def test_the_entropy_of_a_kernel_density_is_the_double_loop_of_its_formula():
    values = np.random.default_rng(0).uniform(0.2, 0.5, (3, 40))
    np.testing.assert_allclose(spread(values), slow_entropy(values.tolist()), rtol=1e-12)
    single = spread(values.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, slow_entropy(values.tolist()), rtol=1e-3)


def test_values_that_are_all_the_same_have_no_entropy_and_no_gradient():
    leaf = Var(np.full((2, 9), 0.75))
    found = spread(leaf)
    backward(np.sum(found))
    assert np.array_equal(found.value, [0, 0])
    assert not leaf.grad.any()


def test_the_gradient_of_the_entropy_is_the_central_difference_at_fixed_points():
    rng = np.random.default_rng(1)
    values, direction = rng.uniform(0, 0.2, (2, 30)), rng.standard_normal((2, 30))
    points = np.linspace(values.min(), values.max(), POINTS)

    def total(v):
        return np.sum(differential_entropy(kernel_density(v, points), points))

    leaf = Var(values)
    backward(np.sum(spread(leaf)))
    numeric = (total(values + 1e-7 * direction) - total(values - 1e-7 * direction)) / 2e-7
    assert np.vdot(leaf.grad, direction) == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_patch_entropy_is_that_of_the_attention_outputs_of_patches(config):
    """Class and distillation tokens are no patches; in Swin patches meet within a window."""
    model, pixels = random_model(config, np.float64), pixels_for(config)
    record = Record()
    logits = model(pixels, tap=record)
    prefix = 0 if config is SWIN else config.prefix_tokens
    wanted = 0.0
    for site, value in record.values.items():
        if site.endswith(".context"):
            images = np.split(value, len(pixels))
            wanted += np.mean(slow_entropy([slow_similarities(x, prefix) for x in images]))
    found, same = D.patch_entropy(model, pixels)
    assert found == pytest.approx(wanted, rel=1e-9)
    np.testing.assert_allclose(same, logits)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_the_gradient_of_the_whole_loss_is_the_central_difference(config, monkeypatch):
    """The points, which have no gradient, held still, and kernels so wide that all count."""
    points = np.linspace(-1, 1, POINTS)
    monkeypatch.setattr(
        D, "spread", lambda v: differential_entropy(kernel_density(v, points, 0.3), points)
    )
    model, pixels = random_model(config, np.float64), pixels_for(config)
    labels = np.array([0, 3, 1])
    direction = pixels_for(config, seed=1)
    leaf = Var(pixels)
    backward(D.objective(model, D.moved(leaf, 1, True), labels, 3.0))
    ahead, behind = (
        D.objective(model, D.moved(pixels + s * direction, 1, True), labels, 3.0)
        for s in (1e-6, -1e-6)
    )
    assert np.vdot(leaf.grad, direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


def test_the_loss_is_the_sum_of_its_three_parts():
    model, pixels, labels = random_model(VIT, np.float64), pixels_for(VIT), np.array([4, 0, 2])
    entropy, logits = D.patch_entropy(model, pixels)
    variation = D.total_variation(pixels)
    for wanted, worth in ((variation - 3, 1), (variation + 3, 0.25)):
        assert D.objective(model, pixels, labels, wanted, worth) == pytest.approx(
            -worth * entropy + 1.0 * cross_entropy(logits, labels) + 0.05 * 3
        )


def test_total_variation_is_four_norms_of_differences_over_the_batch():
    pixels = pixels_for(VIT, 2)
    n, channels, height, width = pixels.shape
    wanted = 0.0
    for down, across in ((0, 1), (1, 0), (1, -1), (1, 1)):
        total = 0.0
        for b, c, y, x in np.ndindex(n, channels, height, width):
            if y + down < height and 0 <= x + across < width:
                total += (pixels[b, c, y, x] - pixels[b, c, y + down, x + across]) ** 2
        wanted += sqrt(total)
    assert D.total_variation(pixels) == pytest.approx(wanted, rel=1e-12)
    assert D.total_variation(np.ones((1, 3, 4, 4), np.float32)) == pytest.approx(0, abs=1e-15)


def test_the_interval_of_the_paper_holds_for_its_own_images():
    """A quarter of the values in half the deviations: half the root, twice the contrast."""
    theirs = Preprocess((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert D.smooth_scale(theirs, (32, 3, 224, 224)) == pytest.approx(1)
    assert D.smooth_scale(replace(theirs, std=(0.113,) * 3), (32, 3, 112, 112)) == pytest.approx(1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("offset", [-3, 0, 2])
def test_a_flip_and_a_roll_are_undone_by_the_flip_and_the_roll_back(offset, flip):
    pixels = pixels_for(VIT, 2)
    there = D.moved(pixels, offset, flip)
    (height, width), (y, x) = VIT.image, np.indices(VIT.image)
    x = width - 1 - x if flip else x
    assert np.array_equal(there, pixels[..., (y - offset) % height, (x - offset) % width])
    assert np.array_equal(D.moved(D.moved(there, 0, flip), -offset, False), pixels)
    leaf = Var(pixels)
    backward(np.sum(D.moved(leaf, offset, flip) * there))
    assert np.array_equal(leaf.grad, pixels), "the gradient moves back"


def test_the_same_seed_makes_the_same_bytes_and_whole_batches_are_kept():
    model = random_model(SWIN)
    first, again, more, other = (
        synthesize(model, count, seed, steps=3, batch=2)
        for count, seed in ((2, 0), (2, 0), (5, 0), (2, 1))
    )
    assert first.tobytes() == again.tobytes() == more[:2].tobytes() != other.tobytes()
    assert more.shape == (5, 3, 8, 8)
    assert more.dtype == np.float32


def test_pixels_are_those_of_8_bit_images():
    model = random_model(VIT)
    uneven = Preprocess(VIT.image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = synthesize(replace(model, preprocess=uneven), 3, steps=4)
    levels = (
        found * np.array(uneven.std)[:, None, None] + np.array(uneven.mean)[:, None, None]
    ) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert levels.min() > -1e-4
    assert levels.max() < 255 + 1e-4
    assert np.array_equal(uneven.normalise(uneven.images(found)), found)


@pytest.mark.parametrize("mean", [(0.5,), (0.1,)])
def test_no_pixel_is_darker_than_black_or_brighter_than_white(mean):
    ready = Preprocess((2, 2), mean, (0.25,))
    kept = D.valid(ready, np.array([-99.0, 99.0, 0.0, 0.3], np.float32).reshape(1, 1, 2, 2))
    assert kept.ravel().tolist() == pytest.approx([-mean[0] / 0.25, (1 - mean[0]) / 0.25, 0, 0.3])
    assert kept.dtype == np.float32


def test_every_class_is_drawn_once_before_any_is_drawn_twice():
    model = random_model(VIT)
    labels = prior_labels(model, 12, seed=3)
    assert sorted(labels[:5]) == sorted(labels[5:10]) == list(range(5))
    assert np.array_equal(labels[:7], prior_labels(model, 7, seed=3))
    assert not np.array_equal(labels, prior_labels(model, 12, seed=4))


def test_on_a_trained_model_entropy_rises_and_the_classes_become_surer():
    model = refvit.load("nano_vit")
    labels = prior_labels(model, 8, 0)
    start = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    entropy, logits = D.patch_entropy(model, D.valid(model.preprocess, start))
    found = synthesize(model, 8, seed=0, steps=60)
    risen, surer = D.patch_entropy(model, found)
    assert risen > entropy + 1
    assert cross_entropy(surer, labels) < 0.7 * cross_entropy(logits, labels)
    assert D.total_variation(found) < 0.5 * D.total_variation(start)


BAD = {
    "no classes": ({}, "the classes of a model; this one has none"),
    "no images": ({"count": 0}, "count of images is at least 1; got 0"),
    "no steps": ({"steps": 1}, "at least 2 steps, .* got 1 steps"),
    "no batch": ({"batch": 0}, "batches of at least 1; got .* of 0"),
    "an entropy below 0": ({"entropy": -1.0}, "at least 0 and finite; got -1.0"),
    "a seed below 0": ({"seed": -1}, "a seed is at least 0; got -1"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_made_is_refused(change, said):
    model = random_model(VIT)
    with pytest.raises(ValueError, match=said):
        synthesize(model if change else replace(model, labels=()), **change)


def test_an_engine_makes_no_images():
    with pytest.raises(TypeError, match="a float model makes images"):
        synthesize(lambda pixels: pixels)
