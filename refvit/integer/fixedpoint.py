"""The one rounding of the engine, and the integers that stand for real factors.

A real factor r is a dyadic pair (multiplier, shift): `r = multiplier / 2**shift`, the multiplier
signed and normalised to 24 bits, so that r is met to one part in 2**24 (Jacob et al. 2018,
section 2.2, with 24 bits for 31: the engine's labels absorb the difference, and the product with
an accumulator of 28 bits is exact in float64 as well). All shifts of negatives floor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[Any]

MULTIPLIER_BITS = 24
GUARD = 8  # fraction bits that addends carry into a sum which is rounded once
INT32 = (-(2**31), 2**31 - 1)
MAX_SHIFT = 53  # beyond it float64 could not tell a product below one half from one half


def dyadic(real: Any, site: str = "") -> tuple[IntArray, IntArray]:
    """Return int32 (multiplier, shift) with `real ~ multiplier / 2**shift`, 1 <= shift <= 53.

    Clause 2.1: 2**23 <= |multiplier| < 2**24, except that a factor below 2**-30 is met to 2**-54
    absolutely, and 0 is (0, 1). Raises OverflowError for |real| >= 2**23 (`site` is named).

    >>> m, s = dyadic(0.3); int(m), int(s), float(m / 2.0**s)
    (10066330, 25, 0.30000001192092896)
    """
    real = np.asarray(real, np.float64)
    exponent = np.frexp(real)[1]
    shift = np.clip(MULTIPLIER_BITS - exponent, 1, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(real, shift))
    rounded_up = np.abs(multiplier) == 1 << MULTIPLIER_BITS  # 0.99999999 is 2**23 / 2**23
    multiplier, shift = multiplier / (1 + rounded_up), shift - rounded_up
    if (np.abs(multiplier) >= 1 << MULTIPLIER_BITS).any() or (shift < 1).any():
        raise OverflowError(
            f"{site or 'dyadic'}: factor {np.abs(real).max():.3g} is too large; "
            "the scales of this site differ by more than 2**23"
        )
    shift = np.where(multiplier == 0, 1, shift)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def real_of(multiplier: IntArray, shift: IntArray) -> NDArray[np.float64]:
    """Return the real number a dyadic pair stands for, exactly."""
    return np.asarray(np.ldexp(multiplier.astype(np.float64), -shift))


def requantize(
    acc: IntArray,
    multiplier: IntArray,
    shift: IntArray,
    lo: int,
    hi: int,
    bias: IntArray | None = None,
) -> IntArray:
    """Return `clip(floor((acc + bias) * multiplier / 2**shift + 1/2), lo, hi)` as int32.

    One rounding, ties toward plus infinity: clause 2.2 of the specification. `acc + bias` is int32;
    the product is the only 64-bit value of the engine (32 x 24 -> 56 bits).

    >>> requantize(np.array([5, -5, 6]), *dyadic(0.5), -128, 127)
    array([ 3, -2,  3], dtype=int32)
    """
    total = acc if bias is None else acc + bias
    product = total.astype(np.int64) * multiplier
    product += np.int64(1) << (shift.astype(np.int64) - 1)
    product >>= shift
    return np.clip(product, lo, hi, out=product).astype(np.int32)


def shift_round(x: IntArray, shift: Any) -> IntArray:
    """Return int32 `floor(x / 2**shift + 1/2)`; a negative shift multiplies. |shift| <= 30.

    Clause 2.3 of the specification.

    >>> shift_round(np.array([5, -5, 6], np.int32), 1), shift_round(np.array([3], np.int32), -2)
    (array([ 3, -2,  3], dtype=int32), array([12], dtype=int32))
    """
    shift = np.asarray(shift, np.int32)
    right = np.maximum(shift, 0)
    if (shift < 0).any():
        x = x << np.maximum(-shift, 0)
    half = (np.int32(1) << right) >> 1
    return np.asarray((x + half) >> right)


def bit_length(x: IntArray) -> IntArray:
    """Return int32 bits of each 0 <= x < 2**31: the position of the leading one.

    >>> bit_length(np.array([0, 1, 255, 256, 2**31 - 1], np.int32))
    array([ 0,  1,  8,  9, 31], dtype=int32)
    """
    x = x.copy()
    bits = np.zeros_like(x)
    for step in (16, 8, 4, 2, 1):  # a leading-zero counter's tree
        large = x >= np.int32(1) << step
        bits += np.int32(step) * large
        x = np.where(large, x >> step, x)
    return bits + (x > 0)


def i_sqrt(n: IntArray) -> IntArray:
    """Return floor(sqrt(n)) for int32 0 <= n < 2**31 by Newton's method (I-BERT, Algorithm 4).

    The start is a power of two not below the root, from which the iteration falls until it
    would rise; every element stops by itself.

    >>> i_sqrt(np.array([0, 3, 4, 2**31 - 1], np.int32))
    array([    0,     1,     2, 46340], dtype=int32)
    """
    positive = np.maximum(n, 1)
    x = np.int32(1) << ((bit_length(positive) + 1) >> 1)
    while True:
        lower = np.minimum(x, (x + positive // x) >> 1)
        if (lower == x).all():
            return np.asarray(x - (n == 0))
        x = lower
