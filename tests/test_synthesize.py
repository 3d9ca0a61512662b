"""`refvit synthesize`: what it writes is what other commands read, or nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit.checkpoints import save_model
from refvit.cli import main
from refvit.images import Preprocess
from refvit.model import Model
from refvit.models import ViTConfig, random_params
from refvit.quant import prior_labels, synthesize
from refvit.sources import parse_source, pixels_of
from refvit.synthesize_command import contact_sheet, names_of

VIT = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 4), classes=5)
CROPPING = Preprocess(VIT.image, (0.4,) * 3, (0.25,) * 3, resize=9, centre="round")


def small_model(labels=tuple("abcde")):
    """A model that resizes and crops its images, as timm's do."""
    return Model(VIT, random_params(VIT, 0), CROPPING, labels)


@pytest.fixture
def file(tmp_path):
    save_model(tmp_path / "m.safetensors", small_model(), {})
    return tmp_path / "m.safetensors"


def command(capsys, *argv):
    code = main(["synthesize", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_writes_what_folder_reads_back_to_the_bit(capsys, file, tmp_path):
    out = tmp_path / "made"
    code, text, _ = command(capsys, file, "--count", 7, "--steps", 4, "--out", out, "--json")
    assert code == 0
    about, model = json.loads(text), refvit.load(file)
    source = parse_source(f"folder:{out}", model.labels)
    paths, labels = source.test(0, 99)
    order = np.argsort([path.name for path in paths])
    assert np.array_equal(labels[order], prior_labels(model, 7, 0))
    made = synthesize(model, 7, steps=4)
    assert np.array_equal(pixels_of(model.preprocess, [paths[i] for i in order]), made)
    assert about["files"] == [str(paths[i].relative_to(out)) for i in order]
    assert json.loads((out / "card.json").read_text())["files"] == about["files"]
    assert len(source.calibration(128)) == 7, "no image twice"
    assert about["as_meant"] == pytest.approx(np.mean(model(made).argmax(1) == labels[order]))
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.size == (7 * (8 * 12 + 2), 8 * 8 + 14)


def test_the_command_leaves_nothing_half_written(capsys, file, tmp_path, monkeypatch):
    saved = Image.Image.save

    def full(self, path, *args):
        if Path(path).name == "001.png":
            raise OSError("no space left on device")
        saved(self, path, *args)

    monkeypatch.setattr(Image.Image, "save", full)
    before = sorted(tmp_path.iterdir())
    code, _, err = command(capsys, file, "--count", 3, "--steps", 2, "--out", tmp_path / "made")
    assert (code, err) == (2, "refvit: error: no space left on device\n")
    assert sorted(tmp_path.iterdir()) == before


def test_mistakes_of_the_command_are_one_line_before_any_work(capsys, file, tmp_path):
    save_model(tmp_path / "named.safetensors", small_model(("a", "b", "c", "d", "a\0c")), {})
    for argv, said in (
        ((file, "--out", tmp_path), "exists and is not an empty directory; name a new one"),
        ((file, "--out", tmp_path / "no" / "made"), "no directory"),
        ((file, "--out", tmp_path / "made", "--count", 0), "at least 1; got 0"),
        ((tmp_path / "named.safetensors", "--out", tmp_path / "made"), "'a\\x00c' cannot be"),
    ):
        code, out, err = command(capsys, *argv)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_a_sheet_has_a_row_for_every_eight_images_and_takes_grey_ones():
    assert contact_sheet(np.zeros((9, 28, 28, 1), np.uint8), ["é"] * 9).size == (8 * 86, 2 * 98)


@pytest.mark.parametrize(("count", "digits"), [(1, 3), (1000, 3), (1001, 4), (10_001, 5)])
def test_names_sort_as_the_images_were_made(count, digits):
    labels = np.arange(count) % 5
    names = names_of(labels, ("a/b", *"cdef"))
    files = [Path(name).name for name in names]
    assert sorted(files) == files
    assert {len(file) for file in files} == {digits + len(".png")}
    assert [Path(name).parent.name for name in names[:3]] == ["a-b", "c", "d"][:count]
