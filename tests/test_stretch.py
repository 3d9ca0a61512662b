"""Queries stretched and keys shrunk: the same scores, and rows of other sizes."""

import numpy as np
import pytest

import refvit
from refvit import quant

FAMILIES = ["nano_vit", "nano_swin"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_power_of_two_leaves_every_float_as_it_was(name):
    model = refvit.random(name, seed=0)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    worse = quant.stretch_queries(model, 64)
    np.testing.assert_array_equal(worse(pixels), model(pixels))
    assert worse.source != model.source


def test_three_rows_of_every_query_are_larger_and_those_of_the_keys_smaller():
    model = refvit.random("nano_vit", seed=0)
    worse = quant.stretch_queries(model, 16, rows=3, seed=1)
    for block in range(4):
        before, after = model.params.blocks[block].attn, worse.params.blocks[block].attn
        ratio = after.q.weight / before.q.weight
        assert sorted(ratio[:, 0])[-4:] == [1, 16, 16, 16]
        np.testing.assert_array_equal(after.k.weight * ratio, before.k.weight)
        np.testing.assert_array_equal(after.v.weight, before.v.weight)


def test_scales_of_rows_take_the_stretch_back():
    model = refvit.random("nano_vit", seed=0)
    pixels = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    table = {"*.weight": quant.Spec(8, axis=0), "*": quant.Spec(16)}
    recipe = quant.Recipe("rows", table)
    plain, worse = (
        quant.quantize_model(m, pixels, recipe).rounded
        for m in (model, quant.stretch_queries(model, 64))
    )
    for name, weight in plain.params.items():
        if name.endswith(("q.weight", "k.weight")):
            ratio = worse.params[name] / np.where(weight == 0, 1, weight)
            assert set(np.unique(ratio[weight != 0])) <= {1 / 64, 1, 64}


@pytest.mark.parametrize(("factor", "rows"), [(0, 3), (np.inf, 3), (2, 49)])
def test_what_cannot_be_stretched_is_refused(factor, rows):
    with pytest.raises(ValueError, match=r"positive|rows"):
        quant.stretch_queries(refvit.random("nano_vit"), factor, rows)
