"""The laws accept refvit's own kernels and refuse, each by a small case, what others ship."""

import functools
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from refvit.integer.arithmetic import FAST, PLAIN
from refvit.ops import functional as F
from refvit.testing import LawError, laws, reference, strategies


def refusal(law, fn, *args, **kwargs):
    """The error that `law` raises of a wrong `fn`; its message is one short line."""
    with pytest.raises(LawError) as caught:
        law(fn, *args, **kwargs)
    message = str(caught.value)
    assert message.startswith(f"{law.__name__} breaks clause {caught.value.clause} (")
    assert len(message) < 400
    assert "\n" not in message
    return caught.value


# --- refvit's own -------------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", [PLAIN, FAST], ids=["plain", "fast"])
def test_the_arithmetic_is_lawful(arithmetic):
    laws.requantize(functools.partial(reference.requantize, arithmetic=arithmetic))
    laws.matmul(functools.partial(reference.matmul, arithmetic=arithmetic))


@pytest.mark.parametrize("signed", [True, False])
def test_the_quantizer_is_lawful(signed):
    laws.quantizer(functools.partial(reference.quantizer, signed=signed), signed=signed)


@pytest.mark.parametrize(("scale", "bits", "out_scale", "arithmetic"), [
    (2.0, 8, 1 / 255, PLAIN), (0.1, 8, 2.0**-8, FAST), (2.0**-11, 8, 1 / 65535, PLAIN),
    (3e-4, 16, 1 / 65535, FAST),
])  # fmt: skip
def test_softmax_is_lawful(scale, bits, out_scale, arithmetic):
    fn = reference.softmax(scale, out_scale, bits=bits, arithmetic=arithmetic)
    laws.softmax(fn, scale, bits=bits, out_scale=out_scale)


def test_a_kernel_may_give_its_scale_with_its_codes():
    softmax, gelu = reference.softmax(0.1, 1 / 100), reference.gelu(0.1, 0.2)
    laws.softmax(lambda codes: (softmax(codes), 1 / 100), 0.1)
    laws.gelu(lambda codes: (gelu(codes), np.float64(0.2)), 0.1)


@pytest.mark.parametrize(("scale", "bits", "room", "arithmetic"), [
    (2.0, 8, 1, FAST), (0.1, 8, 1, PLAIN), (0.1, 8, 0.25, FAST), (2.0**-11, 8, 1, PLAIN),
    (1e-3, 16, 1, FAST), (1e-5, 16, 0.3, PLAIN),
])  # fmt: skip
def test_gelu_is_lawful(scale, bits, room, arithmetic):
    fn = reference.gelu(scale, scale * room, bits=bits, arithmetic=arithmetic)
    laws.gelu(fn, scale, bits=bits, out_scale=scale * room)


@pytest.mark.parametrize(("bits", "arithmetic"), [(8, FAST), (16, PLAIN)])
def test_layer_norm_is_lawful(bits, arithmetic):
    laws.layer_norm(functools.partial(reference.layer_norm, arithmetic=arithmetic), bits=bits)


# --- what others ship ---------------------------------------------------------------------------


def exact(acc, m, s):
    """acc * m / 2**s before its rounding, as (numerator, shift) in int64."""
    return acc.astype(np.int64) * m, s.astype(np.int64)


def truncating(acc, m, s, lo, hi):
    p, s = exact(acc, m, s)
    return np.clip(p >> s, lo, hi)


def half_away(acc, m, s, lo, hi):
    p, s = exact(acc, m, s)
    return np.clip(np.sign(p) * ((np.abs(p) + (1 << (s - 1))) >> s), lo, hi)


def half_even(acc, m, s, lo, hi):
    p, s = exact(acc, m, s)
    up = (p + (1 << (s - 1))) >> s
    tie = (p & ((1 << s) - 1)) == 1 << (s - 1)
    return np.clip(up - (tie & (up & 1)), lo, hi)


def two_roundings(acc, m, s, lo, hi):
    """As gemmlowp: the high half of a doubled product is rounded, then what is left of the shift.

    Here the first rounding drops 12 bits.
    """
    p, s = exact(acc, m, s)
    first = np.minimum(s - 1, 12)
    p = (p + ((1 << first) >> 1)) >> first
    return np.clip((p + (1 << (s - first - 1))) >> (s - first), lo, hi)


def right(acc, m, s, lo, hi):
    p, s = exact(acc, m, s)
    return np.clip((p + (1 << (s - 1))) >> s, lo, hi)


def in_float(dtype):
    def fn(acc, m, s, lo, hi):
        real = acc.astype(dtype) * m.astype(dtype) * np.ldexp(dtype(1), -s)
        return np.clip(np.floor(real + dtype(0.5)), lo, hi).astype(np.int64)

    return fn


def in_place(acc, m, s, lo, hi):
    acc[:] = right(acc, m, s, lo, hi)
    return acc


REQUANTIZERS = {
    "truncation": (truncating, "one rounding, ties toward plus infinity"),
    "half away from zero": (half_away, "one rounding, ties toward plus infinity"),
    "half to even": (half_even, "one rounding, ties toward plus infinity"),
    "two roundings": (two_roundings, "one rounding, ties toward plus infinity"),
    "float32 product": (in_float(np.float32), "one rounding, ties toward plus infinity"),
    "float64 product": (in_float(np.float64), "one rounding, ties toward plus infinity"),
    "wraps": (
        lambda a, m, s, lo, hi: (right(a, m, s, -(2**62), 2**62) - lo) % (hi - lo + 1) + lo,
        "saturation at",
    ),
    "clamp to [-127, 126]": (lambda a, m, s, lo, hi: right(a, m, s, lo + 1, hi - 1), "saturation"),
    "int32 product": (
        lambda a, m, s, lo, hi: np.clip((a * m + (1 << (s - 1))) >> s, lo, hi),
        "",
    ),
    "drops the sign": (lambda a, m, s, lo, hi: right(a, np.abs(m), s, lo, hi), ""),
    "one factor for all channels": (
        lambda a, m, s, lo, hi: right(a, m.ravel()[:1], s.ravel()[:1], lo, hi),
        "",
    ),
    "in place": (in_place, "inputs are not written to"),
    "float codes": (lambda *args: right(*args).astype(np.float32), "codes are integers"),
    "NaN": (lambda acc, *args: np.full(acc.shape, np.nan), "codes are integers"),
    "a list": (lambda *args: right(*args).tolist(), "an array"),
    "flattened": (lambda *args: right(*args).ravel(), "the shape"),
    "raises": (lambda acc, *args: 1 // 0, "an answer to every input"),
}


@pytest.mark.parametrize("name", REQUANTIZERS)
def test_a_wrong_requantize_is_refused(name):
    fn, law = REQUANTIZERS[name]
    error = refusal(laws.requantize, fn)
    assert law in error.law
    assert error.clause == "2.2"
    assert error.case["acc"].size <= 2


def by_float32(a, b):
    return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.int32)


def by_whole_chunks(a, b):
    """K cut at 1024, and what is left of it forgotten."""
    k = a.shape[-1]
    k = k if k < 1024 else k // 1024 * 1024
    return np.matmul(a[..., :k].astype(np.int64), b[..., :k, :].astype(np.int64))


def product(a, b, dtype=np.int64):
    return np.matmul(a.astype(dtype), b.astype(dtype))


MATMULS = {
    "float32": by_float32,
    "whole chunks": by_whole_chunks,
    "int16 accumulators": lambda a, b: product(a, b, np.int16),
    "saturating int24": lambda a, b: np.clip(product(a, b), -(2**23), 2**23 - 1),
    "unsigned taken as signed": lambda a, b: product(a.view(f"i{a.itemsize}"), b),
    "signs dropped": lambda a, b: product(np.abs(a.astype(int)), np.abs(b.astype(int))),
    "batch reversed": lambda a, b: product(a, b)[::-1] if a.ndim > 2 else product(a, b),
    "first of the batch": lambda a, b: (
        product(a, b)[:1] + 0 * product(a, b) if a.ndim > 2 else product(a, b)
    ),
    "transposed": lambda a, b: product(a, b).swapaxes(-1, -2),
    "float codes": lambda a, b: product(a, b, np.float64),
}


@pytest.mark.parametrize("name", MATMULS)
def test_a_wrong_matmul_is_refused(name):
    error = refusal(laws.matmul, MATMULS[name])
    assert error.clause == "3.3"
    if name == "float32":
        assert error.case["a"].shape[:-1] == (1,), "one row by one column"
        assert abs(error.expected) > 2**24
        assert " all " in str(error)


def ends(bits):
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def divided_in_place(x, scale, bits):
    x /= scale
    return np.clip(np.rint(x), *ends(bits)).astype(np.int32)


def half_away_codes(x, scale, bits):
    q = x / scale
    return np.clip(np.trunc(q + np.copysign(0.5, q)), *ends(bits)).astype(np.int32)


QUANTIZERS = {
    "truncation": lambda x, s, b: np.clip(np.trunc(x / s), *ends(b)).astype(np.int32),
    "half away from zero": half_away_codes,
    "half up": lambda x, s, b: np.clip(np.floor(x / s + 0.5), *ends(b)).astype(np.int32),
    "clamp to [-127, 126]": lambda x, s, b: np.clip(
        np.rint(x / s), ends(b)[0] + 1, ends(b)[1] - 1
    ).astype(np.int32),
    "restricted range": lambda x, s, b: np.clip(np.rint(x / s), -ends(b)[1], ends(b)[1]).astype(
        np.int32
    ),
    "wraps": lambda x, s, b: (np.rint(x / s).astype(np.int64) + 2 ** (b - 1)) % 2**b - 2 ** (b - 1),
    "rounds twice": lambda x, s, b: np.clip(np.rint(np.rint(x / s * 4) / 4), *ends(b)).astype(int),
    "zero is not exact": lambda x, s, b: np.clip(np.rint(x / s + 0.75), *ends(b)).astype(np.int32),
    "in place": divided_in_place,
    "float codes": lambda x, s, b: np.clip(np.rint(x / s), *ends(b)),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_wrong_quantizer_is_refused(name):
    error = refusal(laws.quantizer, QUANTIZERS[name])
    assert error.clause == "1.4"
    assert error.case["x"].size == 1


def i_exp(q, scale):
    """I-BERT's release on codes q <= 0: constants floored at the scale of the scores."""
    x0 = math.floor(-0.6931 / scale)
    b, c = math.floor(2.7073 / scale), math.floor(2.7921 / scale**2)
    q = np.maximum(q, 15 * x0)
    z = q // x0
    p = q - z * x0
    return (p * (p + b) + c) << (15 - z)


def floored_constants(scale):
    def fn(codes):
        q = codes.astype(np.int64)
        e = i_exp(q - q.max(-1, keepdims=True), scale)
        return np.rint(255 * e / e.sum(-1, keepdims=True)).astype(np.uint8)

    return fn


def shiftmax(scale):
    """I-ViT with 8-bit probabilities: every division floors."""

    def fn(codes):
        q = codes.astype(np.int64)
        q = q - q.max(-1, keepdims=True)
        p, x0 = q + (q >> 1) - (q >> 4), math.floor(-1 / scale)
        p = np.maximum(p, 15 * x0)
        z = p // x0
        e = (((p - z * x0) >> 1) - x0) << (15 - z)
        f = (2**31 - 1) // e.sum(-1, keepdims=True)
        return (e * f) >> 24, 2.0**-7

    return fn


def probabilities(scale, axis=-1, top=255):
    """Softmax in float64 along any axis, in 255ths unless another `top` is given."""

    def fn(codes):
        q = codes * np.float64(scale)
        e = np.exp(q - q.max(axis, keepdims=True))
        return np.rint(top * e / e.sum(axis, keepdims=True)).astype(np.int64)

    return fn


def without_maximum(scale):
    """exp of the scores themselves with 20 fraction bits in int32, which great ones leave."""

    def fn(codes):
        e = np.rint(np.exp(codes * scale) * 2**20).astype(np.int64).astype(np.int32)
        total = e.sum(-1, keepdims=True, dtype=np.int64)
        return np.rint(e * 255 / np.where(total, total, 1)).astype(np.int64)

    return fn


def summing_to_one(codes):
    """The greatest probability takes what rounding has left."""
    p = probabilities(0.1)(codes)
    np.put_along_axis(p, codes.argmax(-1)[..., None], 0, -1)
    np.put_along_axis(p, codes.argmax(-1)[..., None], 255 - p.sum(-1, keepdims=True), -1)
    return p


def normalised_in_place(codes):
    codes -= codes.max(-1, keepdims=True)
    return probabilities(0.1)(codes)


SOFTMAXES = {
    "floored constants": (floored_constants(0.25), 0.25, "of the exact softmax"),
    "no maximum, wraps": (without_maximum(0.1), 0.1, ""),
    "8-bit Shiftmax": (shiftmax(0.1), 0.1, ""),
    "base two": (probabilities(0.1 * math.log(2)), 0.1, "of the exact softmax"),
    "over the first axis": (probabilities(0.1, axis=0), 0.1, ""),
    "256 in a byte": (lambda c: (probabilities(0.1, top=256)(c).astype(np.uint8), 2.0**-8),
                      0.1, "one token has probability one"),
    "remainder to the greatest": (summing_to_one, 0.1, "equal scores, equal probabilities"),
    "in place": (normalised_in_place, 0.1, "inputs are not written to"),
    "real probabilities": (lambda c: probabilities(0.1)(c) / 255, 0.1, "codes are integers"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_wrong_softmax_is_refused(name):
    fn, scale, law = SOFTMAXES[name]
    error = refusal(laws.softmax, fn, scale)
    assert law in error.law
    assert error.clause == "4.1"
    assert error.case["codes"].size <= 8


def test_a_long_uniform_row_shows_the_mass_that_8_bits_lose():
    """197 equal tokens: 1.3 codes each, all floored to 0. Short rows hide it behind the bound."""
    fn = shiftmax(0.1)
    assert fn(np.zeros(197, np.int8))[0].sum() == 0
    error = refusal(laws.softmax, lambda c: (fn(c)[0], 2.0**-7), 0.1, tolerance=0.06)
    assert "a row sums to one" in error.law


def i_gelu(scale, shift):
    """I-BERT's release, its answer rounded to the scale of the input: the shift is 14 there."""
    s = scale / 1.4142
    b, c = math.floor(-1.769 / s), math.floor(1 / -0.2888 / s**2)

    def fn(codes):
        q = codes.astype(np.int64)
        t = np.sign(q) * ((np.minimum(np.abs(q), -b) + b) ** 2 + c) >> shift
        unit = s**2 * -0.2888 * 2**shift
        return np.clip(np.rint(q * (t + math.floor(1 / unit)) * unit / 2), -128, 127).astype(int)

    return fn


def shift_gelu(scale):
    """I-ViT: x sigmoid(1.702 x) by two exponentials below the greatest of the row."""

    def fn(codes):
        x = codes * np.float64(scale)
        top = x.max(-1, keepdims=True)
        e = np.floor(np.exp(1.702 * (x - top)) * 2**23)
        whole = e + np.floor(np.exp(-1.702 * top) * 2**23)
        gate = np.floor(127 * (e / np.maximum(whole, 1))) / 127
        return np.clip(np.rint(x * gate / scale), -128, 127).astype(np.int64)

    return fn


def activation(fn, scale, out_scale=None):
    return lambda codes: np.clip(
        np.rint(fn(codes * np.float64(scale)) / (out_scale or scale)), -128, 127
    ).astype(np.int64)


def on_the_scale_of_its_row(codes):
    """Exact, on a grid that the greatest of the row decides."""
    real = F.gelu(codes * np.float64(0.02))
    step = max(np.abs(real).max() / 15, 0.02)
    return np.rint(np.rint(real / step) * step / 0.02).astype(np.int64)


def gelu_in_place(codes):
    codes[:] = activation(F.gelu, 0.02)(codes)
    return codes.copy()


GELUS = {
    "I-BERT's shift of 14": (i_gelu(0.03, 14), 0.03, 0.03, "of the exact GELU"),
    "ShiftGELU": (shift_gelu(0.1), 0.1, 0.1, ""),
    "grid of the row": (on_the_scale_of_its_row, 0.02, 0.02, ""),
    "greatest of the row": (
        lambda c: activation(F.gelu, 0.02)(c) + (c > 0) * (c < c.max()), 0.02, 0.02,
        "a code does not see its neighbours",
    ),
    "h-GELU": (activation(lambda x: x * np.clip(1.702 * x + 3, 0, 6) / 6, 0.01), 0.01, 0.01,
               "of the exact GELU"),
    "ReLU": (activation(lambda x: np.maximum(x, 0), 0.02), 0.02, 0.02, "of the exact GELU"),
    "wraps": (lambda c: np.rint(F.gelu(c * 0.02) / 0.01).astype(np.int64).astype(np.int8),
              0.02, 0.01, "saturation at -128 and 127"),
    "zero is one": (lambda c: activation(F.gelu, 0.02)(c) + (c == 0), 0.02, 0.02, "GELU(0) = 0"),
    "unsigned": (lambda c: activation(F.gelu, 0.02)(c).astype(np.uint8), 0.02, 0.02, ""),
    "in place": (gelu_in_place, 0.02, 0.02, "inputs are not written to"),
    "real": (lambda c: F.gelu(c * 0.02), 0.02, 0.02, "codes are integers"),
}  # fmt: skip


@pytest.mark.parametrize("name", GELUS)
def test_a_wrong_gelu_is_refused(name):
    fn, scale, out_scale, law = GELUS[name]
    error = refusal(laws.gelu, fn, scale, out_scale=out_scale)
    assert law in error.law
    assert error.clause == "4.2"
    assert error.case["codes"].size <= 2


def norm(codes, gamma, beta, scale, out_scale, eps, *, mean=np.mean, degrees=0):
    """LayerNorm in float64 on codes, with the mean and the divisor of the variance to be chosen."""
    x = codes.astype(np.float64)
    x = x - mean(x, -1, keepdims=True)
    var = (x**2).sum(-1, keepdims=True) / np.maximum(x.shape[-1] - degrees, 1)
    deviation = np.sqrt(var * scale**2 + eps)
    normed = np.divide(x * scale, deviation, out=np.zeros_like(x), where=deviation > 0)
    return saturated((normed * gamma + beta) / out_scale)


def saturated(real):
    return np.clip(np.rint(real), -128, 127).astype(np.int64)


def without_eps(codes, gamma, beta, scale, out_scale, eps):
    return norm(codes, gamma, beta, scale, out_scale, 0.0)


@np.errstate(all="ignore")
def divided_by_gamma(codes, gamma, beta, scale, out_scale, eps):
    """I-BERT: beta joins before gamma does, as beta / gamma."""
    x = (codes - codes.mean(-1, keepdims=True)) * scale
    unit = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps + 1e-30)
    return saturated((unit + beta / gamma) * gamma / out_scale)


def static_shift(codes, gamma, beta, scale, out_scale, eps):
    """I-BERT: squares shifted by one number for all rows; those of small variance vanish."""
    y = codes.astype(np.int64) - np.rint(codes.mean(-1, keepdims=True)).astype(np.int64)
    root = np.sqrt(((y >> 4) ** 2).sum(-1, keepdims=True)) * 16
    unit = y * math.sqrt(codes.shape[-1]) / np.maximum(root, 1)
    return saturated((unit * gamma + beta) / out_scale)


def rounded_mean(*args):
    return norm(*args, mean=lambda x, *a, **k: np.rint(np.mean(x, *a, **k)))


def of_the_batch(codes, *args):
    return norm(
        codes.reshape(1, -1), *(np.tile(a, len(codes)) for a in args[:2]), *args[2:]
    ).reshape(codes.shape)


def norm_in_place(codes, *args):
    codes -= codes.min(-1, keepdims=True)
    return norm(codes, *args)


def first_row_of_zeros(codes, *args):
    """As a buffer that is one row late."""
    out = norm(codes, *args)
    return np.concatenate([out[:1], out[:-1]])


NORMS = {
    "eps dropped": (without_eps, "eps is kept"),
    "division by gamma": (divided_by_gamma, "gives beta"),
    "static shift": (static_shift, ""),
    "rounded mean": (rounded_mean, ""),
    "variance over C - 1": (functools.partial(norm, degrees=1), ""),
    "statistics of the batch": (of_the_batch, ""),
    "one row late": (first_row_of_zeros, ""),
    "sign of gamma dropped": (lambda c, g, *args: norm(c, np.abs(g), *args), ""),
    "wraps": (lambda c, g, b, s, o, e: (norm(c, g, b, s, o * 4, e) * 4).astype(np.int8), ""),
    "in place": (norm_in_place, "inputs are not written to"),
    "real": (lambda *args: norm(*args) * args[4], "codes are integers"),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_wrong_layer_norm_is_refused(name):
    fn, law = NORMS[name]
    error = refusal(laws.layer_norm, fn)
    assert law in error.law
    assert error.clause == "4.3"
    assert error.case["codes"].size <= 8


# --- what a refusal says ------------------------------------------------------------------------


def test_a_message_is_one_line_that_can_be_tried():
    error = refusal(laws.requantize, truncating)
    assert re.fullmatch(
        r"requantize breaks clause 2\.2 \(one rounding, ties toward plus infinity\): "
        r"acc=-?\d+, multiplier=-?\d+, shift=\d+, lo=-128, hi=127: expected (-?\d+), found (-?\d+)",
        str(error),
    )
    assert truncating(*error.case.values()) == error.found == error.expected - 1
    assert right(*error.case.values()) == error.expected
    assert str(pickle.loads(pickle.dumps(error))) == str(error), "as pytest-xdist sends it"


def test_a_long_array_is_described_by_what_it_mostly_is():
    x = np.full((2, 20), 3, np.int8)
    x[1, 4] = -1
    error = LawError("matmul", "3.3", "law", {"a": x, "b": np.arange(20)}, 1, 2, (0, 1))
    assert str(error) == (
        "matmul breaks clause 3.3 (law): a=int8[2, 20] all 3 but -1 at [1, 4], "
        "b=int64[20] from [0, 1, 2, 3] on, at [0, 1]: expected 1, found 2"
    )


def test_the_same_fault_is_always_met_by_the_same_case():
    first, second = (str(refusal(laws.quantizer, half_away_codes)) for _ in range(2))
    assert first == second


def test_a_function_that_changes_its_mind_is_refused():
    calls = []

    def moody(acc, *args):
        calls.append(1)
        return right(acc, *args) + (len(calls) == 30)

    error = refusal(laws.requantize, moody)
    assert error.law == "the same answer every time"


def test_hypothesis_is_needed_only_here():
    script = """
import sys
import refvit
assert not any(name.startswith("hypothesis") for name in sys.modules)
sys.modules["hypothesis"] = None
try:
    import refvit.testing
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("pip install 'refvit[test]' or 'refvit[notebooks]'\n")
    assert done.stdout.count("\n") == 1


# --- the strategies ------------------------------------------------------------------------------


def drawn(strategy):
    """What a strategy draws in one run."""
    seen = []
    given(strategy)(lambda value: seen.append(value))()
    return seen


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (8, True), (8, False), (16, True)])
def test_codes_stay_in_their_range_and_reach_its_ends(bits, signed):
    lo, hi = strategies.code_range(bits, signed)
    seen = drawn(strategies.codes(bits, signed))
    assert {0, lo, hi} <= set(seen) <= set(range(lo, hi + 1))


def test_scales_are_powers_of_two_their_neighbours_and_others():
    seen = drawn(strategies.scales(-20, 4))
    assert all(2.0**-21 <= s <= 32 for s in seen)
    mantissas = {math.frexp(s)[0] for s in seen}
    assert {0.5, math.nextafter(0.5, 1), math.nextafter(1, 0)} & mantissas
    assert len(mantissas) > 5


@given(strategies.dyadic_pairs(), strategies.accumulators())
def test_dyadic_pairs_and_accumulators_are_those_of_the_specification(pair, acc):
    m, s = pair
    assert 1 <= s <= 53
    assert 2**23 <= abs(m) < 2**24 or s == 53 or pair == (0, 1)
    assert -(2**31) <= acc < 2**31


@given(strategies.ties())
def test_ties_are_ties_or_one_unit_beside(triple):
    acc, m, s = triple
    assert 2**23 <= abs(m) < 2**24
    unit = acc & -acc
    if unit < 2**30 and s < 53:
        assert abs((acc * m) % 2**s - 2 ** (s - 1)) in (0, unit)


@given(strategies.tensors(8), strategies.score_rows(16), strategies.rows_of_codes(4))
def test_arrays_of_codes_have_their_types_and_axes(tensor, row, few):
    assert (tensor.dtype, tensor.ndim) == (np.int8, 2)
    assert (row.dtype, row.ndim) == (np.int16, 1)
    assert few.ndim == 2
    assert few.size <= 8
    assert few.min() >= -8
    assert few.max() <= 7


def test_reals_come_on_ties_and_outside_of_the_grid():
    seen = drawn(strategies.reals(0.25, bits=4))
    assert any(r / 0.25 % 1 == 0.5 for r in seen)
    assert any(abs(r) > 0.25 * 8 for r in seen)
    assert 0 in seen
