"""Asymmetric activations of a trained model end in an engine, after PTQ and QAT."""

import json

import numpy as np
import pytest
from asymmetric_models import zeros

import refvit
from refvit.cli import main
from refvit.integer.zero_points import engine_grid
from refvit.methods import resolved
from refvit.quant import PRESETS, Learnable, QParams, Recipe, Spec


@pytest.mark.parametrize(
    ("grid", "learned", "said"),
    [
        (QParams([1.0], 8, axis=0, zero_point=[3]), True, "w: .* a line with symmetric = true in"),
        (QParams([1.0], 8, axis=0, zero_point=[3]), False, "w: .* one zero point; leave out axis"),
        (QParams([[1.0]], 8, axis=0, group=4), True, "w: .* write group = 0 in its line of the"),
    ],
)  # fmt: skip
def test_what_stays_without_an_integer_form_names_its_cure(grid, learned, said):
    with pytest.raises(ValueError, match=said) as error:
        engine_grid("w", grid, learned)
    assert "\n" not in str(error.value)


def recipe(bits):
    """Weights of `bits` bits a channel, every activation asymmetric: 8 bits, or of w4a4 `bits`."""
    given = resolved(refvit.random("nano_vit"), PRESETS[f"w{bits}a{bits}"])
    line = Spec(bits, False, symmetric=False)
    table = {
        site: spec if site.endswith(".weight") or spec.bits > 8 else line
        for site, spec in given.table.items()
    }
    return Recipe(f"w{bits}a{bits}z", table)


@pytest.fixture(scope="module")
def nano():
    model = refvit.load("nano_vit")
    sets = (refvit.data.shapes10(*asked)[0] for asked in (("calibration", 64), ("test", 300)))
    return model, *(model.preprocess.normalise(images) for images in sets)


def test_a_trained_model_classifies_as_the_simulated_one_does(nano):
    """All activations but the 16 bits of the stream are asymmetric."""
    model, calibration, pixels = nano
    quantized = refvit.quantize(model, calibration, recipe(8))
    engine = refvit.compile(quantized)
    assert len(zeros(quantized.qparams)) > 30
    exact, found = quantized(pixels).argmax(1), engine(pixels).argmax(1)
    assert np.mean(exact == found) >= 0.97
    assert np.mean(found == model(pixels).argmax(1)) >= 0.95


def test_zero_points_that_are_learned_become_those_of_the_engine(nano):
    """LSQ+ moves them as reals in steps; they settle into codes, at the ends too."""
    model, calibration, pixels = nano
    learnable = Learnable(refvit.quantize(model, calibration, recipe(8)))
    moves = iter(np.random.default_rng(0).normal(0, 3, 200))
    moved = {
        name: np.float32(t + next(moves)) if name.endswith("@zero_point") else t
        for name, t in learnable.tensors.items()
    }
    learned = learnable.settled(moved)
    engine = refvit.compile(learned)
    for name, real in moved.items():
        if name.endswith("@zero_point"):
            found = engine.grid(name.removesuffix("@zero_point")).zero_point
            assert found == np.clip(np.rint(real), 0, 255), name
    assert all(row.passes for row in refvit.lockstep(learned, engine, pixels[:1]))


def test_training_with_zero_points_ends_in_integers(tmp_path, capsys, monkeypatch):
    """`refvit train --qat` with lines of `symmetric = false`."""
    real, compiled = refvit.train_from.compile, []
    monkeypatch.setattr("refvit.train_from.compile", lambda q: (compiled.append(q), real(q))[1])
    named, out = tmp_path / "r.toml", tmp_path / "e.safetensors"
    named.write_text(recipe(8).to_toml())
    assert "symmetric = false" in named.read_text()
    asked = ["--images", "128", "--batch", "64", "--test", "500", "--json", "--out", str(out)]
    assert main(["train", "--qat", str(named), "--from", "nano_vit", *asked]) == 0
    card, engine = json.loads(capsys.readouterr().out), refvit.load(out)
    assert card["integer_top1"] == pytest.approx(card["top1"], abs=0.0061)  # of 500 images, 3
    assert card["top1"] > 0.9
    wanted = zeros(compiled[-1].qparams)
    assert zeros({site: engine.grid(site) for site in wanted}) == wanted
    assert len(wanted) > 30
