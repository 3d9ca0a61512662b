"""Methods by name, and the grid that compares them."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import refvit
from refvit.cli import main
from refvit.compare import Cell, compare, table, weight_bytes
from refvit.images import Preprocess
from refvit.methods import METHODS, changed
from refvit.model import Model
from refvit.models import ViTConfig, random_params
from refvit.quant import PRESETS, inject_outliers, packed_bytes
from refvit.sources import Shapes10


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
    engine = refvit.compile(quantized)
    assert all(row.passes for row in refvit.lockstep(quantized, engine, pixels[:2]))


def test_a_grid_is_the_same_however_it_is_run_and_resumes(model, tmp_path, monkeypatch):
    asked = (("minmax", "per-tensor"), ("w8a8", "w4a4"), 30)
    kept = tmp_path / "grid.json"
    alone = compare(model, Shapes10(), *asked, kept=kept)
    assert [(cell.method, cell.recipe) for cell in alone] == [
        ("minmax", "w8a8"), ("minmax", "w4a4"), ("per-tensor", "w8a8"), ("per-tensor", "w4a4"),
    ]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        assert compare(model, Shapes10(), *asked, executor=pool) == alone
    about = json.loads(kept.read_text())
    about["cells"] = about["cells"][:3]
    kept.write_text(json.dumps(about))
    done = []
    monkeypatch.setattr(
        "refvit.compare.compare_cell", lambda m, s, *key: done.append(key) or alone[3]
    )
    assert compare(model, Shapes10(), *asked, kept=kept) == alone
    assert done == [("per-tensor", "w4a4", 30)]
    with pytest.raises(ValueError, match="holds another grid"):
        compare(model, Shapes10(), *asked[:2], 31, kept=kept)


def test_bytes_are_those_of_packed_weights_and_their_scales(model):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 4)[0])
    quantized = refvit.quantize(model, pixels, "w4a8")
    weights = [t for n, t in model.params.items() if n.endswith(".weight") and t.ndim == 2]
    assert weight_bytes(quantized) == sum(packed_bytes(w.size, 4) + 4 * len(w) for w in weights)


def test_a_rewritten_model_is_compared_with_the_float_one(model):
    cell = compare(inject_outliers(model, 64.0), Shapes10(), ("minmax", "repq"), ("w6a6",), 60)
    assert cell[1].top1 > cell[0].top1 + 0.3, "outliers ruin min-max, reparameterisation mends them"
    assert cell[1].agreement >= 0.9


def test_changed_touches_the_lines_of_a_pattern_only():
    other = changed(PRESETS["w4a8"], "*.weight", axis=None)
    assert other.spec("head.weight").axis is None
    assert other.spec("blocks.0.add1") == PRESETS["w4a8"].spec("blocks.0.add1")


def test_the_table_has_a_row_a_method_and_a_column_a_recipe():
    cells = [Cell(m, r, 100, 0.5, 0.9, 10, 3.0) for m in ("a", "b") for r in ("w8a8", "w4a4")]
    lines = table(cells).splitlines()
    assert lines[0].split() == ["method", "w8a8", "w4a4"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "weights"]


MISTAKES = [
    (["--methods", "magic"], "no method 'magic'; there are minmax"),
    (["--recipes", "w9a9"], "no recipe 'w9a9'"),
    (["--count", "0"], "--jobs and --count"),
    (["--out", "nowhere/x.json"], "no directory 'nowhere'"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_mistakes_are_one_line(argv, message, capsys):
    assert main(["compare", "nano_vit", *argv]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_the_grid(capsys):
    argv = ["compare", "nano_vit", "--methods", "minmax", "--recipes", "w8a8", "--count", "20"]
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["method"] == "minmax"


def test_the_command_quantizes_by_a_method_and_tells_engines_apart(tmp_path, capsys):
    plain, better = tmp_path / "plain.safetensors", tmp_path / "better.safetensors"
    asked = ["quantize", "nano_vit", "--recipe", "w4a4", "--calibration-images", "16"]
    assert main([*asked, "-o", str(plain)]) == 0
    assert main([*asked, "--method", "repq", "-o", str(better)]) == 0
    assert "w4a4 by repq, calibrated on 16 images of shapes10" in capsys.readouterr().out
    assert refvit.load(plain).digest != refvit.load(better).digest
    assert main(["prove", str(better), "--method", "mse"]) == 2
    assert "--method changes nothing of it" in capsys.readouterr().err
    assert main([*asked, "--method", "repqq", "-o", str(plain)]) == 2
    assert "no method 'repqq'" in capsys.readouterr().err
    assert main(["lockstep", "nano_vit", "--method", "repq", "--images", "1"]) == 0
    assert "w8a8 by repq" in capsys.readouterr().out
