"""Exercises of notebook 07 that need no tape: slopes by differences, weights that do not settle.

Weights at the border of two codes go to and fro (Nagel, Fournarakis, Bondarenko and Blankevoort
2022, section 3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import REAL, equal
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
Sloped = Callable[[Array], tuple[Array, Array]]


def is_the_slope(fn: Any, x: Array) -> bool:
    """Return whether the derivative that fn gives is the slope of its values at every x [n].

    fn(x) returns (y, dy), both float64 [n]: y_i depends on x_i alone, and dy_i is meant to be its
    derivative. Compare dy with central differences, (y(x + h) - y(x - h)) / (2 h), for a small h of
    yours, and let them differ by at most 1e-4. No x_i is nearer than 1/8 to a kink or a jump.

    This is a property: true of every function that knows its slope, and false of a faulty one for
    some x.
    """
    h = 1e-4
    differences = (fn(x + h)[0] - fn(x - h)[0]) / (2 * h)
    return bool(np.all(np.abs(fn(x)[1] - differences) <= 1e-4))


def swish(x: Array) -> tuple[Array, Array]:
    """Return x times the logistic function, and its slope."""
    s = 1 / (1 + np.exp(-x))
    return x * s, s + x * s * (1 - s)


def clipped(x: Array) -> tuple[Array, Array]:
    """Return x clipped to -1 .. 1, and its slope."""
    return np.clip(x, -1, 1), (np.abs(x) < 1) * 1.0


def staircase(x: Array) -> tuple[Array, Array]:
    """Return x rounded, whose slope is 0."""
    return np.rint(x), 0 * x


def square(x: Array) -> tuple[Array, Array]:
    """Return the square, and its slope."""
    return x * x, 2 * x


def faint(x: Array) -> tuple[Array, Array]:
    """Return x over 2**20, and its slope."""
    return x / 2**20, np.full_like(x, 2.0**-20)


def with_slope(fn: Sloped, slope: Callable[[Array], Array]) -> Sloped:
    """Return a function of the same values that claims another slope."""
    return lambda x: (fn(x)[0], slope(x))


def compared(
    h: float = 1e-4,
    room: float = 1e-4,
    part: Callable[[Array], Array] = lambda d: d,
) -> Callable[[Sloped, Array], bool]:
    """Return a property with another h, another room, or that looks at a part of both slopes."""

    def answer(fn: Sloped, x: Array) -> bool:
        differences = (fn(x + h)[0] - fn(x - h)[0]) / (2 * h)
        return bool(np.all(np.abs(part(fn(x)[1]) - part(differences)) <= room))

    return answer


def _over_h(fn: Sloped, x: Array) -> bool:
    differences = (fn(x + 1e-4)[0] - fn(x - 1e-4)[0]) / 1e-4
    return bool(np.all(np.abs(fn(x)[1] - differences) <= 1e-4))


def _places() -> st.SearchStrategy[Array]:
    """Draw odd eighths: no multiple of 1/2 is nearer than 1/8."""
    return draw.vectors(1, 4, st.integers(-12, 11).map(lambda k: (2 * k + 1) / 8))


SLOPE = Exercise(
    id="nb07.is_the_slope",
    title="a property: backward equals finite differences",
    answer=is_the_slope,
    cases=st.tuples(_places()),
    returns="property",
    hints=(
        "h has to be so small that x - h and x + h are on the same piece, and so large that the "
        "difference of two values keeps its digits: about 1e-4.",
        "Every element counts: np.all(np.abs(dy - differences) <= 1e-4).",
    ),
    tried=Tried(
        right=(swish, clipped, staircase, square, faint),
        faulty=(
            Wrong("straight_through", "the values of a staircase and the gradient of the identity",
                  with_slope(staircase, np.ones_like)),
            Wrong("leaky", "a gradient that goes on where values are clipped",
                  with_slope(clipped, np.ones_like)),
            Wrong("forgotten_term", "a product rule that lacks a term",
                  with_slope(swish, lambda x: 1 / (1 + np.exp(-x)))),
            Wrong("a_percent", "a slope that is 1 percent too steep",
                  with_slope(square, lambda x: 2.02 * x)),
            Wrong("a_hair", "a slope that is 0.0002 too great",
                  with_slope(square, lambda x: 2 * x + 2e-4)),
            Wrong("negative", "a slope of the wrong sign", with_slope(square, lambda x: -2 * x)),
            Wrong("behind_first", "a slope one too great behind the first element",
                  with_slope(square, lambda x: 2 * x + (np.arange(len(x)) > 0))),
            Wrong("before_last", "a slope one too great before the last element",
                  with_slope(square, lambda x: 2 * x + (np.arange(len(x)) < len(x) - 1))),
            Wrong("balanced", "errors that cancel in the sum over x",
                  with_slope(square, lambda x: 2 * x + np.arange(len(x)) - (len(x) - 1) / 2)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda fn, x: True),
        Wrong("of_sums", "a comparison of sums, in which errors cancel", compared(part=np.sum)),
        Wrong("first", "a look at the first element only", compared(part=lambda d: d[:1])),
        Wrong("over_h", "a difference over h, where x - h and x + h lie 2 h apart", _over_h),
        Wrong("wide", "so much room that a percent passes", compared(room=0.1)),
        Wrong("long_h", "an h so long that it crosses kinks and jumps", compared(h=0.5)),
        Wrong("tiny_h", "an h so small that the difference of two values has no digits left",
              compared(h=1e-13)),
        Wrong("exactly", "equality to the last digit, which differences do not reach",
              compared(room=0.0)),
    ),
)  # fmt: skip


def share_above(target: float) -> float:
    """Predict how much of its time a weight that does not settle spends at the upper code.

    The weight w is learned by w = w - rate * (rint(w) - target): the gradient of half the square of
    rint(w) - target, straight through, at a small rate. It begins half way between the two codes
    beside `target`, floor(target) and floor(target) + 1. Return the share of steps, 0 to 1, in
    which rint(w) is the upper one. The check trains for 2,000 steps and asks for the share within
    0.02.
    """
    return float(target - np.floor(target))


@functools.cache
def trained(target: float) -> float:
    """Return that share of 2,000 steps at a rate of 1/64."""
    below = int(np.floor(target))
    w, above = below + 0.5, 0
    for _ in range(2000):
        code = round(w)  # ties to even, as np.rint
        above += code > below
        w -= (code - target) / 64
    return above / 2000


def _about(found: Any, expected: float, target: float) -> str:
    if isinstance(found, REAL) and not isinstance(found, bool) and abs(found - expected) <= 0.02:
        return ""
    return equal(found, expected)


SHARE = Exercise(
    id="nb07.share_above",
    title="predict where a weight that goes to and fro spends its time",
    answer=share_above,
    cases=st.tuples(st.integers(-48, 48).map(lambda k: k / 16)),
    returns="share",
    truth=trained,
    judge=_about,
    hints=(
        "If the weight moves to and fro and gets nowhere, its steps add up to 0: what is then the "
        "mean of rint(w)?",
        "The mean of a code that is floor(target) + 1 for a share p of the time, and floor(target) "
        "else, is floor(target) + p.",
    ),
    wrong=(
        Wrong("nearest", "the nearer code for good: its gradient is not 0, so the weight leaves",
              lambda t: float(t - np.floor(t) > 0.5)),
        Wrong("half", "half of the time at each code", lambda t: 0.5),
        Wrong("lower", "the share of the lower code",
              lambda t: float(1 - (t - np.floor(t)))),
        Wrong("distance", "the distance from the nearest code, which is how often it turns back",
              lambda t: float(abs(t - np.rint(t)))),
        Wrong("no_fraction", "the target itself: only its fraction lies between the codes",
              lambda t: float(t)),
        Wrong("from_zero", "a fraction counted from 0: for a target below 0, too, it is what the "
              "target is above np.floor(target)", lambda t: float(t - np.trunc(t))),
    ),
)  # fmt: skip


def turns_back(codes: Array) -> Array:
    """Return how often the code of each weight turned back, int64 [n].

    codes [T, n], int64, T at least 1, are the codes of n weights after T steps. A change turns back
    if it goes the other way than the last change of the same weight before it, however many steps
    without a change lie between. A first change turns back from nothing.
    """
    count = np.zeros(codes.shape[1], np.int64)
    last = np.zeros_like(count)
    for move in np.sign(np.diff(codes, axis=0)):
        count += move * last < 0
        last = np.where(move != 0, move, last)
    return count


def slow_turns(codes: Array) -> Array:
    """Return the same, weight by weight."""
    found = []
    for column in codes.T.tolist():
        moves = [b - a for a, b in pairwise(column) if a != b]
        found.append(sum((a > 0) != (b > 0) for a, b in pairwise(moves)))
    return np.array(found, np.int64)


def _sum(what: Array) -> Array:
    return np.asarray(what.sum(axis=0), np.int64)


TURNS = Exercise(
    id="nb07.turns_back",
    title="count the weights that turn back",
    answer=turns_back,
    cases=st.tuples(draw.matrices((1, 7), (1, 3), st.integers(-1, 1), np.int64)),
    returns="counts",
    truth=slow_turns,
    hints=(
        "np.sign(np.diff(codes, axis=0)) is how each code moved: -1, 0 or 1.",
        "Keep the last move of every weight that was not 0. A move that has the other sign turns "
        "back; a move of 0 leaves what is kept as it is.",
    ),
    wrong=(
        Wrong("changes", "a count of all changes, also of those that go on the same way",
              lambda codes: _sum(np.diff(codes, axis=0) != 0)),
        Wrong("at_once", "turns in the very next step only: a code may rest before it turns",
              lambda codes: _sum(np.diff(codes, axis=0)[1:] * np.diff(codes, axis=0)[:-1] < 0)),
        Wrong("signs", "changes of the sign of the code, not of its direction",
              lambda codes: _sum(codes[1:] * codes[:-1] < 0)),
        Wrong("first_too", "the first change counted as well",
              lambda codes: turns_back(codes) + np.any(np.diff(codes, axis=0) != 0, axis=0)),
        Wrong("at_all", "whether a weight turns back at all, where how often was asked",
              lambda codes: np.minimum(turns_back(codes), 1)),
        Wrong("along_weights", "differences between weights, where time goes down the rows",
              lambda codes: turns_back(codes.T)),
    ),
)  # fmt: skip
