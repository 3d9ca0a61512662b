"""Models: sizes of the papers, shapes, peers' logits, taps."""

import dataclasses
import json
import math

import einops
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.models import (
    VARIANTS,
    SwinConfig,
    ViTConfig,
    config_of,
    describe_config,
    forward,
    parameter_shapes,
    workload_records,
)
from refvit.models.windows import relative_index, shift_mask
from refvit.ops import FloatOps, Record
from refvit.ops.shape_ops import rearranged_shape

SIZES = {  # published parameter counts (timm) and MACs at 224 (every matmul counted)
    "vit_tiny": (5_717_416, 1_253_683_200),
    "vit_small": (22_050_664, 4_598_882_304),
    "vit_base": (86_567_656, 17_563_828_224),
    "deit_tiny": (5_717_416, 1_253_683_200),
    "deit_small": (22_050_664, 4_598_882_304),
    "deit_base": (86_567_656, 17_563_828_224),
    "vit_large": (304_326_632, 61_554_712_576),
    "vit_huge": (632_045_800, 167_295_109_120),
    "deit_tiny_distilled": (5_910_800, 1_261_003_776),
    "deit_small_distilled": (22_436_432, 4_624_140_288),
    "deit_base_distilled": (87_338_192, 17_656_811_520),
    "swin_tiny": (28_288_354, 4_490_566_656),
    "swin_small": (49_606_258, 8_740_875_264),
    "swin_base": (87_768_224, 15_430_946_816),
    "swin_large": (196_532_476, 34_475_759_616),
}
TINY = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 2), classes=5)
RICH = dataclasses.replace(
    TINY, pool="mean", fc_norm=True, registers=2, embed_prefix=False, pre_norm=True, head=5,
    gelu="tanh", layer_scale=True, qk_norm=True, proj_bias=False, image=(9, 13),
)  # fmt: skip
DISTILLED = dataclasses.replace(TINY, distillation="heads")
SWIN = SwinConfig(6, (2, 2), (2, 3), (8, 12), ((4, 4), (4, 4)), (11, 19), (2, 2), classes=4)
SWIN_HF = dataclasses.replace(SWIN, rule="hf", positions=True, image=(9, 17))
CONFIGS = {"tiny": TINY, "rich": RICH, "distilled": DISTILLED, "swin": SWIN, "swin_hf": SWIN_HF}


@pytest.mark.parametrize("name", SIZES)
def test_variants_have_the_published_sizes(name):
    params, macs = SIZES[name]
    records = workload_records(VARIANTS[name])
    assert sum(math.prod(s) for s in parameter_shapes(VARIANTS[name]).values()) == params
    assert sum(r.params for r in records) == params
    assert sum(r.macs for r in records) == macs


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


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shape_ops_and_float_ops_agree_on_every_site(config):
    record = Record()
    model = refvit.model.Model(config, refvit.models.random_params(config, 3), None, ())
    pixels = np.random.default_rng(0).standard_normal((2, config.channels, *config.image))
    model(pixels.astype(np.float32), tap=record)
    records = workload_records(config, batch=2)
    for r in records:
        if r.op != "output":
            assert record.values[r.site].shape == r.shape, r.site
    sites = [r.site for r in records]
    assert len(sites) == len(set(sites))
    count = sum(math.prod(s) for s in parameter_shapes(config).values())
    assert sum(r.params for r in records) == count, "every parameter is read once"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_is_its_description(config):
    described = json.loads(json.dumps(describe_config(config)))
    assert config_of(described) == config
    assert "gelu" not in described or config.gelu != "erf", "defaults are not said"


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="no family of models 'cnn'; there are vit, swin"):
        config_of({"family": "cnn"})


def brute_mask(grid, window, shift):
    """Two tokens of a window may meet if they did before the roll: no wrap-around between them."""
    rolled = np.roll(np.indices(grid), (-shift[0], -shift[1]), (1, 2))  # who stands where now
    i, j = window
    masks = []
    for y in range(0, grid[0], i):
        for x in range(0, grid[1], j):
            place = rolled[:, y : y + i, x : x + j].reshape(2, -1)
            apart = [np.abs(p[:, None] - p[None, :]) for p in place]
            masks.append((apart[0] >= i) | (apart[1] >= j))
    return np.array(masks)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(2, 5), st.data())
def test_the_mask_parts_those_whom_the_roll_brought_together(down, across, i, j, data):
    shift = data.draw(st.sampled_from([(i // 2, j // 2), (0, j // 2), (i // 2, 0)]))
    grid = down * i, across * j
    if 1 in (down, across) or shift == (0, 0):
        return  # one window an axis is never shifted
    assert np.array_equal(shift_mask(grid, (i, j), shift), brute_mask(grid, (i, j), shift))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2))
def test_relative_positions_index_the_table_by_their_difference(i, j, more, wider):
    table = i + more, j + wider
    index = relative_index((i, j), table).reshape(i * j, i * j)
    for a in range(i * j):
        for b in range(i * j):
            dy, dx = a // j - b // j, a % j - b % j
            row = (dy + table[0] - 1) * (2 * table[1] - 1) + dx + table[1] - 1
            assert index[a, b] == row


def test_a_window_is_cut_to_a_small_grid_as_each_peer_does_it():
    stages = SWIN.stages
    assert [s.grid for s in stages] == [(5, 9), (3, 5)]
    assert [(s.window, s.shift, s.table) for s in stages] == [
        ((4, 4), (2, 2), (4, 4)), ((3, 4), (0, 2), (3, 4)),
    ]  # fmt: skip
    assert [(s.window, s.shift, s.table) for s in SWIN_HF.stages] == [
        ((4, 4), (2, 2), (4, 4)), ((3, 3), (0, 0), (4, 4)),
    ]  # fmt: skip


def test_a_site_that_occurs_twice_is_noticed():
    record = Record()
    record("x", 1)
    with pytest.raises(ValueError, match="unique"):
        record("x", 2)


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
        ({"patch": (9, 4)}, "not one patch of"),
        ({"pool": "max"}, "pool is one of token, mean"),
        ({"pool": "token", "class_token": False}, "needs the class token"),
        ({"gelu": "quick"}, "the GELU is one of erf, tanh"),
        ({"classes": -1}, "at least 0"),
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
