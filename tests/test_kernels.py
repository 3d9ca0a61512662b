"""Integer kernels against exact functions: every 8-bit code, a grid of scales, 16-bit rows."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import refvit
from refvit.integer import fixedpoint
from refvit.integer.arithmetic import FAST, PLAIN
from refvit.integer.bounds import Proof, prove, widest
from refvit.integer.kernels import gelu, layer_norm, softmax
from refvit.ops import functional as F
from refvit.params import Params

SCALES = [2.0**-k for k in range(-1, 12)] + [0.03, 0.1, 0.7]
INT8, INT16, UINT8 = (-128, 127), (-32768, 32767), (0, 255)


def constants(plan):
    """The table of one site as the engine sees it."""
    return Params({f"site.{name}": c for name, c in plan[0].items()}).site


def exact_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("scale", SCALES)
def test_exp_is_within_two_thousandths_for_every_8_bit_difference(scale):
    c = constants(softmax.plan("s", scale, 1 / 255, *INT8, 256))
    below = np.arange(256)
    got = softmax.exp2(softmax.octaves(below, c, PLAIN.requantize)) / 47607
    with np.errstate(under="ignore"):
        exact = np.exp(-below * scale)
    assert np.abs(got - exact).max() <= 2.0e-3


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("tokens", [1, 5, 65, 197, 1024])
def test_softmax_is_within_its_bound_and_keeps_order(scale, bits, tokens):
    """|code - exact / out_scale| <= 0.5 + (0.0023 + N / 95214) / out_scale, as clause 4.1 says."""
    out_scale = 1 / (2**bits - 1)
    c = constants(softmax.plan("s", scale, out_scale, *INT8, tokens))
    rng = np.random.default_rng(tokens)
    x = rng.integers(-128, 128, (40, tokens)).astype(np.int8)
    x[0], x[1], x[2], x[3] = 5, -128, 122, -34
    x[2:4, 0] = 127  # one far above many alike, whose roundings add up
    got = softmax.softmax(x, c, PLAIN, 0, 2**bits - 1).astype(np.int64)
    exact = exact_softmax(x * scale)
    assert np.abs(got - exact / out_scale).max() <= 0.5 + (0.0023 + tokens / 95214) / out_scale
    order = np.argsort(x, axis=1)
    assert (np.diff(np.take_along_axis(got, order, 1), axis=1) >= 0).all()
    assert np.abs(got.sum(1) * out_scale - 1).max() <= 0.006 + tokens * out_scale / 2


def test_softmax_of_one_token_and_of_equal_scores():
    c = constants(softmax.plan("s", 0.1, 1 / 255, *INT8, 4))
    one = softmax.softmax(np.array([[-7]], np.int8), c, PLAIN, *UINT8)
    assert one.tolist() == [[255]]
    equal = softmax.softmax(np.full((1, 4), 9, np.int8), c, PLAIN, *UINT8)
    assert equal.tolist() == [[64, 64, 64, 64]]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bits", [8, 16])
def test_gelu_is_within_its_bound_for_every_8_bit_code(scale, bits):
    """|code * out_scale - GELU| <= 0.0183 + out_scale / 2, plus 2**-12 of the argument."""
    x = np.arange(-128, 128)
    exact = F.gelu(x * scale)
    out_scale = np.abs(exact).max() / (2 ** (bits - 1) - 1)
    c = constants(gelu.plan("s", scale, out_scale, *INT8))
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    got = gelu.gelu(x.astype(np.int8), c, PLAIN, lo, hi)
    assert np.abs(got * out_scale - exact).max() <= 0.0183 + out_scale / 2 + 128 * scale * 2.0**-12


@given(st.floats(1e-5, 1e-3))
def test_gelu_of_16_bit_codes(scale):
    x = np.concatenate([np.arange(-32768, 32768, 37), [-1, 0, 1]])
    exact = F.gelu(x * scale)
    out_scale = np.abs(exact).max() / 32767
    c = constants(gelu.plan("s", scale, out_scale, *INT16))
    got = gelu.gelu(x.astype(np.int16), c, PLAIN, *INT16)
    assert np.abs(got * out_scale - exact).max() <= 0.0183 + out_scale + 32768 * scale * 2.0**-12


def norm_case(rng, width, kind):
    x = np.rint(rng.standard_normal((20, width)) * kind["spread"]) + kind["mean"]
    x[0, 0] += kind["outlier"]
    return np.clip(x, kind["lo"], kind["hi"]).astype(np.int64)


KINDS = [
    {"spread": 3000, "mean": 0, "outlier": 0, "lo": -32768, "hi": 32767},
    {"spread": 30, "mean": 9000, "outlier": 0, "lo": -32768, "hi": 32767},
    {"spread": 100, "mean": -5, "outlier": 32000, "lo": -32768, "hi": 32767},
    {"spread": 40, "mean": 3, "outlier": 0, "lo": -128, "hi": 127},
    {"spread": 1, "mean": 0, "outlier": 0, "lo": -128, "hi": 127},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("width", [4, 48, 192, 768, 3072])
@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-6, 1e-2])
def test_layer_norm_is_within_one_code_whatever_the_row(kind, width, eps):
    """8-bit output: within half a code, 8 parts in 1000 of itself, 2**-15 of its row's largest.

    Ordinary rows are ten times better; the 8 parts are a row of 3,072 whose one outlier is 320
    times the deviation of the others, so that their squares are rounded coarsely.
    """
    rng = np.random.default_rng(width)
    x, scale = norm_case(rng, width, kind), 0.002
    gamma, beta = rng.standard_normal(width), rng.standard_normal(width)
    gamma[:2], beta[0] = (0.0, -1.5), 0.0
    real = x * scale
    centred = real - real.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(1, keepdims=True) + eps)
    normed = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    exact = normed * gamma + beta
    out_scale = np.abs(exact).max() / 127
    c = constants(layer_norm.plan("s", scale, out_scale, kind["lo"], kind["hi"], gamma, beta, eps))
    codes = x.astype(np.int16)
    got = layer_norm.layer_norm(codes, c, PLAIN, *INT8)
    reach = 0.008 * np.abs(normed) + 2.0**-15 * np.abs(normed).max(1, keepdims=True)
    bound = 0.51 + reach * np.abs(gamma) / out_scale
    assert (np.abs(got - exact / out_scale) <= bound).all()
    assert (got[:, 0] == 0).all(), "gamma = beta = 0"


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-5, 10.0])
def test_a_row_without_variance_gives_beta(eps):
    beta = np.array([1.0, -2.0, 0.5])
    c = constants(layer_norm.plan("s", 0.01, 0.02, *INT16, np.ones(3), beta, eps))
    for level in (0, 32767, -32768):
        got = layer_norm.layer_norm(np.full((1, 3), level, np.int16), c, PLAIN, *INT8)
        assert got.tolist() == [[50, -100, 25]]


def test_layer_norm_does_not_see_a_shift_of_its_row():
    c = constants(layer_norm.plan("s", 0.01, 0.03, *INT16, np.ones(8), np.zeros(8), 1e-6))
    x = np.random.default_rng(0).integers(-99, 99, (5, 8)).astype(np.int16)
    outs = [layer_norm.layer_norm(x + d, c, PLAIN, *INT8) for d in (0, 1000, -32000)]
    assert all(np.array_equal(outs[0], other) for other in outs[1:])


@given(st.sampled_from(["softmax", "gelu", "norm"]), st.floats(1e-3, 1.0), st.integers(0, 99))
def test_both_arithmetics_give_the_same_codes(kernel, scale, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (6, 24)).astype(np.int8)
    if kernel == "softmax":
        c = constants(softmax.plan("s", scale, 1 / 255, *INT8, 24))
        runs = [softmax.softmax(x, c, a, *UINT8) for a in (PLAIN, FAST)]
    elif kernel == "gelu":
        c = constants(gelu.plan("s", scale, scale, *INT8))
        runs = [gelu.gelu(x, c, a, *INT8) for a in (PLAIN, FAST)]
    else:
        c = constants(
            layer_norm.plan("s", scale, 0.03, *INT8, rng.standard_normal(24), np.ones(24), 1e-6)
        )
        runs = [layer_norm.layer_norm(x, c, a, *INT8) for a in (PLAIN, FAST)]
    assert np.array_equal(*runs)


def test_ranges_that_cannot_be_proved_are_refused_by_name():
    with pytest.raises(
        OverflowError, match=r"blocks\.0: sum range \[0, 2147483648\] does not fit int32; m"
    ):
        prove("blocks.0", "sum", 0, 2**31, "mend it")
    with pytest.raises(OverflowError, match="sum of e"):
        softmax.plan("s", 0.1, 1 / 255, *INT8, 200_000)
    with pytest.raises(OverflowError, match="centred value"):
        layer_norm.plan("s", 0.1, 0.1, *INT16, np.ones(40_000), np.zeros(40_000), 0.0)
    with pytest.raises(OverflowError, match="gamma n"):
        layer_norm.plan("s", 0.1, 1e-6, *INT16, np.full(64, 9.0), np.zeros(64), 0.0)


@given(st.integers(-(2**33), 2**33), st.integers(-(2**33), 2**33))
def test_bits_are_those_of_twos_complement(a, b):
    lo, hi = min(a, b), max(a, b)
    bits = Proof("s", "x", lo, hi, 40).bits
    assert -(2 ** (bits - 1)) <= lo
    assert hi <= 2 ** (bits - 1) - 1
    assert bits == 1 or lo < -(2 ** (bits - 2)) or hi > 2 ** (bits - 2) - 1
    assert widest([Proof("s", "x", 0, 1, 32), Proof("t", "x", lo, hi, 40)]).bits >= bits


def test_every_proved_range_of_a_kernel_is_nearly_reached():
    """A bound that nothing comes near would hide an error in its derivation."""
    c = constants(softmax.plan("s", 1.0, 1 / 255, *INT8, 1000))
    e = softmax.exp2(softmax.octaves(np.zeros((1, 1000), np.uint8), c, PLAIN.requantize))
    proofs = {p.what: p for p in softmax.plan("s", 1.0, 1 / 255, *INT8, 1000)[1]}
    assert e.sum() >= 0.9 * proofs["sum of e + rounding"].hi
    last = softmax.C + (1 << (softmax.OCTAVES - 1 + softmax.EXP_SHIFT - 1))  # f = 0, z = 15
    assert proofs["polynomial + rounding"].hi == last
    assert math.isclose(e[0, 0], softmax.C / 2**softmax.EXP_SHIFT, abs_tol=1)
    x = np.full((1, 768), -32768, np.int16)
    x[0, 0] = 32767
    plan = layer_norm.plan("s", 1.0, 0.2, *INT16, np.ones(768), np.zeros(768), 0.0)
    proofs = {p.what: p for p in plan[1]}
    assert 767 * 65535 >= 0.9 * proofs["centred value"].hi
    n = layer_norm.normalise(x, constants(plan), PLAIN)
    assert abs(int(n.max()) - 2**27 * math.sqrt(767 / 768)) < 2**27 * 2e-3


def test_the_specification_names_the_constants_of_the_code():
    text = refvit.integer.specification()
    for value in (softmax.B, softmax.C, gelu.END, gelu.ONE):
        assert re.search(rf"\b{value}\b", text), value
    for name, value in (("2^27", softmax.RECIPROCAL), ("2^29", 2 * layer_norm.ROOT_BITS - 1)):
        assert name == f"2^{value}"
        assert f"({name} //" in text


class Wide:
    """NumPy, but with int64 for int32: what the kernels would compute without a limit."""

    int32 = np.int64

    def __getattr__(self, name):
        return getattr(np, name)


def extremes(rng, shape, lo, hi):
    """Codes of every kind: spread, at both ends, nearly constant, one outlier."""
    x = rng.integers(lo, hi + 1, (4, *shape))
    x[1] = np.where(rng.random(shape) < 0.5, lo, hi)
    x[2] = rng.integers(-1, 2, shape)
    x[3] = lo
    x[3, ..., 0] = hi
    return x.astype(np.int8 if hi < 128 else np.int16)


scales = st.builds(lambda e, f: f * 2.0**e, st.integers(-34, 8), st.floats(1, 2))


@given(
    st.sampled_from(["softmax", "gelu", "norm"]),
    st.sampled_from([INT8, INT16]),
    scales,
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.sampled_from([0.0, 1e-12, 1e-5, 10.0]),
    st.sampled_from([1, 2, 7, 48, 197, 768, 3072]),
)
@example("norm", INT16, 1e-8, 1e-3, 10.0, 3072)
def test_no_int32_of_a_kernel_that_compiles_ever_wraps(kernel, ends, scale, out, eps, width):
    """Run again with 64-bit integers everywhere, every kernel gives the same codes."""
    rng = np.random.default_rng(width)
    x, (lo, hi) = extremes(rng, (3, width), *ends), (-(2**15), 2**15 - 1)
    gamma, beta = rng.standard_normal(width), rng.standard_normal(width)
    plans = {
        "softmax": lambda: softmax.plan("s", scale, out / 16, *ends, width),
        "gelu": lambda: gelu.plan("s", scale, scale * out, *ends),
        "norm": lambda: layer_norm.plan("s", scale, out, *ends, gamma, beta, eps),
    }
    try:
        c = constants(plans[kernel]())
    except OverflowError:
        return  # refused, as it should be where it cannot be proved
    run = {"softmax": softmax.softmax, "gelu": gelu.gelu, "norm": layer_norm.layer_norm}[kernel]
    narrow = run(x, c, PLAIN, lo, hi)
    with pytest.MonkeyPatch.context() as patch:
        for module in (fixedpoint, softmax, gelu, layer_norm):
            patch.setattr(module, "np", Wide())
        wide = run(x, c.map(lambda t: t.astype(np.int64)), PLAIN, lo, hi)
    assert np.array_equal(narrow, wide)


def test_inputs_that_would_wrap_are_refused():
    one, zero = np.ones(3072), np.zeros(3072)
    with pytest.raises(OverflowError, match="too small for it"):
        layer_norm.plan("s", 1e-8, 1e-3, *INT16, one, zero, 1e6)
    with pytest.raises(OverflowError, match=r"input range .* int16"):
        gelu.plan("s", 1e-6, 1e-6, -(2**23), 2**23 - 1)
    with pytest.raises(OverflowError, match="sum of e"):
        softmax.plan("s", 0.1, 1 / 65535, *INT8, 180_430)
