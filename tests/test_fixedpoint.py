"""The one rounding, against exact rationals; and both ways of computing, against each other."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.integer.arithmetic import FAST, PLAIN, code_dtype, fast_requantize
from refvit.integer.fixedpoint import bit_length, dyadic, i_sqrt, real_of, requantize, shift_round

INT32 = (-(2**31), 2**31 - 1)
factors = st.builds(math.ldexp, st.floats(0.5, 1, exclude_max=True), st.integers(-29, 22))
edges = st.sampled_from([s * 2**k + d for k in range(28) for s in (1, -1) for d in (-1, 0, 1)])
accumulators = st.one_of(st.integers(-(2**28), 2**28), edges)


@given(factors, st.booleans())
@example(1 - 2.0**-30, False)
@example(0.5, True)
def test_a_dyadic_pair_is_normalised_and_within_its_bound(real, negative):
    real = -real if negative else real
    m, s = dyadic(real)
    assert 2**23 <= abs(int(m)) < 2**24
    assert 1 <= s <= 53
    assert abs(Fraction(int(m), 2 ** int(s)) - Fraction(real)) <= Fraction(abs(real)) / 2**24
    assert real_of(m, s) == int(m) / 2 ** int(s)


def test_zero_tiny_and_impossible_factors():
    assert [v.item() for v in dyadic(0.0)] == [0, 1]
    m, s = dyadic(2.0**-40)
    assert Fraction(int(m), 2 ** int(s)) == Fraction(1, 2**40)
    with pytest.raises(OverflowError, match="head: factor"):
        dyadic(2.0**23, "head")


@given(accumulators, factors, st.booleans())
def test_requantize_is_the_exact_rational_rounded_half_up(acc, real, negative):
    m, s = dyadic(-real if negative else real)
    exact = math.floor(Fraction(acc) * int(m) / 2 ** int(s) + Fraction(1, 2))
    got = requantize(np.array([acc], np.int32), m, s, *INT32)
    assert got.dtype == np.int32
    assert got[0] == min(max(exact, INT32[0]), INT32[1])


@given(st.lists(accumulators, min_size=1, max_size=9), st.lists(factors, min_size=1, max_size=9),
       st.integers(-(2**27), 2**27), st.sampled_from([(-128, 127), (0, 255), INT32]))  # fmt: skip
def test_float64_requantization_cannot_differ(accs, reals, bias, clamp):
    n = min(len(accs), len(reals))
    m, s = dyadic(np.array(reals[:n]))
    acc, b = np.array(accs[:n], np.int32), np.full(n, bias, np.int32)
    for form in (acc, acc.astype(np.float64)):
        fast = fast_requantize(form[None], m, s, *clamp, b)
        assert fast.dtype == code_dtype(*clamp)
        assert np.array_equal(fast[0], requantize(acc, m, s, *clamp, b))


def test_float64_requantization_is_exact_on_ties_and_just_beside_them():
    for shift in (1, 24, 46, 53):
        m = np.array(2**23 + 1, np.int32)
        near = round(2.0 ** (shift - 1) / int(m))
        acc = np.clip(np.arange(near - 50, near + 50), -(2**28), 2**28).astype(np.int32)
        for a in (acc, -acc):
            s = np.array(shift, np.int32)
            assert np.array_equal(
                fast_requantize(a[None], m, s, *INT32)[0], requantize(a, m, s, *INT32)
            )


DTYPES = [(np.int8, np.int8), (np.uint8, np.int8), (np.int16, np.int8), (np.int16, np.int16)]


@pytest.mark.parametrize("types", DTYPES, ids=str)
@pytest.mark.parametrize("inner", [1, 64, 513, 1024, 1025, 1536, 3072])
def test_blas_is_exact_on_adversarial_codes(types, inner):
    """All codes at the ends of their range, signs aligned: sums that random data never reach."""
    rng = np.random.default_rng(inner)
    a_info, b_info = (np.iinfo(t) for t in types)
    worst = np.full((3, inner), a_info.min or a_info.max, types[0])
    worst[1] = a_info.max
    worst[2] = rng.integers(a_info.min, a_info.max + 1, inner)
    b = np.full((inner, 3), b_info.min, types[1])
    b[:, 1] = b_info.max
    b[:, 2] = np.where(rng.random(inner) < 0.9, b_info.max, b_info.max - 1)
    exact = worst.astype(object) @ b.astype(object)
    assert np.array_equal(FAST.matmul(worst, b).astype(object), exact)
    if np.abs(exact).max() < 2**31:
        assert np.array_equal(PLAIN.matmul(worst, b), exact)


def test_one_float32_product_of_that_length_would_be_wrong():
    """The reason for cutting K at 1024: an odd sum above 2**24 has no float32."""
    a = np.full((1, 1025), -128, np.int8)
    a[0, 0], a[0, 1] = 127, -127
    b = np.full((1025, 1), -128, np.int8)
    b[0], b[1] = 127, -127
    b[0] = 126
    exact = PLAIN.matmul(a, b)[0, 0]
    assert exact > 2**24
    assert int(np.float32(exact)) != exact
    assert np.array_equal(FAST.matmul(a, b), PLAIN.matmul(a, b))


@given(st.integers(0, 2**31 - 1))
@example(2**31 - 1)
@example(46340**2)
@example(46340**2 - 1)
def test_i_sqrt_and_bit_length_are_exact(n):
    x = np.array([n], np.int32)
    assert i_sqrt(x)[0] == FAST.root(x)[0] == math.isqrt(n)
    assert bit_length(x)[0] == FAST.bits(x)[0] == n.bit_length()


def test_i_sqrt_around_every_square():
    k = np.arange(1, 46341, dtype=np.int32)
    for d in (-1, 0, 1):
        n = np.minimum(k.astype(np.int64) ** 2 + d, 2**31 - 1)
        wanted = np.array([math.isqrt(int(v)) for v in n])
        assert np.array_equal(i_sqrt(n.astype(np.int32)), wanted)
        assert np.array_equal(FAST.root(n.astype(np.int32)), wanted)


@given(st.integers(-(2**29), 2**29), st.integers(0, 29))
def test_shift_round_is_floor_of_the_half_above(x, s):
    got = shift_round(np.array([x], np.int32), s)
    assert got[0] == math.floor(Fraction(x, 2**s) + Fraction(1, 2))
    small = np.array([x >> 15], np.int32)
    assert shift_round(small, -10)[0] == (x >> 15) * 1024
