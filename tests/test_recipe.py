"""Recipes and what they may say: nothing that is asked for is left out without a word."""

from dataclasses import replace

import numpy as np
import pytest

import refvit
from refvit.params import Params
from refvit.quant import PRESETS, QParams, Recipe, Spec, fake_quantize, quantize_model
from refvit.quant.ptq import linear_grids, sites_of


@pytest.fixture(scope="module")
def model():
    return refvit.random("nano_vit", seed=1)


@pytest.fixture(scope="module")
def pixels(model):
    return model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])


WRONG = [
    ({"symmetric": "false"}, "symmetric is true or false; got 'false'"),
    ({"bits": True}, "bits is a whole number; got True"),
    ({"axis": "0"}, "axis is a whole number; got '0'"),
    ({"group": "a"}, "group is a whole number; got 'a'"),
    ({"observer": ["mse"]}, r"observer is a word; got \['mse'\]"),
    ({"axis": 1}, "axis is 0, the output channels"),
    ({"axis": -1}, "axis is 0, the output channels"),
    ({"axis": 0, "group": -3}, "got axis 0 and group -3"),
    ({"axis": 0, "group": 16, "observer": "mse"}, "groups are symmetric, signed, linear, and?"),
    ({"axis": 0, "group": 16, "symmetric": False}, "groups are symmetric"),
    ({"symmetric": False, "restricted": True}, "lack their least code"),
    ({"dynamic": "token", "restricted": True}, "lack their least code"),
    ({"dynamic": "token", "bits": 4, "quantizer": "log2"}, "a dynamic grid is linear"),
    ({"observer": "channels"}, "'channels' is that of 'ptf'; got 'linear'"),
    ({"quantizer": "log2", "signed": False}, "2 to 4 bits to 'log2'; got 8"),
    ({"quantizer": "log_sqrt2", "observer": "mse"}, "2 to 6 bits to 'log_sqrt2'; got 8"),
    ({"quantizer": "twin", "observer": "mse", "bits": 9}, "2 to 8 bits to 'twin'; got 9"),
]


@pytest.mark.parametrize(("said", "message"), WRONG, ids=lambda x: str(x)[:40])
def test_fields_that_are_wrong_or_contradict_each_other_are_refused(said, message):
    with pytest.raises(ValueError, match=message.replace(", and?", "")):
        Spec(**({"bits": 8} | said))


MISPLACED = [
    ({"*": Spec(8, axis=0)}, "^patch_embed.*|input: axis and group are of weights"),
    ({"*.weight": Spec(4, quantizer="log2"), "*": Spec(8)},
     r'patch_embed: .* write signed = true, .* in the line of "\*\.weight"'),
    ({"*.weight": Spec(8, dynamic="token"), "*": Spec(8)}, "patch_embed: weights have both signs"),
    ({"*.norm1": Spec(4, quantizer="log2"), "*": Spec(8)},
     r"blocks\.0\.norm1: powers have no code below 0, the values go down to -"),
    ({"*.fc1": Spec(8, signed=False), "*": Spec(8)},
     r"blocks\.0\.mlp\.fc1: an unsigned symmetric grid .*; write signed = true or symmetric = f"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), MISPLACED, ids=range(len(MISPLACED)))
def test_what_a_site_cannot_hold_is_refused_with_its_name(model, pixels, table, message):
    with pytest.raises(ValueError, match=message):
        quantize_model(model, pixels, Recipe("mine", table))


NEAREST = [
    ("*softmx", r"\*\.softmax"),
    ("*.attn.qq", r"\*\.attn\.q"),
    ("*.nrom1", r"\*\.norm1"),
    ("*.fc1.wight", r"\*\.fc1\.weight"),
    ("stages.*.softmax", r"\*\.softmax"),
    ("blocks.0.attn.que", r"blocks\.0\.attn\.q"),
]


@pytest.mark.parametrize(("pattern", "near"), NEAREST)
def test_a_pattern_of_no_site_is_told_the_nearest(model, pattern, near):
    with pytest.raises(ValueError, match=f"no site matches .*, perhaps {near}"):
        Recipe("mine", {pattern: Spec(8), "*": Spec(8)}).check(sites_of(model))


def test_a_line_that_decides_nothing_is_refused(model):
    with pytest.raises(ValueError, match=r"'\*\.weight' comes too late: '\*' above it"):
        Recipe("mine", {"*": Spec(8), "*.weight": Spec(4)}).check(sites_of(model))
    for name in ("nano_vit", "nano_deit", "nano_swin"):
        for recipe in PRESETS.values():
            recipe.check(sites_of(refvit.random(name)))


@pytest.mark.parametrize("spec", [
    Spec(8, axis=0), Spec(8), Spec(4, axis=0, symmetric=False), Spec(8, symmetric=False),
    Spec(8, axis=0, observer="mse"), Spec(8, axis=0, restricted=True),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("tiny", [0.0, 1e-14])
def test_a_bias_is_held_whatever_its_weights_are(spec, tiny):
    """A row of weights of nearly nothing, or all of them: to 2**-24 of the bias."""
    weight = np.full((3, 4), tiny)
    p = Params({"fc.weight": weight, "fc.bias": np.array([0.5, -1.4, 0.0])})["fc"]
    grids = linear_grids(p, QParams(0.1, 8), Recipe("r", {"*": spec}))
    assert fake_quantize(p.bias, grids["fc.bias"]) == pytest.approx(p.bias, abs=1.4 * 2**-23)


def test_a_preset_says_what_the_papers_mean():
    """W4A4: what products read has 4 bits, what softmax and GELU read 8, the stream 16."""
    for name in ("nano_vit", "nano_swin"):
        model = refvit.random(name)
        bits = {site: PRESETS["w4a4"].spec(site).bits for site in sites_of(model)}
        ends = {site.rsplit(".", 1)[-1]: width for site, width in bits.items()}
        assert {ends[end] for end in ("weight", "q", "k", "v", "softmax", "act", "norm1")} == {4}
        assert {ends[end] for end in ("scores", "fc1")} == {8}
        assert {ends[end] for end in ("add1", "add2", "proj", "fc2")} == {16}
    assert replace(PRESETS["w8a8"].spec("head.weight"), bits=4) == PRESETS["w4a8"].spec(
        "head.weight"
    )
