"""How images are made: the schedule, the moves and the draws of PSAQ-ViT, batch by batch."""

from dataclasses import replace

import numpy as np
import pytest

from refvit.images import Preprocess
from refvit.model import Model
from refvit.models import SwinConfig, ViTConfig, random_params
from refvit.optim import AdamW
from refvit.quant import datafree as D
from refvit.quant import prior_labels, synthesize

VIT = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 4), classes=5)
SWIN = SwinConfig(8, (2,), (2,), (16,), ((2, 2),), (8, 8), (2, 2), classes=5)


def random_model(config):
    half = (0.5,) * 3
    ready = Preprocess(config.image, half, half)
    return Model(config, random_params(config, 0), ready, tuple("abcde"))


@pytest.mark.parametrize(("config", "peak"), [(VIT, 0.20), (SWIN, 0.25)], ids=["vit", "swin"])
def test_two_rounds_of_adam_each_rise_and_fall(config, peak, monkeypatch):
    """As released: betas 0.5 and 0.9, no decay, a roll of at most 15 and then 30 pixels in 224; and
    pixels are valid behind every step."""
    seen, real, move = [], AdamW.update, D.drawn_move
    reaches = []

    def update(self, state, grads, rate):
        pixels = state.params["pixels"]
        seen.append((self, rate, bool(np.abs(pixels).max() <= 1 + 1e-6)))
        return real(self, state, grads, rate)

    monkeypatch.setattr(AdamW, "update", update)
    monkeypatch.setattr(D, "drawn_move", lambda *a: reaches.append(a[2]) or move(*a))
    D.optimised(random_model(config), np.array([0, 1]), np.random.default_rng(0), 21)
    assert {how for how, *_ in seen} == {AdamW(decay=0.0, beta1=0.5, beta2=0.9)}
    rates = [rate for _, rate, _ in seen]
    for half in (rates[:10], rates[10:]):
        top = int(np.argmax(half))
        assert half[top] == peak
        assert 1 <= top < 3
        assert half[0] == peak / 2
        assert half[-1] < 0.1 * peak
        assert np.all(np.diff(half[top:]) <= 0)
    assert len(rates) == 21
    assert reaches == [15] * 10 + [30] * 11
    assert all(valid for *_, valid in seen[1:])


def test_a_move_is_any_roll_within_reach_and_a_flip_half_the_time():
    rng = np.random.default_rng(0)
    for shape, reach, most in (
        ((1, 3, 224, 300), 15, 15), ((1, 3, 224, 112), 30, 15), ((1, 3, 8, 12), 15, 1),
        ((1, 1, 4, 4), 15, 1),
    ):  # fmt: skip
        drawn = [D.drawn_move(rng, shape, reach) for _ in range(2000)]
        assert {offset for offset, _ in drawn} == set(range(-most, most + 1))
        assert np.mean([flip for _, flip in drawn]) == pytest.approx(0.5, abs=0.05)


def test_every_step_is_the_objective_of_moved_pixels_and_of_its_batch(monkeypatch):
    """The variation that is wanted is drawn once a batch from the paper's interval, brought to the
    size of the images; labels, moves and the worth of entropy are those that were asked for."""
    model, asked, moves, objective, moved = random_model(VIT), [], [], D.objective, D.moved
    monkeypatch.setattr(D, "objective", lambda *a: asked.append(a) or objective(*a))
    monkeypatch.setattr(D, "moved", lambda p, *m: moves.append(m) or moved(p, *m))
    for seed in range(8):
        D.optimised(model, np.array([seed % 5]), np.random.default_rng(seed), 4, 0.75)
    unit = D.smooth_scale(model.preprocess, (1, 3, 8, 12))
    wanted = np.array([a[3] for a in asked]).reshape(8, 4) / unit
    assert np.all(wanted == wanted[:, :1])
    assert len(set(wanted[:, 0])) == 8
    assert wanted.min() >= 2500
    assert wanted.max() <= 3000
    assert {a[4] for a in asked} == {0.75}
    assert [int(a[2][0]) for a in asked] == [seed % 5 for seed in range(8) for _ in range(4)]
    assert len(moves) == 32
    assert len(set(moves)) > 2


def test_batches_begin_from_noise_of_their_own_and_share_out_the_labels(monkeypatch):
    model, given = random_model(VIT), []

    def optimised(model, labels, rng, steps, entropy, advance):
        given.append((labels.tolist(), rng.standard_normal(), steps, entropy))
        return np.zeros((len(labels), 3, 8, 12), np.float32)

    monkeypatch.setattr(D, "optimised", optimised)
    for seed in (3, 4):
        synthesize(model, 7, seed, steps=6, batch=3, entropy=0.5)
        each = [labels for labels, *_ in given[-3:]]
        assert [len(labels) for labels in each] == [3, 3, 1]
        assert [label for labels in each for label in labels] == prior_labels(
            model, 7, seed
        ).tolist()
    assert len({noise for _, noise, *_ in given}) == 6
    assert {(steps, entropy) for *_, steps, entropy in given} == {(6, 0.5)}


@pytest.mark.parametrize("factor", [np.nan, 1e25])
def test_a_model_that_gives_no_numbers_makes_no_images(factor):
    model = random_model(VIT)
    worse = replace(model, params=model.params.map(lambda t: t * np.float32(factor)))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"makes no image: its loss is"):
        synthesize(worse, 2, steps=2)


def test_contrast_is_the_mean_over_channels():
    """Pixels of larger deviations are divided by more, so their differences are smaller."""
    ready = Preprocess((224, 224), (0.5,) * 3, (0.226,) * 3)
    shape = (32, 3, 224, 224)
    twice = replace(ready, std=(0.452,) * 3)
    assert D.smooth_scale(twice, shape) == pytest.approx(0.5 * D.smooth_scale(ready, shape))
