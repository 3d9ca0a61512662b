"""The command line as its user meets it: output, JSON, and one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit.checkpoints import save_model
from refvit.cli import main
from refvit.files import write_tensors
from refvit.params import Params


@pytest.fixture
def image(tmp_path):
    """The clearest of the first test images, so that 8 bits cannot change its class."""
    images, _ = refvit.data.shapes10(count=20)
    model = refvit.load("nano_vit")
    logits = np.sort(model(model.preprocess.normalise(images)), axis=1)
    path = tmp_path / "shape.png"
    Image.fromarray(images[(logits[:, -1] - logits[:, -2]).argmax()]).save(path)
    return path


def run(capsys, *argv):
    code = main(list(map(str, argv)))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_main_job_shows_three_arithmetics_the_proof_and_the_layers(capsys):
    code, out, _ = run(capsys, "--images", 40)
    assert code == 0
    for word in (
        "float32",
        "simulated",
        "integer-only",
        "No overflow is possible",
        "edge32",
        "total",
    ):
        assert word in out
    code, out, _ = run(capsys, "--images", 40, "--json")
    data = json.loads(out)
    assert [row["name"] for row in data["engines"]] == ["float32", "simulated", "integer-only"]
    assert all(0.7 < row["top1"] <= 1 for row in data["engines"])
    assert data["proof"]["bits"] <= 32
    assert data["accelerator"]["totals"]["macs"] == 8_958_816


def test_predict_names_the_class(capsys, image, tmp_path):
    model = refvit.load("nano_vit")
    logits = model(model.preprocess(image)[None])[0]
    code, out, _ = run(capsys, "predict", "nano_vit", image, "--top", 10, "--json")
    top = json.loads(out)["top"]
    assert code == 0
    assert [row["index"] for row in top] == np.argsort(-logits).tolist()
    assert sum(row["probability"] for row in top) == pytest.approx(1)
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])
    refvit.compile(refvit.quantize(model, pixels)).save(tmp_path / "e.safetensors")
    code, out, _ = run(capsys, "predict", tmp_path / "e.safetensors", image, "--top", 2)
    assert code == 0
    assert "integer-only" in out
    assert top[0]["label"] in out.splitlines()[1]


def test_info_and_simulate_need_no_weights(capsys, tmp_path):
    code, out, _ = run(capsys, "info", "vit_base")
    assert code == 0
    assert "86,567,656" in out
    assert "  1 to 11: the same, 11 more" in out
    every = run(capsys, "info", "vit_base", "--all")[1].splitlines()
    assert len(every) > 12 * 15
    swin = run(capsys, "info", "swin_tiny")[1]
    assert "28,288,354     4,490,566,656" in swin
    assert "64 x 49 x 96" in swin, "windows are shown"
    assert run(capsys, "--json", "info", "nano_vit")[1].startswith("{")
    code, out, _ = run(capsys, "info", "nano_vit", "--json")
    assert json.loads(out)["totals"] == {"params": 119_194, "macs": 8_958_816}
    page, trace = tmp_path / "r.html", tmp_path / "r.json"
    code, out, _ = run(
        capsys, "simulate", "deit_tiny", "--html", page, "--trace", trace, "--layers"
    )
    assert code == 0
    assert "blocks.11.mlp.fc2" in out
    assert page.read_text().startswith("<!DOCTYPE html>")
    json.loads(trace.read_text())
    table = tmp_path / "r.csv"
    out = run(capsys, "simulate", "nano_vit", "--unfold", "blocks.3", "--csv", table)[1]
    assert "- blocks.3" in out
    assert "+ blocks.2" in out
    assert out.count("attn.qkv") == 1
    assert table.read_text().startswith("name,op,group,macs,cycles,")
    code, out, _ = run(capsys, "simulate", "nano_vit", "--machine", "edge16", "--json")
    assert json.loads(out)["machine"]["name"] == "edge16"


def broken_models(folder: Path):
    """Every way a model file can be wrong, and what the line must say."""
    model = refvit.load("nano_vit")
    tensors = dict(model.params.items())
    save_model(folder / "good.safetensors", model, {})
    raw = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(raw[: len(raw) // 2])
    (folder / "text.safetensors").write_text("this is not a model")
    (folder / "empty.safetensors").write_bytes(b"")
    nan = tensors | {"norm.weight": np.full(48, np.nan, np.float32)}
    save_model(
        folder / "nan.safetensors",
        refvit.Model(model.config, Params(nan), model.preprocess, model.labels),
        {},
    )
    shape = tensors | {"head.weight": np.zeros((10, 47), np.float32)}
    save_model(
        folder / "shape.safetensors",
        refvit.Model(model.config, Params(shape), model.preprocess, ()),
        {},
    )
    few = {k: v for k, v in tensors.items() if k != "head.bias"}
    save_model(
        folder / "few.safetensors",
        refvit.Model(model.config, Params(few), model.preprocess, ()),
        {},
    )
    write_tensors(folder / "bare.safetensors", tensors, {})
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text("{")
    (folder / "swinish").mkdir()
    (folder / "swinish" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "swinish" / "model.safetensors").write_bytes(raw)
    return {
        "missing.safetensors": "no model",
        "cut.safetensors": "not a whole safetensors file",
        "text.safetensors": "not a whole safetensors file",
        "empty.safetensors": "not a whole safetensors file",
        "nan.safetensors": "norm.weight is not finite",
        "shape.safetensors": "head.weight has shape [10, 47], wanted [10, 48]",
        "few.safetensors": "1 tensor is missing: head.bias; likely cause: the number",
        "bare.safetensors": "no patch embedding by the name of",
        "hf": "is not JSON",
        "swinish": "model_type or architecture 'bert' is not supported",
    }


def test_every_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, image):
    for name, message in broken_models(tmp_path).items():
        code, out, err = run(capsys, "predict", tmp_path / name, image)
        assert (code, out) == (2, ""), name
        assert message in err, (name, err)
        assert err.count("\n") == 1, name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["predict", "nano_vit", "nowhere.png"], "no image file 'nowhere.png'"),
        (["predict", "nano_vit", __file__], "is not an image"),
        (["predict", "nano_vit"], "required: IMAGE"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["info", "vit_giant"], "variants are vit_tiny"),
        (["simulate", "nano_vit", "--machine", "cray"], "cray"),
        (["simulate", "nano_vit", "--bits", "7"], "7"),
        (["simulate", "nano_vit", "--bits", "0"], "codes of 0 bits"),
        (["simulate", "nano_vit", "--csv", "x", "--html", "./x"], "two outputs are"),
        (["simulate", "nano_vit", "--html", "nowhere/x.html"], "no directory 'nowhere'"),
        (["--images", "0"], "at least 1"),
        (["--images", "many"], "a whole number of at least 1, got 'many'"),
        (
            ["train", "--out", "x.safetensors", "--difficulty", "3"],
            "difficulty and alpha lie in [0, 1]",
        ),
        (["train", "--out", "x.safetensors", "--rate", "nan"], "rate and clip are above 0"),
        (["train", "--out", "m.json"], "names a .safetensors file"),
        (["simulate", "nano_vit", "--html", "."], "is a directory"),
        (["simulate", "nano_vit", "--unfold", "block.1"], "nothing to unfold matches 'block.1'"),
        (["train", "--out", "x.safetensors", "--model", "vit_nano"], "no variant 'vit_nano'"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(capsys, argv, message):
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("refvit: error: ")
    assert err.count("\n") == 1


def test_no_traceback_from_a_real_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "refvit", "predict", "nano_vit", str(tmp_path)],
        capture_output=True, text=True, cwd=Path(refvit.__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("refvit: error: ")
    assert "Traceback" not in done.stderr


@pytest.fixture
def interruptible():
    """What a shell starts in the background ignores Ctrl-C, and so do the processes it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C is a signal to a process group")
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_a_grid_of_processes_and_keeps_what_is_finished(tmp_path, presses):
    """At once, and without a word of its workers, however often it is pressed."""
    kept = tmp_path / "grid.json"
    grid = ["--methods", "minmax", "adaround", "--recipes", "w8a8", "w4a4", "--count", "20"]
    command = [sys.executable, "-m", "refvit", "compare", "nano_vit", *grid]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--out", str(kept)], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(refvit.__file__).parents[1],
    )  # fmt: skip
    try:
        while not kept.exists() and process.poll() is None:
            time.sleep(0.01)
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.02)
        out, err = process.communicate(timeout=10)  # the pipes close when the last worker ends
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "refvit: stopped" in err
    assert 1 <= len(json.loads(kept.read_text())["cells"]) < 4


def test_train_writes_a_model_and_its_card(capsys, tmp_path):
    out = tmp_path / "w" / "tiny.safetensors"
    code, text, _ = run(capsys, "train", "--images", 16, "--batch", 8, "--test", 20, "--out", out)
    assert code == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["recipe"]["images"] == 16
    assert card["command"].startswith("refvit train nano_vit --images 16 --batch 8 --out ")
    assert refvit.load(out).labels == refvit.data.LABELS
    assert "of 20 test images" in text
