"""Preprocessing: the peers' pixels, and every form an image may have."""

import json

import numpy as np
import pytest
from PIL import Image

from refvit.images import Preprocess

GRADIENT = (np.arange(20 * 30 * 3).reshape(20, 30, 3) % 251).astype(np.uint8)


def test_path_pil_and_array_are_one(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "g.png")
    make = Preprocess((16, 16))
    forms = [tmp_path / "g.png", str(tmp_path / "g.png"), Image.fromarray(GRADIENT), GRADIENT]
    pixels = [make(form) for form in forms]
    assert pixels[0].shape == (3, 16, 16)
    assert pixels[0].dtype == np.float32
    assert all(np.array_equal(pixels[0], other) for other in pixels)


def test_normalisation_is_its_formula():
    make = Preprocess((20, 30), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    wanted = (GRADIENT / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    assert np.abs(make(GRADIENT).transpose(1, 2, 0) - wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("vit_bilinear_squash64.pil", Preprocess((64, 64), resample="bilinear")),
        ("timm_vit_crop0.9_half", Preprocess((64, 64), resample="bicubic", crop=0.9)),
    ],
)
def test_pixels_equal_the_peers(shared, name, make):
    folder = shared / "fixtures" / "preprocess"
    assert json.loads((folder / "meta.json").read_text())
    wanted = np.load(folder / f"{name}.npy").reshape(3, 64, 64)
    got = make(folder / "image_97x131.png")
    levels = np.rint((got * 0.5 + 0.5) * 255), np.rint((wanted * 0.5 + 0.5) * 255)
    assert np.array_equal(*levels)
    assert np.abs(got - wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "uint8"),
        (np.zeros((4, 4, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 4), np.uint8), "uint8 array"),
    ],
)
def test_arrays_that_are_no_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Preprocess((4, 4))(image)
