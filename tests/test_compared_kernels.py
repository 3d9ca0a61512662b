"""The kernels that notebooks compare: refvit's within what it states, the others where they err."""

import numpy as np
import pytest

from refvit.integer import compared
from refvit.integer.kernels import gelu, layer_norm, softmax
from refvit.ops import functional as F
from refvit.testing import reference

SCALES = [0.01, 1 / 16, 0.1, 0.5]


@pytest.mark.parametrize("scale", SCALES)
def test_refvit_keeps_to_its_stated_errors(scale):
    scores = np.random.default_rng(0).integers(-128, 128, (8, 65)).astype(np.int8)
    found = compared.softmaxes(scores, scale)
    exact = F.softmax(scores * scale)
    assert np.abs(found["refvit"] - exact).max() <= softmax.stated_error(65) + compared.FINE
    x = np.arange(-128, 128) * scale
    error = np.abs(compared.gelus(scale)["refvit"] - F.gelu(x))
    assert error[1:].max() <= gelu.stated_error(x) + scale / 128
    rows = np.rint(np.random.default_rng(1).standard_normal((4, 192)) * 300).astype(np.int16)
    exact = (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, keepdims=True)
    room = layer_norm.stated_error(192) * np.abs(exact).max() + compared.NORM_STEP
    assert np.abs(compared.norms(rows)["refvit"] - exact).max() <= room


@pytest.mark.parametrize("scale", SCALES)
def test_codes_are_those_of_the_engine(scale):
    scores = np.random.default_rng(0).integers(-128, 128, (4, 65)).astype(np.int8)
    found = compared.rows(scores, scale)
    np.testing.assert_array_equal(found["refvit, 8 bits"] * 255, reference.softmax(scale)(scores))
    unit = compared.exponentials(scale)
    assert {name: e.argmax() for name, e in unit.items()} == dict.fromkeys(unit, 0)


def test_the_ancestors_err_where_their_papers_are_silent():
    uniform = np.zeros((1, 197), np.int8)
    assert not compared.rows(uniform, 0.125)["I-ViT, 8 bits"].any()
    x = np.arange(-128, 128) * (4 / 127)
    error = {name: np.abs(y - F.gelu(x)).max() for name, y in compared.gelus(4 / 127).items()}
    assert error["I-BERT"] > 5
    assert error["I-BERT, shift 0"] < 0.02
