"""Exercises of notebook 06 on rounding: up or down for every weight, judged by the output.

The output error of a row is a quadratic form in what rounding did to its weights (Nagel, Amjad, van
Baalen, Louizos and Blankevoort 2020, equation 13).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import equal
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
Rounding = Callable[[Array, Array], Array]


def search_codes(w: Array, moment: Array) -> Array:
    """Return codes of the weights w [n] that no single change makes better, int64 [n].

    w is in units of the step, so a code is one of the two neighbours of its weight, np.floor(w) or
    np.ceil(w). With d = codes - w the output error is d @ moment @ d, where `moment` [n, n] is the
    mean of x x^T over the inputs. Two things are asked: the error is at most that of np.rint(w),
    and moving any one code to its other neighbour does not lower it. Of several such answers any
    will do. A change of less than 1e-9 counts for nothing.
    """
    codes, both = np.rint(w), np.floor(w) + np.ceil(w)
    while True:
        d, move = codes - w, both - 2 * codes  # move: from a code to its other neighbour
        gain = 2 * move * (moment @ d) + move**2 * np.diag(moment)
        j = gain.argmin()
        if gain[j] > -1e-9:
            return codes.astype(np.int64)
        codes[j] += move[j]


def output_error(codes: Array, w: Array, moment: Array) -> float:
    """Return d @ moment @ d, d = codes - w."""
    d = np.asarray(codes, np.float64) - w
    return float(d @ moment @ d)


def exhausted(w: Array, moment: Array, reach: int = 0) -> Array:
    """Return the best of all neighbours, or `reach` more on each side; of equals the furthest."""
    sides = [range(int(np.floor(v)) - reach, int(np.ceil(v)) + reach + 1) for v in w]
    tried = [np.array(codes) for codes in itertools.product(*sides)]
    errors = [output_error(codes, w, moment) for codes in tried]
    return max(tried, key=lambda c: (-output_error(c, w, moment) + min(errors), abs(c - w).max()))


def nearest(w: Array, moment: Array) -> Array:
    """Return what rounding to the nearest gives."""
    return np.rint(w).astype(np.int64)


def _floor(w: Array, moment: Array) -> Array:
    return np.floor(w).astype(np.int64)


def _balanced(w: Array, moment: Array) -> Array:
    return search_codes(w, np.ones_like(moment))


def _moves(codes: Array, w: Array, moment: Array) -> tuple[Array, Array]:
    """Return how each code gets to its other neighbour, and what that adds to the error."""
    move = np.floor(w) + np.ceil(w) - 2 * codes
    return move, 2 * move * (moment @ (codes - w)) + move**2 * np.diag(moment)


def _one_pass(w: Array, moment: Array) -> Array:
    codes = np.rint(w)
    for j in range(len(w)):
        move, grown = _moves(codes, w, moment)
        codes[j] += move[j] * (grown[j] < 0)
    return codes.astype(np.int64)


def _at_once(w: Array, moment: Array) -> Array:
    move, grown = _moves(np.rint(w), w, moment)
    return np.asarray(np.rint(w) + move * (grown < 0)).astype(np.int64)


def _from_floor(w: Array, moment: Array) -> Array:
    codes = np.floor(w)
    while True:
        move, grown = _moves(codes, w, moment)
        if grown.min() >= 0:
            return codes.astype(np.int64)
        codes[grown.argmin()] += move[grown.argmin()]


def _settled(found: Any, expected: Any, w: Array, moment: Array) -> str:
    """Return what is wrong with codes: their form, their place, their error."""
    form = equal(found, found.astype(np.int64) if isinstance(found, np.ndarray) else expected)
    if form or found.shape != w.shape:
        return form or f"its shape is {found.shape}, expected {w.shape}"
    far = np.flatnonzero((found != np.floor(w)) & (found != np.ceil(w)))
    if len(far):
        return f"code {found[far[0]]} is no neighbour of the weight {w[far[0]]:g}"
    mine, plain = output_error(found, w, moment), output_error(np.rint(w), w, moment)
    if mine > plain:
        return f"its output error is {mine:g}, that of np.rint(w) is {plain:g}"
    for j, other in enumerate(np.floor(w) + np.ceil(w) - found):
        moved = found.copy()
        moved[j] = other
        less = output_error(moved, w, moment)
        if less < mine:
            return f"code {j} at {int(other)} would lower the error from {mine:g} to {less:g}"
    return ""


@st.composite
def _rows(pick: Callable[..., Any], most: int = 4) -> tuple[Array, Array]:
    """Draw weights in quarters of a step, and the moment of a few inputs of small integers, which
    are exact in any order of summation."""
    n = pick(st.integers(1, most))
    w = pick(draw.vectors(n, n, st.integers(-8, 8).map(lambda k: k / 4)))
    x = pick(draw.matrices((1, 3), (n, n), st.integers(-3, 3).map(float)))
    return w, x.T @ x


def _long(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 5, (6, 12)).astype(float)
    return rng.integers(-64, 64, 12) / 16, x.T @ x


SEARCH = Exercise(
    id="nb06.search_codes",
    title="a rounding search that beats the nearest",
    answer=search_codes,
    cases=_rows(),
    returns="codes",
    judge=_settled,
    edges=tuple(_long(seed) for seed in (0, 2, 40, 125)),  # of 40 and 125 three passes fail
    hints=(
        "Begin at np.rint(w). While some change of one code lowers the error, make the one that "
        "lowers it most.",
        "The other neighbour of a code is np.floor(w) + np.ceil(w) - codes; of a whole weight it "
        "is the code itself.",
        "Moving code j by m changes the error by 2 * m * (moment @ d)[j] + m**2 * moment[j, j].",
    ),
    wrong=(
        Wrong("nearest", "rounding to the nearest, without a search", nearest),
        Wrong("floor", "rounding down, which is no beginning to stop at", _floor),
        Wrong("one_pass", "one pass over the codes: a later change can make an earlier one worth "
              "while, so go on until none is", _one_pass),
        Wrong("at_once", "all changes at once that would help alone: each alters what the others "
              "are worth", _at_once),
        Wrong("balanced", "errors whose sum is brought near 0, as if all inputs were the same",
              _balanced),
        Wrong("from_floor", "a search that begins at np.floor(w): where it stops may be worse than "
              "the nearest", _from_floor),
    ),
)  # fmt: skip


def never_worse(rounds: Any, w: Array, moment: Array) -> bool:
    """Return whether rounds(w, moment), which returns codes [n], did no harm to the weights w [n].

    w is in units of the step, `moment` [n, n] the mean of x x^T. No harm means two things: every
    code is np.floor(w) or np.ceil(w), and the output error d @ moment @ d with d = codes - w is at
    most that of np.rint(w). Take differences of less than 1e-9 for none.

    This is a property: true of every search that may be used in place of the nearest, the nearest
    itself included, and false of a faulty one for some weights.
    """
    codes = rounds(w, moment)
    beside = (codes == np.floor(w)) | (codes == np.ceil(w))
    d, e = codes - w, np.rint(w) - w
    return bool(np.all(beside) and d @ moment @ d <= e @ moment @ e + 1e-9)


def _error_only(rounds: Rounding, w: Array, moment: Array, room: float = 1e-9) -> bool:
    found = output_error(rounds(w, moment), w, moment)
    return found <= output_error(np.rint(w), w, moment) + room


def _beside(rounds: Rounding, w: Array, moment: Array) -> bool:
    return bool(np.all(abs(rounds(w, moment) - w) < 1))


def _weights_own(rounds: Rounding, w: Array, moment: Array) -> bool:
    ones = np.eye(len(w))
    return output_error(rounds(w, moment), w, ones) <= output_error(np.rint(w), w, ones)


def _best(rounds: Rounding, w: Array, moment: Array) -> bool:
    least = output_error(exhausted(w, moment), w, moment)
    return output_error(rounds(w, moment), w, moment) <= least + 1e-9


def _wandering(w: Array, moment: Array) -> Array:
    return exhausted(w[:3], moment[:3, :3], 1) if len(w) <= 3 else nearest(w, moment)


def _whole_moved(w: Array, moment: Array) -> Array:
    silent = (w == np.rint(w)) & (np.diag(moment) == 0)
    return np.asarray(nearest(w, moment) + silent)


def _little_worse(w: Array, moment: Array) -> Array:
    """The nearest with one code moved, where that costs no more than 1/2."""
    codes = np.rint(w)
    move, grown = _moves(codes, w, moment)
    small = np.flatnonzero((grown > 0) & (grown <= 0.5))
    codes[small[:1]] += move[small[:1]]
    return codes.astype(np.int64)


FAULTY = (
    Wrong("floor", "codes rounded down", _floor),
    Wrong("coin", "codes rounded up and down in turn",
          lambda w, moment: (np.floor(w) + (w % 1 > 0) * (np.arange(len(w)) % 2)).astype(np.int64)),
    Wrong("balanced", "a search that brings the sum of the errors to 0, whatever the inputs",
          _balanced),
    Wrong("wandering", "a search that may leave the neighbours of a weight", _wandering),
    Wrong("little_worse", "a code moved that makes the error a little larger", _little_worse),
    Wrong("whole_moved", "codes one off for whole weights of inputs that are always 0",
          _whole_moved),
)  # fmt: skip

NEVER_WORSE = Exercise(
    id="nb06.never_worse",
    title="a property: a rounding that does no harm",
    answer=never_worse,
    cases=_rows(),
    returns="property",
    hints=(
        "Two claims, joined by `and`: one about every code (np.all), one about a single number.",
        "The error of the nearest is e @ moment @ e with e = np.rint(w) - w, and as much is fine.",
    ),
    tried=Tried(right=(nearest, search_codes, exhausted), faulty=FAULTY),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda rounds, w, moment: True),
        Wrong("codes_only", "a look at the codes only, not at the output error", _beside),
        Wrong("error_only", "a look at the error only: codes may be anywhere", _error_only),
        Wrong("strictly", "less error than the nearest, which the nearest itself does not have",
              lambda rounds, w, moment: _error_only(rounds, w, moment, -1e-9)),
        Wrong("own_error", "the error of the weights, of which the nearest always has least, where "
              "that of the output was meant", _weights_own),
        Wrong("the_best", "the least error there is, which a search need not find", _best),
    ),
)  # fmt: skip
