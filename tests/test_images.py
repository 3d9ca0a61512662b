"""Preprocessing: the peers' pixels, and every form an image may have."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit.images import Preprocess

GOLDEN = Path(__file__).parent / "golden" / "hf_vit"
GRADIENT = (np.arange(20 * 30 * 3).reshape(20, 30, 3) % 251).astype(np.uint8)


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the small Hugging Face checkpoint, without a preprocessor_config.json."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    return tmp_path


def test_path_pil_and_array_are_one(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "g.png")
    make = Preprocess((16, 16))
    forms = [tmp_path / "g.png", str(tmp_path / "g.png"), Image.fromarray(GRADIENT), GRADIENT]
    pixels = [make(form) for form in forms]
    assert pixels[0].shape == (3, 16, 16)
    assert pixels[0].dtype == np.float32
    assert all(np.array_equal(pixels[0], other) for other in pixels)


FRAMES = {  # size of the picture that a preprocessing cuts 20 x 30 out of
    "as it is": (Preprocess((20, 30), resize=0), (20, 30)),
    "squashed": (Preprocess((20, 30)), (20, 30)),
    "cut, floored": (Preprocess((20, 30), resize=25), (25, 30)),
    "cut, rounded": (Preprocess((20, 30), resize=33, centre="round"), (33, 33)),
    "covered": (Preprocess((20, 30), resize=(23, 41), fit="cover"), (23, 41)),
    "exact": (Preprocess((20, 30), centre="exact"), (20, 30)),
}


@pytest.mark.parametrize(("make", "size"), FRAMES.values(), ids=FRAMES)
def test_a_framed_image_is_preprocessed_to_its_own_pixels(make, size, tmp_path):
    framed = make.framed(GRADIENT)
    assert framed.size == size[::-1]
    framed.save(tmp_path / "f.png")
    pixels = make(tmp_path / "f.png")
    assert np.array_equal(pixels, make.normalise(GRADIENT[None])[0])
    assert np.array_equal(make.images(pixels[None])[0], GRADIENT)


def test_normalisation_is_its_formula():
    make = Preprocess((20, 30), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    wanted = (GRADIENT / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    assert np.abs(make(GRADIENT).transpose(1, 2, 0) - wanted).max() < 1e-6


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TIMM = {"resample": "bicubic", "resize": 71, "centre": "round"}
PEERS = {
    "vit_bilinear_squash64.pil": Preprocess((64, 64)),
    "swin_bicubic_squash64.pil": Preprocess((64, 64), resample="bicubic", **IMAGENET),
    "deit_bicubic_squash73_crop64.pil": Preprocess(
        (64, 64), resample="bicubic", resize=(73, 73), **IMAGENET
    ),
    "timm_bicubic_crop0.9_64": Preprocess((64, 64), **TIMM, **IMAGENET),
    "timm_vit_crop0.9_half": Preprocess((64, 64), **TIMM),
}


@pytest.mark.parametrize("name", PEERS)
def test_pixels_equal_the_peers(shared, name):
    folder = shared / "fixtures" / "preprocess"
    wanted, make = np.load(folder / f"{name}.npy").reshape(3, 64, 64), PEERS[name]
    got = make(folder / "image_97x131.png")
    mean, std = (np.array(v)[:, None, None] for v in (make.mean, make.std))
    levels = [np.rint((pixels * std + mean) * 255) for pixels in (got, wanted)]
    assert np.array_equal(*levels)
    assert np.abs(got - wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({}, Preprocess((16, 16), resize=(16, 16))),
        ({"size": 16, "resample": 3}, Preprocess((16, 16), resample="bicubic", resize=(16, 16))),
        (
            {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16},
            Preprocess((16, 16), resize=20),
        ),
        (
            {"size": {"height": 18, "width": 20}, "do_center_crop": True, "do_normalize": False},
            Preprocess((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize=(18, 20)),
        ),
    ],
)
def test_preprocessor_config_is_read(checkpoint, about, wanted):
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(about))
    got = refvit.load(checkpoint).preprocess
    assert (got.size, got.resize, got.resample) == (wanted.size, wanted.resize, wanted.resample)
    assert np.allclose([got.mean, got.std], [wanted.mean, wanted.std])
    assert got(GRADIENT).shape == (3, 16, 16)


@pytest.mark.parametrize("about", [{"rescale_factor": 1 / 127.5}, {"do_rescale": False}], ids=str)
def test_an_unusual_rescaling_is_folded_into_the_normalisation(checkpoint, about):
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(about))
    factor = about.get("rescale_factor", 1.0)
    small = GRADIENT[:16, :16]
    wanted = (small.transpose(2, 0, 1) * factor - 0.5) / 0.5
    assert np.allclose(refvit.load(checkpoint).preprocess(small), wanted, rtol=1e-5, atol=1e-5)


def test_sizes_that_are_not_sizes_and_wide_images_are_refused(checkpoint):
    (checkpoint / "preprocessor_config.json").write_text('{"size": {"longest": 5}}')
    with pytest.raises(ValueError, match=r"size .*longest.* is not supported"):
        refvit.load(checkpoint)
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(checkpoint / "deep.png")
    with pytest.raises(ValueError, match="8 bits a channel"):
        Preprocess((4, 4))(checkpoint / "deep.png")


def test_a_preprocessor_that_makes_other_sizes_is_refused(checkpoint):
    (checkpoint / "preprocessor_config.json").write_text('{"size": 32}')
    with pytest.raises(ValueError, match=r"makes images of \(32, 32\), the model reads \(16, 16\)"):
        refvit.load(checkpoint)


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
