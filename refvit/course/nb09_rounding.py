"""Exercises of notebook 09: the one rounding (Jacob et al. 2018, section 2.2)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing import strategies
from refvit.testing.extra import st

Array = NDArray[Any]


def requantized(acc: Array, multiplier: int, shift: int, lo: int, hi: int) -> Array:
    """Return acc * multiplier / 2**shift as codes, int32 [n]: rounded once, then clipped.

    acc is int32 [n], |multiplier| < 2**24, 1 <= shift <= 53. Rounded to the nearest integer, a tie
    toward plus infinity: floor(quotient + 1/2), exactly, for every accumulator of 32 bits. The
    codes are clipped to [lo, hi].
    """
    product = acc.astype(np.int64) * multiplier + (1 << (shift - 1))
    return np.asarray(np.clip(product >> shift, lo, hi), np.int32)


def _rational(acc: Array, multiplier: int, shift: int, lo: int, hi: int) -> Array:
    half = Fraction(1, 2)
    exact = [math.floor(Fraction(a * multiplier, 2**shift) + half) for a in acc.tolist()]
    return np.array([min(max(a, lo), hi) for a in exact], np.int32)


def _quotient(acc: Array, multiplier: int, shift: int) -> Array:
    return np.asarray(acc * np.float64(multiplier) / 2.0**shift)


def _clipped(codes: Any, lo: int, hi: int) -> Array:
    clipped: Array = np.clip(codes, lo, hi).astype(np.int32)
    return clipped


def _away(acc: Array, multiplier: int, shift: int, lo: int, hi: int) -> Array:
    product = acc.astype(np.int64) * multiplier
    return _clipped(np.sign(product) * ((np.abs(product) + (1 << shift - 1)) >> shift), lo, hi)


def _requantizations() -> Any:
    few = st.sampled_from([(1, 2**23, 24), (-1, 2**23, 24), (3, 2**23, 24), (-3, 2**23, 25),
                           (5, -(2**23), 24)])  # fmt: skip
    pairs = st.builds(lambda acc, pair: (acc, *pair), strategies.accumulators(),
                      strategies.dyadic_pairs())  # fmt: skip
    ends = st.sampled_from(
        [(-128, 127), (-128, 127), (0, 255), (-32768, 32767), (-(2**31), 2**31 - 1)]
    )
    more = st.lists(strategies.accumulators(), max_size=2)

    def make(first: tuple[int, int, int], more: list[int], ends: tuple[int, int]) -> Any:
        acc, multiplier, shift = first
        return np.array([acc, *more], np.int32), multiplier, shift, *ends

    return st.builds(make, few | strategies.ties() | pairs, more, ends)


def _beside(acc: int, step: int) -> Any:
    exact, multiplier, shift = strategies.beside_a_tie(acc, step)
    return np.array([exact], np.int32), multiplier, shift, -(2**31), 2**31 - 1


REQUANTIZED = Exercise(
    id="nb09.requantized",
    title="requantize: exact on every int32 edge",
    answer=requantized,
    cases=_requantizations(),
    edges=(_beside(2**31 - 1, -1), _beside(2**31 - 3, 1), _beside(-(2**31) + 1, -1)),
    truth=_rational,
    returns="codes",
    hints=(
        "The product of 32 and 24 bits has 56: np.int64 holds it, int32 and float64 do not.",
        "Half of 2**shift is 1 << (shift - 1); add it to the product, then >> shift floors.",
        "np.clip last, then .astype(np.int32).",
    ),
    wrong=(
        Wrong("floors", "a shift that floors: half a step has to be added before it",
              lambda acc, multiplier, shift, lo, hi:
              _clipped(acc.astype(np.int64) * multiplier >> shift, lo, hi)),
        Wrong("wraps", "a product taken in int32, which wraps: cast acc to int64 first",
              lambda acc, multiplier, shift, lo, hi:
              _clipped(acc * multiplier + (1 << shift - 1) >> shift, lo, hi)),
        Wrong("half_even", "ties to even, as np.rint makes them, where they go up",
              lambda acc, multiplier, shift, lo, hi:
              _clipped(np.rint(_quotient(acc, multiplier, shift)), lo, hi)),
        Wrong("half_away", "ties away from zero, as C's lround makes them, where they go up",
              _away),
        Wrong("float64", "float64, whose 53 bits do not hold a product of 56",
              lambda acc, multiplier, shift, lo, hi:
              _clipped(np.floor(_quotient(acc, multiplier, shift) + 0.5), lo, hi)),
        Wrong("unclipped", "codes that were not clipped: they wrap when they are stored",
              lambda acc, multiplier, shift, lo, hi:
              requantized(acc, multiplier, shift, -(2**62), 2**62)),
        Wrong("clips_first", "a clip of the accumulator: what is clipped is the result",
              lambda acc, multiplier, shift, lo, hi:
              requantized(np.clip(acc, lo, hi), multiplier, shift, -(2**62), 2**62)),
        Wrong("two_roundings", "two roundings, as gemmlowp's: the first can make a tie",
              lambda acc, multiplier, shift, lo, hi:
              _clipped([twice(a, multiplier, shift) for a in acc.tolist()], lo, hi)),
    ),
)  # fmt: skip


def rounds_once(requantize: Any, acc: int, multiplier: int, shift: int) -> bool:
    """Return whether requantize(acc, multiplier, shift), a whole number, is a nearest one to
    acc * multiplier / 2**shift, exactly.

    This is a property: true of whatever rounds once to the nearest, whichever way ties go; false of
    a faulty function for some arguments, which are Python integers of up to 56 bits.
    """
    error = requantize(acc, multiplier, shift) * 2**shift - acc * multiplier
    return bool(2 * abs(error) <= 2**shift)


def _shifted(x: int, shift: int) -> int:
    return (x + (1 << shift >> 1)) >> shift


def once(acc: int, multiplier: int, shift: int) -> int:
    """Return the quotient rounded once, ties up."""
    return _shifted(acc * multiplier, shift)


def half_even(acc: int, multiplier: int, shift: int) -> int:
    """Return the quotient rounded once, ties to even."""
    return round(Fraction(acc * multiplier, 2**shift))


def twice(acc: int, multiplier: int, shift: int) -> int:
    """Return the quotient rounded at half the shift and again at its end."""
    return _shifted(_shifted(acc * multiplier, shift // 2), shift - shift // 2)


def _ahead(acc: int, multiplier: int, shift: int) -> int:
    return _shifted(acc * _shifted(multiplier, min(9, shift - 1)), shift - min(9, shift - 1))


ROUNDS = Exercise(
    id="nb09.rounds_once",
    title="a property: it rounds once",
    answer=rounds_once,
    cases=strategies.ties() | st.builds(
        lambda acc, pair: (acc, *pair), strategies.accumulators(), strategies.dyadic_pairs()
    ),
    edges=(
        (once, *strategies.beside_a_tie(2**31 - 1, -1)),
        (once, *strategies.beside_a_tie(2**30 + 1, 1)),
    ),
    returns="property",
    hints=(
        "Nearest means: off by at most half a step. Do not ask which of the two a tie goes to.",
        "A float64 cannot see one part in 2**55. Multiply by 2**shift instead of dividing by it: "
        "then all numbers are Python integers, which are exact.",
    ),
    tried=Tried(
        right=(once, half_even),
        faulty=(
            Wrong("two_roundings", "a rounding at half the shift and another at its end", twice),
            Wrong("floors", "a shift without the half",
                  lambda acc, multiplier, shift: acc * multiplier >> shift),
            Wrong("in_float64", "a quotient taken in float64",
                  lambda acc, multiplier, shift:
                  math.floor(acc * multiplier / 2**shift + 0.5)),
            Wrong("rounds_ahead", "a multiplier that is rounded to 15 bits before the product",
                  _ahead),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything",
              lambda requantize, acc, multiplier, shift: True),
        Wrong("within_one", "an error of up to a whole step, which two roundings and floors keep",
              lambda requantize, acc, multiplier, shift: bool(
                  abs(requantize(acc, multiplier, shift) * 2**shift - acc * multiplier)
                  < 2**shift)),
        Wrong("strictly", "an error below half a step, which no answer to a tie has",
              lambda requantize, acc, multiplier, shift: bool(
                  2 * abs(requantize(acc, multiplier, shift) * 2**shift - acc * multiplier)
                  < 2**shift)),
        Wrong("ties_up", "a rule for ties: half to even is a single rounding, too",
              lambda requantize, acc, multiplier, shift:
              requantize(acc, multiplier, shift) == once(acc, multiplier, shift)),
        Wrong("rounded_quotient", "equality with one rounding of a float64, which sees a tie where "
              "there is none, and knows one rule for ties",
              lambda requantize, acc, multiplier, shift:
              bool(requantize(acc, multiplier, shift) == round(acc * multiplier / 2**shift))),
        Wrong("by_division", "a quotient in float64, which sees a tie where there is none",
              lambda requantize, acc, multiplier, shift: bool(
                  abs(requantize(acc, multiplier, shift) - acc * multiplier / 2**shift) <= 0.5)),
        Wrong("one_sided", "an error with its sign, so that any answer too low will do",
              lambda requantize, acc, multiplier, shift: bool(
                  2 * (requantize(acc, multiplier, shift) * 2**shift - acc * multiplier)
                  <= 2**shift)),
    ),
)  # fmt: skip
