"""Models: sizes of the papers, shapes, peers' logits, taps."""

import math
from pathlib import Path

import einops
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.checkpoints import load_model
from refvit.models import VARIANTS, ViTConfig, forward, parameter_shapes, workload_records
from refvit.ops import FloatOps, Record
from refvit.ops.shape_ops import rearranged_shape

SIZES = {  # published parameter counts (timm) and MACs at 224 (every matmul counted)
    "vit_tiny": (5_717_416, 1.2537e9),
    "vit_small": (22_050_664, 4.5989e9),
    "vit_base": (86_567_656, 17.5638e9),
    "deit_tiny": (5_717_416, 1.2537e9),
    "deit_small": (22_050_664, 4.5989e9),
    "deit_base": (86_567_656, 17.5638e9),
}
GOLDEN = Path(__file__).parent / "golden"
TINY = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 2), classes=5)


@pytest.mark.parametrize("name", SIZES)
def test_variants_have_the_published_sizes(name):
    params, macs = SIZES[name]
    records = workload_records(VARIANTS[name])
    assert sum(math.prod(s) for s in parameter_shapes(VARIANTS[name]).values()) == params
    assert sum(r.params for r in records) == params
    assert sum(r.macs for r in records) == pytest.approx(macs, rel=1e-4)


PATTERNS = [
    ("b (y i) (x j) c -> (b y x) (i j) c", (2, 6, 8, 3), {"i": 3, "j": 2}),
    ("b n (h d) -> b h d n", (2, 5, 12), {"h": 4}),
    ("b c (y i) (x j) -> b (y x) (c i j)", (1, 3, 8, 4), {"i": 4, "j": 2}),
]


@pytest.mark.parametrize(("pattern", "shape", "sizes"), PATTERNS)
def test_shapes_are_rearranged_as_arrays_are(pattern, shape, sizes):
    x = np.zeros(shape)
    assert rearranged_shape(shape, pattern, sizes) == einops.rearrange(x, pattern, **sizes).shape


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_a_pattern_that_does_not_divide_is_refused(h, d, extra):
    if (h * d + extra) % (h + 1):
        with pytest.raises(ValueError, match="does not fit shape"):
            rearranged_shape((1, 2, h * d + extra), "b n (h d) -> b h n d", {"h": h + 1})


def test_shape_ops_and_float_ops_agree_on_every_site():
    record = Record()
    model = refvit.model.Model(TINY, refvit.models.random_params(TINY, 3), None, ())
    pixels = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    model(pixels, tap=record)
    for r in workload_records(TINY, batch=2):
        if r.op != "output":
            assert record.values[r.site].shape == r.shape, r.site
        for site, shape in zip(r.inputs, r.shapes, strict=True):
            assert math.prod(shape) <= record.values[site].size


def test_a_site_that_occurs_twice_is_noticed():
    record = Record()
    record("x", 1)
    with pytest.raises(ValueError, match="unique"):
        record("x", 2)


@pytest.mark.parametrize("fixture", ["hf_vit_tiny", "timm_vit_tiny"])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_logits_equal_the_peers(shared, fixture, dtype, bound):
    folder = shared / "fixtures" / fixture
    pixels = np.load(folder / "input.npy").astype(dtype)
    logits = load_model(folder)(pixels)
    assert logits.dtype == dtype
    assert np.abs(logits - np.load(folder / "logits_f64.npy")).max() <= bound


@pytest.mark.parametrize("folder", ["hf_vit", "timm_vit"])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_logits_equal_small_peers(folder, dtype, bound):
    """Made by `tests/golden/make_peers.py`; the Hugging Face one has an eps of 1e-3."""
    model = refvit.load(GOLDEN / folder)
    peer = np.load(GOLDEN / folder / "peer.npz")
    logits = model(peer["pixels"].astype(dtype))
    assert logits.dtype == dtype
    assert np.abs(logits - peer["logits"]).max() <= bound


def test_old_and_new_names_of_hugging_face_are_one(shared, tmp_path):
    folder = shared / "fixtures" / "hf_vit_tiny"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(
        (folder / "model.v5names.safetensors").read_bytes()
    )
    old, new = load_model(folder), load_model(tmp_path)
    assert all(np.array_equal(a, new.params[name]) for name, a in old.params.items())
    assert old.labels[3] == "c3"


def test_eps_comes_from_the_configuration():
    """A constant image makes every variance vanish but for eps."""
    logits = []
    for eps in (1e-12, 1e-3):
        config = ViTConfig(12, 2, 3, 20, image=(8, 8), patch=(4, 4), classes=5, eps=eps)
        params = refvit.models.random_params(config, 0)
        pixels = np.full((1, 3, 8, 8), 1e-3, np.float32)
        logits.append(forward(FloatOps(), pixels, params, config))
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 13}, "not a multiple of 3 heads"),
        ({"patch": (5, 4)}, "not a whole number"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    fields = {"width": 12, "depth": 1, "heads": 3, "hidden": 4, "image": (8, 8), "patch": (4, 4)}
    with pytest.raises(ValueError, match=message):
        ViTConfig(**(fields | change))


@pytest.mark.parametrize(
    ("pixels", "error", "message"),
    [
        (np.zeros((1, 3, 32, 32), np.uint8), TypeError, "preprocess"),
        (
            np.zeros((1, 3, 31, 32), np.float32),
            ValueError,
            r"\[B, 3, 32, 32\], got \[1, 3, 31, 32\]",
        ),
        (np.full((1, 3, 32, 32), np.nan, np.float32), ValueError, "not finite"),
    ],
)
def test_bad_pixels_are_refused(pixels, error, message):
    with pytest.raises(error, match=message):
        refvit.random("nano_vit")(pixels)
