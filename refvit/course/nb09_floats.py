"""Exercises of notebook 09: how much fits an integer or a float."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def longest_row(bits_a: int, bits_b: int, width: int) -> int:
    """Return the greatest K for which any sum of K products a * b fits `width` signed bits (to 64).

    a and b are signed codes of bits_a and bits_b bits (2 to 8), whose least codes are -2**(bits -
    1); a signed integer of `width` bits lies in [-2**(width - 1), 2**(width - 1) - 1].
    """
    largest = 1 << (bits_a - 1 + bits_b - 1)
    return ((1 << (width - 1)) - 1) // largest


@functools.cache
def _until_it_wraps(bits_a: int, bits_b: int, width: int) -> int:
    a, b = ((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (bits_a, bits_b))
    products = [x * y for x in a for y in b]
    terms = 0
    for step in (1 << bit for bit in reversed(range(width))):
        low, high = ((terms + step) * end(products) for end in (min, max))
        if -(2 ** (width - 1)) <= low and high <= 2 ** (width - 1) - 1:
            terms += step
    return terms


LONGEST = Exercise(
    id="nb09.longest_row",
    title="how long a row an accumulator holds",
    answer=longest_row,
    cases=st.tuples(draw.bits(2, 5), draw.bits(2, 5), st.integers(6, 14)),
    edges=((8, 8, 32), (8, 8, 16), (8, 8, 64)),
    truth=_until_it_wraps,
    returns="K",
    hints=(
        "The largest product is that of the two least codes, and it is positive.",
        "The greatest integer of `width` bits is 2**(width - 1) - 1: K products of the largest "
        "size must not exceed it.",
    ),
    wrong=(
        Wrong("one_past", "a sum that may be 2**(width - 1), one more than the greatest integer",
              lambda bits_a, bits_b, width:
              2 ** (width - 1) // (2 ** (bits_a - 1) * 2 ** (bits_b - 1))),
        Wrong("restricted", "products of the greatest codes; those of the least codes are larger",
              lambda bits_a, bits_b, width:
              (2 ** (width - 1) - 1) // ((2 ** (bits_a - 1) - 1) * (2 ** (bits_b - 1) - 1))),
        Wrong("mixed", "a product of the least code and the greatest, which is not the largest",
              lambda bits_a, bits_b, width:
              (2 ** (width - 1) - 1) // (2 ** (bits_a - 1) * (2 ** (bits_b - 1) - 1))),
        Wrong("unsigned", "an accumulator without a sign",
              lambda bits_a, bits_b, width:
              (2**width - 1) // (2 ** (bits_a - 1) * 2 ** (bits_b - 1))),
        Wrong("in_reals", "a division of floats (/), of 53 bits: with // it is one of integers",
              lambda bits_a, bits_b, width:
              int((2 ** (width - 1) - 1) / (2 ** (bits_a - 1) * 2 ** (bits_b - 1)))),
        Wrong("rule_of_thumb", "the rule 2**(width - bits_a - bits_b), which is safe but too short",
              lambda bits_a, bits_b, width: int(2.0 ** (width - bits_a - bits_b))),
    ),
)  # fmt: skip


def exact_length(a: int, b: int, digits: int) -> int:
    """Return the greatest K for which K products, of magnitudes up to a and b, sum exactly in a
    float with a significand of `digits` bits, whatever the order.

    Such a float holds every integer up to the first gap: 2**digits + 1 is not among them, and
    2**digits is. a, b >= 1. Return 0 where not even one product is sure to be held.
    """
    return (1 << digits) // (a * b)


def _below_the_gap(a: int, b: int, digits: int) -> int:
    reach = 0
    while (reach + 1) // ((reach + 1) & -(reach + 1)) < 2**digits:  # its odd part has few bits
        reach += 1
    return max(k for k in range(reach + 1) if k * a * b <= reach)


EXACT = Exercise(
    id="nb09.exact_length",
    title="how long a row a float sums exactly",
    answer=exact_length,
    cases=st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(3, 8)),
    edges=((1, 1, 11), (2, 4, 11)),
    truth=_below_the_gap,
    returns="K",
    hints=(
        "No partial sum exceeds K a b. So ask only how far the integers go without a gap.",
        "They go up to 2**digits, that number included.",
    ),
    wrong=(
        Wrong("excluded", "2**digits left out: the float holds it, and K = 1024 is exact",
              lambda a, b, digits: (2**digits - 1) // (a * b)),
        Wrong("stored_bits", "one bit less: the leading one of a float is not stored, but counts",
              lambda a, b, digits: 2 ** (digits - 1) // (a * b)),
        Wrong("one_past", "a row of one more, whose sum can lie in the gap",
              lambda a, b, digits: 2**digits // (a * b) + 1),
        Wrong("rounded_up", "a quotient rounded up, where the last row must fit whole",
              lambda a, b, digits: -(-(2**digits) // (a * b))),
        Wrong("sum_of_codes", "a + b where the codes are multiplied",
              lambda a, b, digits: 2**digits // (a + b)),
    ),
)  # fmt: skip


def beyond_float32() -> tuple[Array, Array]:
    """Return int8 arrays (a, b), [1025] each, whose exact dot product is no float32.

    Every sum in float32 then has to miss it, in any order.
    """
    a = np.full(1025, -128, np.int8)
    a[-1] = 1
    return a, a


def _no_float32(found: Any, expected: Any) -> str:
    if not isinstance(found, tuple | list) or len(found) != 2:
        return "it is no pair of arrays: return a, b"
    for name, one in zip("ab", found, strict=True):
        if not isinstance(one, np.ndarray) or one.dtype != np.int8 or one.shape != (1025,):
            kind = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            return f"{name} is {kind}, expected int8 (1025,)"
    exact = int(found[0].astype(np.int64) @ found[1].astype(np.int64))
    held = int(np.float32(exact)) == exact
    return f"its exact product {exact:,} is a float32" if held else ""


def _last(value: int, most: int = -128) -> tuple[Array, Array]:
    a, b = np.full(1025, most, np.int8), np.full(1025, most, np.int8)
    a[-1], b[-1] = value, 1
    return a, b


BEYOND = Exercise(
    id="nb09.beyond_float32",
    title="a witness one past the bound of float32",
    answer=beyond_float32,
    cases=st.just(()),
    judge=_no_float32,
    returns="codes",
    hints=(
        "1024 products of -128 by -128 are 2**24 exactly. What is the next integer that a float32 "
        "does not hold?",
        "2**24 + 1: let the last product be 1.",
    ),
    wrong=(
        Wrong("all_least", "1025 products of 2**14: far beyond 2**24, but float32 holds even sums",
              lambda: _last(-128)[:1] * 2),
        Wrong("all_greatest", "1025 products of 127 by 127, which stay below 2**24",
              lambda: (np.full(1025, 127, np.int8), np.full(1025, 127, np.int8))),
        Wrong("even_last", "a sum of 2**24 + 2: from there on float32 holds the even ones",
              lambda: _last(2)),
        Wrong("opposite", "codes of opposite sign, which reach less than 2**24",
              lambda: (np.full(1025, -128, np.int8), np.full(1025, 127, np.int8))),
        Wrong("zero_last", "a sum of 2**24, the last integer before the gap", lambda: _last(0)),
    ),
)  # fmt: skip
