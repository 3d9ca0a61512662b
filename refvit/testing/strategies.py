"""Strategies that go where integer implementations break: ends, ties, outliers, every binade.

Uniform numbers meet few of the places that matter: a tie has measure zero, the end of a 16-bit
range comes once in 65,536 draws, and no random product of codes exceeds float32. Each strategy
here draws its special points often, and shrinks to small, plain numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import code_dtype
from refvit.integer.fixedpoint import INT32, MAX_SHIFT, MULTIPLIER_BITS
from refvit.quant import code_range as code_range
from refvit.testing.extra import st

IntArray = NDArray[Any]

LEAST = 1 << (MULTIPLIER_BITS - 1)  # of a normalised multiplier
MODULUS = 1 << MULTIPLIER_BITS


def code_ranges() -> st.SearchStrategy[tuple[int, int]]:
    """Draw [lo, hi] of 2 to 16 bits, signed or not, or of int32."""
    widths = [8, *range(2, 8), *range(9, 17)]
    narrow = [code_range(bits, signed) for bits in widths for signed in (True, False)]
    return st.sampled_from(narrow + 10 * [INT32])


def codes(bits: int = 8, signed: bool = True) -> st.SearchStrategy[int]:
    """Draw codes of 2 to 16 bits; both ends, their neighbours and zero come often."""
    lo, hi = code_range(bits, signed)
    return st.integers(lo, hi) | st.sampled_from([0, hi, lo, hi - 1, lo + 1])


def scales(least: int = -20, most: int = 4) -> st.SearchStrategy[float]:
    """Draw scales from 2**least to 2**(most + 1): powers of two, their neighbours, log-uniform."""
    exponents = st.integers(least, most)
    powers = exponents.map(lambda e: 2.0**e)
    beside = st.builds(math.nextafter, powers, st.sampled_from([0.0, math.inf]))
    return powers | beside | st.builds(math.ldexp, st.floats(1, 2, exclude_max=True), exponents)


def accumulators() -> st.SearchStrategy[int]:
    """Draw int32 accumulators: small ones, powers of two and their neighbours, both ends."""
    powers = [sign * 2**k + d for k in range(31) for sign in (1, -1) for d in (-1, 0, 1)]
    edges = [*powers, 2**31 - 1, -(2**31), 1 - 2**31]
    return st.integers(-300, 300) | st.sampled_from(edges) | st.integers(*INT32)


def factors(least: int = -29, most: int = 22) -> st.SearchStrategy[float]:
    """Draw real factors of either sign, 2**(least - 1) <= |r| < 2**most, that `dyadic` can meet."""
    sizes = st.builds(math.ldexp, st.floats(0.5, 1, exclude_max=True), st.integers(least, most))
    return sizes | sizes.map(lambda real: -real)


def dyadic_pairs() -> st.SearchStrategy[tuple[int, int]]:
    """Draw (multiplier, shift) of 24 bits and 1..53: normalised; below 2**-30; zero."""
    sizes = st.just(LEAST) | st.integers(LEAST, MODULUS - 1) | st.just(MODULUS - 1)
    signed = sizes | sizes.map(lambda m: -m)
    tiny = st.tuples(st.integers(1 - LEAST, LEAST - 1), st.just(MAX_SHIFT))
    return st.tuples(signed, st.integers(1, MAX_SHIFT)) | tiny | st.just((0, 1))


def ties() -> st.SearchStrategy[tuple[int, int, int]]:
    """Draw (acc, multiplier, shift) whose quotient is a tie, or one unit of the product beside it.

    A tie is an odd number of halves. Beside it, the product of a great accumulator needs 55 bits,
    which float64 does not have; and a first rounding anywhere above the last bit makes a tie of it.
    """

    def on_a_tie(acc: int, odd: int, negative: bool) -> tuple[int, int, int]:
        multiplier = odd << (MULTIPLIER_BITS - odd.bit_length())
        zeros = ((acc & -acc) * (multiplier & -multiplier)).bit_length() - 1
        return acc, -multiplier if negative else multiplier, min(zeros + 1, MAX_SHIFT)

    odds = st.integers(0, 500).map(lambda k: 2 * k + 1)
    some, great = accumulators().filter(bool), st.integers(2**30, 2**31 - 1)
    beside = st.builds(beside_a_tie, some | great, st.sampled_from([-1, 1]))
    return st.builds(on_a_tie, some, odds, st.booleans()) | beside


def beside_a_tie(acc: int, step: int) -> tuple[int, int, int]:
    """Return (acc, multiplier, shift) with acc * multiplier / 2**shift = k + 1/2 + step / 2**24.

    >>> acc, m, s = beside_a_tie(3, -1)
    >>> (acc * m) % 2**s - 2**(s - 1)
    -1
    """
    zeros = (acc & -acc).bit_length() - 1
    inverse = pow(acc >> zeros, -1, MODULUS)  # of the odd part, modulo 2**24
    multiplier = (MODULUS // 2 + step) * inverse % MODULUS
    multiplier -= MODULUS if multiplier < LEAST else 0  # the one of its class that is normalised
    return acc, multiplier, min(MULTIPLIER_BITS + zeros, MAX_SHIFT)


def reals(scale: float = 1.0, bits: int = 8, signed: bool = True) -> st.SearchStrategy[float]:
    """Draw reals around a grid: its points, ties and their neighbours, zeros, far beyond.

    The ties are (k + 1/2) scale, exact where the scale is a power of two.
    """
    lo, hi = code_range(bits, signed)
    half_codes = st.integers(2 * lo - 3, 2 * hi + 3).map(lambda k: k / 2)
    few = st.integers(-9, 9).map(lambda k: k / 2)
    between = st.integers(96 * lo - 96, 96 * hi).map(lambda k: k / 64)
    beside = st.builds(lambda tie, step: tie + step, half_codes, st.sampled_from([2**-6, -(2**-6)]))
    far = st.sampled_from([hi + 0.5, lo - 0.5, 1e3 * hi, -1e3 * hi, 2.0**40, -(2.0**40), -0.0])
    return (few | half_codes | beside | between | far).map(lambda ratio: ratio * scale)


def rows_of_codes(bits: int = 8, most: int = 8) -> st.SearchStrategy[IntArray]:
    """Draw signed codes [R, C] of at most `most` elements, each by itself: they shrink well."""
    dtype = code_dtype(*code_range(bits))

    def arrange(values: list[int], rows: int) -> IntArray:
        rows = min(rows, len(values))
        width = len(values) // rows
        return np.array(values[: rows * width], dtype).reshape(rows, width)

    values = st.lists(codes(bits), min_size=1, max_size=most)
    return st.builds(arrange, values, st.sampled_from([1, 2, 3]))


def tensors(bits: int = 16, widest: int = 768) -> st.SearchStrategy[IntArray]:
    """Draw signed codes [R, C] as activations have them, normal of any spread and mean.

    One element, or one channel, is often an outlier at an end of the range.
    """
    lo, hi = code_range(bits)

    def make(seed: int, width: int, spread: int, mean: int, outlier: Any, end: int) -> IntArray:
        noise = np.random.default_rng(seed).standard_normal((1 + seed % 3, width))
        x = np.clip(np.rint(noise * spread + mean), lo, hi).astype(code_dtype(lo, hi))
        if outlier is not None:
            x[outlier] = end
        return x

    return st.builds(
        make,
        st.integers(0, 99),
        st.sampled_from([8, 48, 192, widest]) | st.integers(1, widest),
        st.sampled_from([1, 2, 40, hi // 10 + 1]),
        st.sampled_from([0, 3, lo, hi // 3]),
        st.sampled_from([None, (0, 0), (slice(None), -1)]),
        st.sampled_from([hi, lo]),
    )


def score_rows(bits: int = 8, longest: int = 256) -> st.SearchStrategy[IntArray]:
    """Draw one long row of signed scores [N]: equal, one dominant, near each other, or spread.

    Equal scores are often all at the least or the greatest code.
    """
    lo, hi = code_range(bits)

    def make(kind: str, tokens: int, base: int, seed: int) -> IntArray:
        row, rng = np.full(tokens, base), np.random.default_rng(seed)
        if kind == "dominant":
            row[seed % tokens] = hi
        if kind in ("near", "spread"):
            reach = 8 if kind == "near" else hi
            row += rng.integers(-reach, reach + 1, tokens)
        return np.asarray(np.clip(row, lo, hi)).astype(code_dtype(lo, hi))

    kinds = st.sampled_from(["equal", "dominant", "near", "spread"])
    lengths = st.sampled_from([50, 65, 197, longest]) | st.integers(1, longest)
    return st.builds(make, kinds, lengths, codes(bits), st.integers(0, 99))
