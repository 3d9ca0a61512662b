"""The released I-BERT operators: equal to recordings of transformers, and broken as is said."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.integer.kernels.released import ibert_exp, ibert_gelu, ibert_layer_norm, over
from refvit.ops import functional as F

GOLDEN = Path(__file__).parent / "golden" / "ibert_release.npz"
INT32 = 2**31 - 1


def assert_identical(got, want):
    """Equal in shape, values, signs of zero, and in where they are NaN."""
    np.testing.assert_array_equal(got, want, strict=True)
    here = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[here]), np.signbit(want[here]))


@pytest.mark.parametrize(
    ("name", "function", "arguments"),
    [
        ("gelu", ibert_gelu, ["q", "at"]),
        ("exp", ibert_exp, ["q", "at"]),
        ("ln", ibert_layer_norm, ["q", "gamma", "beta", "shift"]),
    ],
)
def test_integers_and_scales_equal_the_golden_ones_bit_for_bit(name, function, arguments):
    with np.load(GOLDEN) as file:
        columns = [file[f"{name}_{key}"] for key in [*arguments, "out", "scale"]]
    for *given_to, out, scale in zip(*columns, strict=True):
        codes, label = function(*given_to)
        assert_identical(codes, out)
        assert_identical(label, scale)


@pytest.mark.parametrize("name", ["gelu8", "gelu16", "exp", "ln"])
def test_integers_and_scales_equal_the_peers_recording(shared, name):
    path = shared / "reference" / "ibert_release.npz"
    if not path.is_file():
        pytest.skip("the recording of the released operators is not among the peers' files")
    with np.load(path) as file:
        for i, at in enumerate(file["scales"]):
            r = {key: file[f"{name}_{i}_{key}"] for key in ("q", "out", "scale")}
            if name == "ln":
                norm = [file[f"ln_{i}_{key}"] for key in ("gamma", "beta", "shift")]
                codes, scale = ibert_layer_norm(r["q"], *norm)
            else:
                codes, scale = (ibert_exp if name == "exp" else ibert_gelu)(r["q"], at)
            assert_identical(codes, r["out"])
            assert_identical(scale, r["scale"])


def worst(result, exact):
    codes, scale = result
    return np.abs(codes * scale - exact).max()


@pytest.mark.parametrize(
    ("reach", "released", "unshifted"),
    [(4, 5.388, 0.0173), (8, 67.10, 0.0183), (16, 584.8, 0.0254), (32, 4774.6, 0.271)],
)
def test_the_shift_of_gelu_destroys_8_bit_codes(reach, released, unshifted):
    q, scale = np.arange(-127, 128), reach / 127
    with np.errstate(under="ignore"):
        exact = F.gelu(q * scale)
    assert worst(ibert_gelu(q, scale), exact) == pytest.approx(released, rel=1e-3)
    assert worst(ibert_gelu(q, scale, shift=0), exact) == pytest.approx(unshifted, rel=4e-3)


def test_gelu_is_right_for_16_bit_codes_and_too_wide_for_22():
    q, scale = np.arange(-(2**15), 2**15), 8 / 32767
    assert worst(ibert_gelu(q, scale), F.gelu(q * scale)) == pytest.approx(0.01834, abs=1e-5)
    q, scale = np.arange(-(2**21), 2**21, 7), 8 / 2**21
    assert worst(ibert_gelu(q, scale), F.gelu(q * scale)) == pytest.approx(0.01815, abs=1e-5)
    polynomial = over(1 / -0.2888, np.array(scale / 1.4142) ** 2)
    assert math.log2(-polynomial) == pytest.approx(38.8, abs=0.05)


@given(st.floats(0.01, 0.5))
def test_exp_leaves_int32_at_every_scale_of_8_bit_scores(scale):
    """And with 16 bits in place of 30 at none."""
    q = np.arange(-255, 1)
    assert ibert_exp(q, scale)[0].max() > 2**33.4
    assert ibert_exp(q, scale, shift=16)[0].max() <= INT32


@pytest.mark.parametrize(("scale", "bits"), [(0.5, 33.46), (0.01, 44.77)])
def test_exp_of_zero_has_this_many_bits(scale, bits):
    assert math.log2(ibert_exp(0, scale)[0][0]) == pytest.approx(bits, abs=0.005)


def test_exp_fits_int32_only_where_little_is_left_of_it():
    assert ibert_exp(0, 1.1815)[0][0] > INT32
    assert ibert_exp(0, 1.1816)[0][0] == 2**30
    assert ibert_exp([-3, -2, -1, 0], 1.671)[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("scale", "error"),
    [
        (0.5, 0.1246),
        (0.25, 0.0269),
        (0.1, 0.0037),
        (1 / 16, 0.0271),
        (0.03, 0.0132),
        (0.01, 0.0041),
        (2**-11, 0.00193),
        (2**-16, 0.001913),
        (2**-20, 0.001913),
    ],
)
def test_the_bound_of_exp_is_its_limit_for_small_scales(scale, error):
    q = -np.arange(min(int(21 / scale), 2**22) + 1)
    for shift in (30, 16):
        got = worst(ibert_exp(q, scale, shift), np.exp(q * scale))
        assert got == pytest.approx(error, abs=6e-5 if scale > 1e-3 else 3e-6)


def test_constants_are_reciprocals_times_a_number():
    assert over(-0.6931, np.array(1e-4)) == -6931.000000000001  # and its floor -6932
    assert ibert_exp(-6932, 1e-4)[0] == ibert_exp(0, 1e-4)[0] / 2
    assert ibert_exp(-6931, 1e-4)[0] > ibert_exp(0, 1e-4)[0] / 2


@given(st.floats(0.01, 1.0), st.integers(0, 10**6))
def test_exp_is_constant_beyond_thirty_octaves(scale, farther):
    end = 30 * np.floor(over(-0.6931, np.array(scale)))
    assert ibert_exp(end - farther, scale)[0] == ibert_exp(end, scale)[0]


def norm(q, **given_to):
    """ibert_layer_norm with gamma 1 and beta 0 where not given, as real numbers too."""
    width = np.shape(q)[-1]
    ones = {"gamma": np.ones(width), "beta": np.zeros(width)}
    codes, scale = ibert_layer_norm(q, **(ones | given_to))
    with np.errstate(invalid="ignore"):
        return codes, codes * scale


def test_layer_norm_drops_eps():
    q = np.array([[1, -1, 1, -1]])
    assert norm(q)[1].tolist() == q.tolist()
    exact = F.layer_norm(q * 1e-3, np.ones(4), np.zeros(4), 1e-5)
    np.testing.assert_allclose(exact, 0.3015 * q, rtol=1e-4)


def test_layer_norm_divides_by_a_deviation_of_zero():
    assert np.isnan(norm([[7, 7, 7, 7]])[0]).all()
    assert_identical(norm([[0, 0, 1, 0]], shift=1)[0], np.array([[np.nan, np.nan, np.inf, np.nan]]))
    assert np.isfinite(norm([[0, 0, 1, 0]])[0]).all()


def test_layer_norm_divides_by_a_gamma_of_zero():
    gamma, beta = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, -1.0, 0.0, 1.0])
    codes, real = norm([[1, -1, 2, -2]], gamma=gamma, beta=beta)
    assert_identical(codes[0, :3], np.array([np.inf, -np.inf, np.nan]))
    assert np.isnan(real[0, :3]).all()
    assert np.isfinite(real[0, 3])


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_layer_norm_gives_the_sign_of_gamma_to_the_scale(seed, shift):
    rng = np.random.default_rng(seed)
    q, (gamma, beta) = rng.integers(-99, 99, (3, 8)), rng.standard_normal((2, 8))
    codes, scale = ibert_layer_norm(q, gamma, beta, shift)
    flipped, negative = ibert_layer_norm(q, -gamma, -beta, shift)
    assert_identical(flipped, codes)
    assert_identical(negative, -scale)


@pytest.mark.parametrize(
    ("deviation", "error", "shifted"),
    [(10, 0.07, 1.2), (30, 0.025, 0.26), (100, 0.008, 0.06), (1000, 0.0007, 0.007)],
)
def test_a_shift_for_loud_rows_costs_quiet_ones(deviation, error, shifted):
    q = np.rint(np.random.default_rng(0).standard_normal((1000, 192)) * deviation)
    exact = F.layer_norm(q, np.ones(192), np.zeros(192), 0.0)
    assert np.abs(norm(q)[1] - exact).max() == pytest.approx(error, rel=0.25)
    assert np.abs(norm(q, shift=4)[1] - exact).max() == pytest.approx(shifted, rel=0.25)


def test_layer_norm_fits_int32_while_beta_is_below_sqrt_c_gammas():
    q = np.zeros((1, 192))
    q[0, 0] = 30000
    limit = math.sqrt(192)
    assert np.abs(norm(q, beta=np.full(192, 0.999 * limit))[0]).max() <= INT32
    assert np.abs(norm(q, beta=np.full(192, 1.01 * limit))[0]).max() > INT32


positive = st.floats(5e-324, 1.7e308)


@given(positive, positive, st.integers(-(2**31), 2**31 - 1))
def test_no_scale_is_an_error_and_each_channel_is_alone(first, second, code):
    """Not at subnormal scales either; the tests' np.errstate raises at anything unusual."""
    for function, q in ((ibert_gelu, code), (ibert_exp, -abs(code))):
        codes, scale = function(np.full((3, 2), q), [first, second])
        for channel, at in enumerate((first, second)):
            alone, label = function(np.full(3, q), at)
            assert_identical(codes[:, channel], alone)
            assert_identical(scale[channel : channel + 1], label)
