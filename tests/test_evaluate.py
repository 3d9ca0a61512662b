"""Evaluation: figures against a plain count, alike on any executor, on any source."""

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit.cli import main
from refvit.sources import Folder, Idx, Shapes10, parse_source


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three test images of each class as files in folders of their names."""
    root = tmp_path_factory.mktemp("pictures")
    images, labels = refvit.data.shapes10("test", 200)
    for k, name in enumerate(refvit.data.LABELS):
        (root / name).mkdir()
        for n, image in enumerate(images[labels == k][:3]):
            Image.fromarray(image).save(root / name / f"{n}.png")
    return root


def test_the_figures_are_a_plain_count(model):
    images, labels = refvit.data.shapes10("test", 120)
    logits = model(model.preprocess.normalise(images))
    found = refvit.evaluate(model, count=120)
    assert found.top1 == np.mean(logits.argmax(1) == labels)
    assert found.top5 == np.mean(
        [k in np.argsort(-v)[:5] for v, k in zip(logits, labels, strict=True)]
    )
    assert found.confusion.sum() == found.count == 120
    for i in range(10):
        assert found.confusion[i].sum() == (labels == i).sum()
        assert found.confusion[:, i].sum() == (logits.argmax(1) == i).sum()
    assert (found.agreement, found.engine) == (None, "float")


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_gives_the_same(model, pool):
    alone = refvit.evaluate(model, count=120, engine="integer")
    with pool(2) as executor:
        shared = refvit.evaluate(model, count=120, engine="integer", executor=executor)
    assert alone.as_json() == shared.as_json()
    assert 0.9 < alone.agreement <= 1


def test_quantized_and_compiled_models_are_evaluated_as_they_are(model, tmp_path):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
    quantized = refvit.quantize(model, pixels)
    engine = refvit.compile(quantized)
    wanted = refvit.evaluate(model, count=60, engine="integer")
    assert np.array_equal(refvit.evaluate(engine, count=60).confusion, wanted.confusion)
    assert refvit.evaluate(quantized, count=60, engine="simulated").agreement > 0.9
    engine.save(tmp_path / "e.safetensors")
    again = refvit.evaluate(refvit.load(tmp_path / "e.safetensors"), count=60)
    assert again.as_json() == refvit.evaluate(engine, count=60).as_json()
    assert again.agreement is None


def test_a_folder_of_images_is_its_classes(model, pictures):
    source = parse_source(f"folder:{pictures}", model.labels)
    assert isinstance(source, Folder)
    paths, labels = source.test(0, 1000)
    assert len(paths) == 30
    assert [p.parent.name for p in paths] == [model.labels[k] for k in labels]
    found = refvit.evaluate(model, source, engine="integer")
    assert found.count == 30
    assert found.top1 > 0.7


def test_a_folder_calibrates_on_each_image_once_and_on_none_not_at_all(model, pictures, tmp_path):
    source = parse_source(f"folder:{pictures}", model.labels)
    assert source.calibration(7) == source.test(0, 7)[0]
    assert len(set(source.calibration(128))) == len(source.calibration(128)) == 30
    for label in model.labels:
        (tmp_path / label).mkdir()
    with pytest.raises(ValueError, match="has no images in its folders"):
        parse_source(f"folder:{tmp_path}", model.labels).calibration(1)


def test_what_is_no_data_is_refused(model, tmp_path):
    for text, message in (
        ("cifar", "there are shapes10, idx:DIR and folder:DIR"),
        ("idx:nowhere", "no directory 'nowhere'"),
        (f"folder:{tmp_path}", "no folder for class 'disk' of the model"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            parse_source(text, model.labels)
    with pytest.raises(ValueError, match="no engine 'fpga'"):
        refvit.evaluate(model, engine="fpga")
    with pytest.raises(ValueError, match=r"the model has 10 classes, .* 3"):
        refvit.evaluate(model, Idx(tmp_path, ("a", "b", "c")))
    assert isinstance(parse_source("shapes10", ()), Shapes10)


def test_the_command_prints_a_table_and_draws_it(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")
    picture = tmp_path / "c.png"
    options = ["--count", "60", "--engine", "simulated", "--picture", str(picture)]
    assert main(["evaluate", "nano_vit", *options]) == 0
    out = capsys.readouterr().out
    assert "same class as float" in out
    assert len(out.splitlines()) == 12
    with Image.open(picture) as drawn:
        assert drawn.width > 500
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_the_command_as_data_and_its_mistakes(capsys):
    assert main(["evaluate", "nano_vit", "--count", "50", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert np.sum(about["confusion"]) == 50
    for options in (["--jobs", "0"], ["--engine", "gpu"], ["--picture", "nowhere/x.png"]):
        assert main(["evaluate", "nano_vit", "--count", "50", *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("options", "said"), [
    (["--engine", "float", "--recipe", "w4a4"], "--recipe quantizes: --engine is simulated or"),
    (["--engine", "float", "--calibration-images", "8"], "--calibration-images quantizes: "),
    (["--recipe", "w9a9"], "no recipe 'w9a9'"),
    (["--engine", "integer", "--method", "rep"], "no method 'rep'"),
    (["--engine", "simulated", "--calibration-images", "0"], "at least 1, got 0"),
])  # fmt: skip
def test_options_that_would_change_nothing_are_refused(options, said, capsys):
    assert main(["evaluate", "nano_vit", "--count", "10", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_method_is_evaluated_in_integers(capsys):
    asked = ["evaluate", "nano_vit", "--count", "100", "--engine", "integer", "--recipe", "w4a4",
             "--calibration-images", "32", "--json"]  # fmt: skip
    assert main(["evaluate", "nano_vit", "--count", "20", "--recipe", "w8a8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "simulated"
    found = []
    for options in ([], ["--method", "repq"]):
        assert main([*asked, *options]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["engine"] == found[1]["engine"] == "integer"
    assert found[1]["agreement"] > found[0]["agreement"]
