"""The exercises of notebook 02 whose answer is a property: laws that every linear quantizer keeps.

A property is tried on functions that keep the law and on faulty ones. It has to be strong enough to
refuse all of the second kind, and no stronger than the first allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def steps(x: Array, bits: int, full: bool = False) -> Array:
    """Return x in steps of the restricted symmetric grid, or of the full range; not rounded."""
    top = 2 ** (bits - 1) - (not full)
    ratio: Array = x / (np.abs(x).max() / top or 1.0)
    return ratio


def nearest(x: Array, bits: int) -> Array:
    """Return codes as the package gives them."""
    return quant.quantize(x, quant.symmetric(np.abs(x).max(), bits)).astype(np.int64)


def full_range(x: Array, bits: int) -> Array:
    """Return codes from -2**(bits - 1) on: right as well, on another scale."""
    low = 2 ** (bits - 1)
    return np.clip(np.rint(steps(x, bits, True)), -low, low - 1).astype(np.int64)


def truncating(x: Array, bits: int) -> Array:
    """Return codes rounded towards 0, which some laws allow."""
    return steps(x, bits).astype(np.int64)


def zero_is_exact(quantize: Any, x: Array, bits: int) -> bool:
    """Return whether quantize(x, bits), which returns codes [n], gives every 0.0 of x the code 0;
    an x without any 0.0 keeps the law.

    This is a property: true of every symmetric quantizer, and false of a faulty one for some x.
    """
    codes = quantize(x, bits)
    return bool(np.all(codes[x == 0] == 0))


def cancelling(x: Array, bits: int) -> Array:
    """Return codes that are 1 and -1 for each two zeros of x: faulty, though the sum is right."""
    codes, zeros = nearest(x, bits), np.flatnonzero(x == 0)
    pairs = len(zeros) // 2 * 2
    codes[zeros[0:pairs:2]], codes[zeros[1:pairs:2]] = 1, -1
    return codes


ZERO = Exercise(
    id="nb02.zero_is_exact",
    title="a property: zero has the code zero",
    answer=zero_is_exact,
    cases=st.tuples(draw.vectors(), draw.bits()),
    returns="property",
    edges=((nearest, np.array([0.0, 0.0, 1.0]), 3), (full_range, np.array([0.0, 0.5, 0.0]), 4)),
    hints=("x == 0 picks the elements that matter.", "All of their codes are 0: np.all."),
    tried=Tried(
        right=(nearest, full_range),
        faulty=(
            Wrong("mid_rise", "codes that begin half a step beside zero",
                  lambda x, bits: np.floor(steps(x, bits)).astype(np.int64) + 1),
            Wrong("shifted", "a zero point that differs from 0",
                  lambda x, bits: nearest(x - x.min(), bits)),
            Wrong("one_more", "codes one too great behind the first element",
                  lambda x, bits: nearest(x, bits) + (np.arange(len(x)) > 0)),
            Wrong("cancelling", "codes of 1 and -1 for each two zeros", cancelling),
            Wrong("downwards", "a zero that becomes -1 behind the first element",
                  lambda x, bits: nearest(x, bits) - ((x == 0) & (np.arange(len(x)) > 0))),
            Wrong("first_up", "a first zero that becomes 1 if something comes behind it",
                  lambda x, bits: nearest(x, bits)
                  + ((x == 0) & (np.arange(len(x)) == 0) & (len(x) > 1))),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda quantize, x, bits: True),
        Wrong("any", "any zero where all of them were meant",
              lambda quantize, x, bits: bool(np.any(quantize(x, bits)[x == 0] == 0))),
        Wrong("first", "a look at the first element only",
              lambda quantize, x, bits: bool(x[0] != 0 or quantize(x, bits)[0] == 0)),
        Wrong("positive", "a code that is not above 0, where it has to be 0",
              lambda quantize, x, bits: bool(np.all(quantize(x, bits)[x == 0] <= 0))),
        Wrong("sum", "a sum of codes, in which 1 and -1 cancel",
              lambda quantize, x, bits: int(quantize(x, bits)[x == 0].sum()) == 0),
        Wrong("of_zeros", "an x of zeros alone, where x as it is given was meant",
              lambda quantize, x, bits: bool(np.all(quantize(np.zeros_like(x), bits) == 0))),
        Wrong("converse", "the converse: every code 0 came from 0.0, which small values break",
              lambda quantize, x, bits: bool(np.all(x[quantize(x, bits) == 0] == 0))),
        Wrong("everywhere", "codes that are all 0, also those of x other than 0",
              lambda quantize, x, bits: bool(np.all(quantize(x, bits) == 0))),
    ),
)  # fmt: skip


def grid_is_monotone(quantize: Any, x: Array, bits: int) -> bool:
    """Return whether quantize(x, bits), which returns codes [n], never gives the larger of two
    elements of x the smaller code. x is in any order.

    This is a property: true of every linear quantizer, and false of a faulty one for some x.
    """
    codes = quantize(x, bits)
    return bool(np.all(np.diff(codes[np.argsort(x)]) >= 0))


def inner_swapped(x: Array, bits: int) -> Array:
    """Return codes of which two of the middle, in order of x, have changed places."""
    codes, order = nearest(x, bits), np.argsort(x)
    inner = order[(x[order] > x.min()) & (x[order] < x.max())][:2]
    codes[inner] = codes[inner[::-1]]
    return codes


MONOTONE = Exercise(
    id="nb02.grid_is_monotone",
    title="a property: order is kept",
    answer=grid_is_monotone,
    cases=st.tuples(draw.vectors(), draw.bits()),
    returns="property",
    hints=(
        "codes[np.argsort(x)] are the codes in the order of x, from the smallest up.",
        "np.diff gives the differences of neighbours. Two values may share a code.",
    ),
    tried=Tried(
        right=(nearest, full_range, truncating),
        faulty=(
            Wrong("magnitudes", "codes without their sign",
                  lambda x, bits: np.abs(nearest(x, bits))),
            Wrong("reversed", "codes in the opposite order", lambda x, bits: -nearest(x, bits)),
            Wrong("wraps", "a greatest code that wraps round to the least",
                  lambda x, bits: np.where(steps(x, bits) == 2 ** (bits - 1) - 1,
                                           -(2 ** (bits - 1)), nearest(x, bits))),
            Wrong("folds", "codes of the outer half that are folded back towards 0",
                  lambda x, bits: np.where(2 * np.abs(nearest(x, bits)) >= 2 ** (bits - 1) - 1, 0,
                                           nearest(x, bits))),
            Wrong("swaps", "codes of the middle that are turned round",
                  lambda x, bits: nearest(x, bits) * np.where(np.abs(steps(x, bits)) < 1, -2, 2)),
            Wrong("inner_swapped", "two codes of the middle that have changed places",
                  inner_swapped),
            Wrong("third_turned", "the wrong sign in the third element",
                  lambda x, bits: nearest(x, bits) * np.where(np.arange(len(x)) == 2, -1, 1)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda quantize, x, bits: True),
        Wrong("strict", "codes that have to grow, where two near values share one",
              lambda quantize, x, bits: bool(np.all(
                  np.diff(quantize(x, bits)[np.argsort(x)]) > 0))),
        Wrong("as_given", "a comparison of neighbours in the order given, which is any",
              lambda quantize, x, bits: bool(np.all(np.diff(quantize(x, bits)) >= 0))),
        Wrong("ends", "a look at the least and greatest x only",
              lambda quantize, x, bits: bool(quantize(x, bits)[x.argmax()]
                                             >= quantize(x, bits)[x.argmin()])),
        Wrong("sizes", "the order of magnitudes, which codes without a sign keep",
              lambda quantize, x, bits: bool(np.all(
                  np.diff(np.abs(quantize(x, bits))[np.argsort(np.abs(x))]) >= 0))),
        Wrong("first_two", "a look at the first two elements only",
              lambda quantize, x, bits: bool(np.all(
                  np.diff(quantize(x, bits)[:2][np.argsort(x[:2])]) >= 0))),
    ),
)  # fmt: skip


def grid_is_idempotent(round_to: Any, x: Array, scale: float) -> bool:
    """Return whether round_to(x, scale), which returns x [n] rounded to a grid as reals [n], leaves
    what it has rounded exactly as it is.

    This is a property: true of rounding to any grid, and false of a faulty one for some x.
    """
    once = round_to(x, scale)
    return bool(np.all(round_to(once, scale) == once))


def multiples(x: Array, scale: float) -> Array:
    """Return x rounded to the multiples of scale."""
    return np.rint(x / scale) * scale


def midpoints(x: Array, scale: float) -> Array:
    """Return x rounded to the middle between two multiples of scale: a grid without 0."""
    return (np.floor(x / scale) + 0.5) * scale


IDEMPOTENT = Exercise(
    id="nb02.grid_is_idempotent",
    title="a property: rounding twice is rounding once",
    answer=grid_is_idempotent,
    cases=st.tuples(draw.vectors(), draw.scales()),
    returns="property",
    hints=("Round x once and keep that; then round what you kept.", "Compare them exactly: ==."),
    tried=Tried(
        right=(multiples, midpoints),
        faulty=(
            Wrong("creeps", "a step upwards every time",
                  lambda x, scale: (np.floor(x / scale) + 1) * scale),
            Wrong("codes", "codes in place of reals", lambda x, scale: np.rint(x / scale)),
            Wrong("halfway", "a step half of the way to the grid",
                  lambda x, scale: (x + np.rint(x / scale) * scale) / 2),
            Wrong("second_creeps", "a step upwards in the second element",
                  lambda x, scale: np.rint(x / scale) * scale
                  + scale * (np.arange(len(x)) == 1)),
            Wrong("drifts", "a step that misses the grid by a billionth of its way",
                  lambda x, scale: x + (multiples(x, scale) - x) * (1 - 1e-9)),
            Wrong("swells", "a value twice as large every time",
                  lambda x, scale: 2 * np.rint(x / scale) * scale),
            Wrong("reverses", "values in the reverse order",
                  lambda x, scale: multiples(x, scale)[::-1]),
            Wrong("turns", "values with the other sign", lambda x, scale: -multiples(x, scale)),
            Wrong("first_creeps", "a step upwards in the first of several elements",
                  lambda x, scale: multiples(x, scale)
                  + scale * (np.arange(len(x)) == 0) * (len(x) > 1)),
            Wrong("sinks_below_zero", "a step downwards where x is below 0",
                  lambda x, scale: multiples(x, scale) - scale * (x < 0)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda round_to, x, scale: True),
        Wrong("unchanged", "x that is on the grid already, where only rounded x has to be",
              lambda round_to, x, scale: bool(np.all(round_to(x, scale) == x))),
        Wrong("within_a_step", "a second result within a step of the first, where it is the same",
              lambda round_to, x, scale: bool(np.all(
                  np.abs(round_to(round_to(x, scale), scale) - round_to(x, scale)) <= scale))),
        Wrong("first", "a look at the first element only",
              lambda round_to, x, scale: bool(
                  round_to(round_to(x, scale), scale)[0] == round_to(x, scale)[0])),
        Wrong("nearly", "results that are close, as np.allclose accepts, where they are the same",
              lambda round_to, x, scale: bool(
                  np.allclose(round_to(round_to(x, scale), scale), round_to(x, scale)))),
        Wrong("on_codes", "a second rounding of x / scale, which is no longer a value",
              lambda round_to, x, scale: bool(np.all(
                  round_to(round_to(x, scale) / scale, scale) == round_to(x, scale)))),
        Wrong("sums", "a comparison of sums, which values in other places have too",
              lambda round_to, x, scale: bool(
                  round_to(round_to(x, scale), scale).sum() == round_to(x, scale).sum())),
    ),
)  # fmt: skip
