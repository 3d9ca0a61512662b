"""The float operators against formulas written without care for speed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.ops import functional as F

DTYPES = [(np.float32, 6e-7), (np.float64, 1e-15)]


@pytest.mark.parametrize(("dtype", "error"), DTYPES)
def test_erf_meets_its_stated_error(dtype, error):
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-30, 1, 500), [0.0]]).astype(dtype)
    exact = np.array([math.erf(float(v)) for v in x])
    assert np.abs(F.erf(x).astype(np.float64) - exact).max() <= error
    assert np.abs(F.erf(x)).max() <= 1 + error / 2


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 2e-6), (np.float64, 1e-14)])
def test_gelu_is_the_erf_form_in_every_block(dtype, error):
    x = np.linspace(-9, 9, 2 * F.BLOCK + 7).astype(dtype)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(np.float64)])
    assert np.abs(F.gelu(x) - exact).max() <= error
    assert F.gelu(x).dtype == dtype
    with np.testing.assert_raises(AssertionError):  # and it is not the tanh form
        tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        np.testing.assert_allclose(F.gelu(x), tanh, atol=1e-4)


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_softmax_is_exp_over_its_sum(dtype, error):
    x = (np.random.default_rng(0).standard_normal((3, 700, 65)) * 5).astype(dtype)
    e = np.exp(x.astype(np.float64) - x.max())
    assert np.abs(F.softmax(x) - e / e.sum(-1, keepdims=True)).max() <= error
    assert (F.softmax(np.array([[-1e4, 0.0]], dtype)) == [[0, 1]]).all()


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 5e-6), (np.float64, 1e-13)])
def test_layer_norm_is_its_equation(dtype, error):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((2, 500, 48)) * 3 + 7).astype(dtype)
    w, b = rng.standard_normal(48).astype(dtype), rng.standard_normal(48).astype(dtype)
    y = x.astype(np.float64)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-3) * w + b
    assert np.abs(F.layer_norm(x, w, b, 1e-3) - y).max() <= error


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 6), st.booleans())
def test_linear_is_a_loop_over_rows(rows, ins, outs, has_bias):
    rng = np.random.default_rng(rows * 100 + ins)
    x, w = rng.standard_normal((2, rows, ins)), rng.standard_normal((outs, ins))
    b = rng.standard_normal(outs) if has_bias else None
    for i in range(2):
        for j in range(rows):
            wanted = [sum(w[o, k] * x[i, j, k] for k in range(ins)) for o in range(outs)]
            got = F.linear(x, w, b)[i, j] - (0 if b is None else b)
            np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_concat_repeats_parts_of_size_one():
    token, patches = np.full((1, 1, 2), 9.0), np.arange(12.0).reshape(2, 3, 2)
    out = F.concat((token, patches), 1)
    assert out.shape == (2, 4, 2)
    assert (out[:, 0] == 9).all()
    assert (out[:, 1:] == patches).all()
