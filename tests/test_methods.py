"""Methods by name: each simulates the model it is given and ends in an engine."""

import numpy as np
import pytest

import refvit
from refvit.cli import main
from refvit.images import Preprocess
from refvit.methods import METHODS, changed, resolved
from refvit.model import Model
from refvit.models import ViTConfig, random_params
from refvit.quant import (
    PRESETS,
    DynamicGrid,
    Log2Grid,
    LogSqrt2Grid,
    QParams,
    Recipe,
    Spec,
    TwinGrid,
)


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


QUICK = ("minmax", "per-tensor", "percentile", "log2", "smoothquant", "repq")


@pytest.mark.parametrize("name", QUICK)
def test_a_method_simulates_the_model_it_is_given(model, name):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 32)[0])
    quantized = METHODS[name](model, pixels, PRESETS["w8a8"])
    assert np.mean(quantized(pixels).argmax(1) == model(pixels).argmax(1)) >= 0.9
    assert quantized.recipe == "w8a8"


@pytest.mark.parametrize("recipe", ["w8a8", "w3a3"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_ends_in_an_engine(name, recipe, monkeypatch):
    monkeypatch.setattr("refvit.methods.STEPS", 3)
    config = ViTConfig(16, 2, 2, 24, image=(8, 8), patch=(4, 4), classes=5)
    ready = Preprocess(config.image, (0.5,) * 3, (0.5,) * 3)
    model = Model(config, random_params(config, 0), ready, tuple("abcde"))
    pixels = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    quantized = METHODS[name](model, pixels, PRESETS[recipe])
    assert np.isfinite(quantized(pixels)).all()
    if name in ("dynamic", "noisy"):
        with pytest.raises(ValueError, match=r"found at run time|carries noise"):
            refvit.compile(quantized)
        return
    engine = refvit.compile(quantized)
    assert all(row.passes for row in refvit.lockstep(quantized, engine, pixels[:2]))


def test_changed_touches_the_lines_of_a_pattern_only():
    model = refvit.random("nano_vit")
    other = changed(resolved(model, PRESETS["w4a8"]), "*.weight", axis=None)
    assert other.spec("head.weight").axis is None
    assert other.spec("blocks.0.add1") == PRESETS["w4a8"].spec("blocks.0.add1")
    with pytest.raises(ValueError, match=r"no line of 'w4a8' matches '\*\.act'; resolve it"):
        changed(PRESETS["w4a8"], "*.act", bits=8)


def test_a_grid_that_a_recipe_names_stays(model):
    """`fitted` chooses grids where the recipe is linear only."""
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])
    given = resolved(model, PRESETS["w4a4"])
    named = changed(given, "*.softmax", quantizer="log2")
    for recipe, softmax in ((given, LogSqrt2Grid), (named, Log2Grid)):
        grids = METHODS["fitted"](model, pixels, recipe).qparams
        assert isinstance(grids["blocks.0.attn.softmax"], softmax)
        assert isinstance(grids["blocks.0.mlp.act"], TwinGrid)


@pytest.mark.parametrize("field", [{"symmetric": False}, {"dynamic": "token"}])
def test_fitted_leaves_what_a_recipe_says_of_a_linear_grid(model, field):
    """An asymmetric grid after GELU is no twin grid by surprise, nor a dynamic one."""
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 2)[0])
    table = changed(resolved(model, PRESETS["w4a4"]), "*.mlp.act", **field)
    found = METHODS["fitted"](model, pixels, table).qparams["blocks.0.mlp.act"]
    assert type(found) is (QParams if "symmetric" in field else DynamicGrid)
    assert "dynamic" in field or not found.symmetric


def test_methods_change_every_recipe_whatever_its_patterns(model):
    """A recipe of one line, and of lines of its own, as the presets."""
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])
    softmax, act = "blocks.1.attn.softmax", "blocks.1.mlp.act"
    tables = [{"*": Spec(4)}, {"*.attn.*": Spec(4), "blocks.1.*": Spec(4), "*": Spec(4)}]
    kinds = {"log2": Log2Grid, "repq": Log2Grid, "log-sqrt2": LogSqrt2Grid, "ptq4vit": TwinGrid}
    for lines in tables:
        for name, kind in kinds.items():
            grids = METHODS[name](model, pixels, Recipe("mine", lines)).qparams
            assert isinstance(grids[softmax], kind), name
            assert not grids[softmax].signed if kind is TwinGrid else True
            assert isinstance(grids[act], TwinGrid) == (name == "ptq4vit")
    own = {"blocks.*.mlp.act": Spec(8), "*.weight": Spec(4, axis=0), "*": Spec(4)}
    grids = METHODS["ptq4vit"](model, pixels, Recipe("mine", own)).qparams
    assert (grids[act].bits, grids[softmax].bits) == (8, 4)
    swin = refvit.load("nano_swin")
    own = {"stages.*.softmax": Spec(4, signed=False), "*": Spec(8)}
    grids = METHODS["repq"](swin, pixels, Recipe("mine", own)).qparams
    assert isinstance(grids["stages.0.blocks.0.attn.softmax"], Log2Grid)


def test_the_command_quantizes_by_a_method_and_tells_engines_apart(tmp_path, capsys):
    plain, better = tmp_path / "plain.safetensors", tmp_path / "better.safetensors"
    asked = ["quantize", "nano_vit", "--recipe", "w4a4", "--calibration-images", "16"]
    assert main([*asked, "-o", str(plain)]) == 0
    assert main([*asked, "--method", "repq", "-o", str(better)]) == 0
    assert "w4a4 by repq, calibrated on 16 images of shapes10" in capsys.readouterr().out
    assert refvit.load(plain).digest != refvit.load(better).digest
    mine = tmp_path / "mine.toml"
    mine.write_text(PRESETS["w8a8"].to_toml())
    assert main(["quantize", "nano_vit", "--recipe", str(mine), "-o", str(mine)]) == 2
    assert "is read and would be overwritten" in capsys.readouterr().err
    assert mine.read_text() == PRESETS["w8a8"].to_toml()
    assert main(["prove", str(better), "--method", "mse"]) == 2
    assert "--method changes nothing of it" in capsys.readouterr().err
    assert main([*asked, "--method", "repqq", "-o", str(plain)]) == 2
    assert "no method 'repqq'" in capsys.readouterr().err
    assert main(["lockstep", "nano_vit", "--method", "repq", "--images", "1"]) == 0
    assert "w8a8 by repq" in capsys.readouterr().out
