"""Reconstruction: a quantized model learns from images without labels to be the float one."""

from dataclasses import replace

import numpy as np
import pytest

import refvit
from refvit.images import Preprocess
from refvit.model import Model
from refvit.models import SwinConfig, ViTConfig, random_params
from refvit.progress import Progress
from refvit.quant import FakeQuantize, quantize_model, reconstruct, reparameterise
from refvit.quant.reconstruct import distance, stream_of

VIT = ViTConfig(16, 2, 2, 32, image=(8, 8), patch=(4, 4), classes=5)
SWIN = SwinConfig(8, (2, 1), (2, 2), (16, 32), ((2, 2), (2, 2)), (8, 8), (2, 2), classes=5)


def random_model(config):
    """Weights three times as large as at birth, so that what a block adds is not small."""
    params = random_params(config, 0).map(lambda t: t * np.float32(3 if t.ndim > 1 else 1))
    return Model(config, params, Preprocess(config.image, (0.5,) * 3, (0.5,) * 3), tuple("abcde"))


def images(config, count=64, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3, *config.image)).astype(np.float32)


def apart(quantized, exact, pixels):
    """What reconstruction makes small, of the simulated model as it is used."""
    tap = FakeQuantize(quantized.qparams)
    found = stream_of(quantized.config, quantized.params, pixels, tap)
    return float(distance(found, stream_of(exact.config, exact.params, pixels)))


@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
def test_what_is_learned_is_nearer_to_the_float_model_on_other_images_too(config):
    exact = random_model(config)
    start = quantize_model(exact, images(config), "w4a4")
    found = reconstruct(start, exact, images(config), steps=100, batch=16, rate=3e-3)
    others = images(config, 32, seed=2)
    assert apart(found, exact, others) < 0.9 * apart(start, exact, others)
    assert found.qparams.keys() == start.qparams.keys()
    assert all(found.qparams[name].bits == q.bits for name, q in start.qparams.items())
    engine = refvit.compile(found)
    assert engine(others).dtype == np.int32


def test_the_distance_is_zero_between_a_model_and_itself_and_relative():
    exact = random_model(VIT)
    stream = stream_of(VIT, exact.params, images(VIT, 4))
    assert set(stream) == {"blocks.0.add2", "blocks.1.add2", "output"}
    assert distance(stream, stream) == 0
    half = {site: y / 2 for site, y in stream.items()}
    assert distance(half, stream) == pytest.approx(3 * 0.25)


def test_the_target_is_the_float_model_not_the_folded_one():
    """A rewrite leaves the function and the stream alone, so what starts from it has the same."""
    exact = random_model(VIT)
    folded = reparameterise(exact, images(VIT))
    assert not np.array_equal(
        folded.params["blocks.0.norm1"].weight, exact.params["blocks.0.norm1"].weight
    )
    near = distance(*(stream_of(VIT, m.params, images(VIT, 8)) for m in (folded, exact)))
    assert near < 1e-9


def test_the_target_is_the_float_model_not_the_quantized_one(monkeypatch):
    """The first distance is that of the simulated model to the float model it was given, whichever
    that is; and what learns from either is nearer to its own."""
    exact, shown = random_model(VIT), []
    start, all_of_them = quantize_model(exact, images(VIT), "w4a4"), images(VIT)
    moved = exact.params.map(lambda t: t + np.float32(0.5) if t.shape == (5,) else t)
    targets = [exact, replace(exact, params=moved)]
    monkeypatch.setattr(Progress, "advance", lambda bar, done, note: shown.append(note))
    found = [reconstruct(start, to, all_of_them, steps=40, batch=64, rate=1e-2) for to in targets]
    for said, to in zip((shown[0], shown[40]), targets, strict=True):
        assert said == f"distance {apart(start, to, all_of_them):.4f}"
    for k, to in enumerate(targets):
        assert apart(found[k], to, all_of_them) < apart(found[1 - k], to, all_of_them)


def test_the_same_seed_learns_the_same():
    exact = random_model(VIT)
    start = quantize_model(exact, images(VIT), "w4a4")
    first, again, other = (
        reconstruct(start, exact, images(VIT), steps=3, batch=8, seed=seed) for seed in (0, 0, 1)
    )
    tensors = [dict(q.params.items()) for q in (first, again, other)]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not all(np.array_equal(tensors[0][name], tensors[2][name]) for name in tensors[0])


def test_fewer_images_than_a_batch_are_one_batch():
    exact = random_model(VIT)
    start = quantize_model(exact, images(VIT), "w4a4")
    assert reconstruct(start, exact, images(VIT, 3), steps=2).recipe == "w4a4"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "got 0, 32 and"),
        ({"batch": 0}, "got 1000, 0 and"),
        ({"rate": -1.0}, "and -1.0"),
        ({"pixels": 0}, "shape"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(change, said):
    exact = random_model(VIT)
    start = quantize_model(exact, images(VIT), "w4a4")
    pixels = images(replace(VIT, image=(8, 12))) if "pixels" in change else images(VIT)
    change.pop("pixels", None)
    with pytest.raises(ValueError, match=said):
        reconstruct(start, exact, pixels, **change)
