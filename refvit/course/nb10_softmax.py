"""Exercises of notebook 10: a softmax in integers, and the order that it keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.ops import functional as F
from refvit.testing import reference, strategies
from refvit.testing.extra import st

Array = NDArray[Any]


def keeps_order(softmax: Any, q: Array) -> bool:
    """Return whether softmax(q), codes [N] of probabilities, keeps the order of the scores.

    q is int8 [N]. A greater score must not have a smaller code, and equal scores have equal codes;
    rounding may give different scores one code. This is a property: true of every softmax on codes,
    and false of a faulty one for some q.
    """
    p = np.asarray(softmax(q)).astype(np.int64)
    return bool(np.all((p[:, None] >= p)[q[:, None] >= q]))


def rounded(q: Array) -> Array:
    """Return the exact softmax at scale 1/2, rounded to 255ths."""
    return np.asarray(np.rint(255 * F.softmax(q / 2)).astype(np.int64))


def kernel(q: Array) -> Array:
    """Return the codes of refvit's kernel."""
    return np.asarray(reference.softmax(0.5)(q))


def _signed(q: Array) -> Array:
    return np.asarray(rounded(q), np.int8)


def _logarithms(q: Array) -> Array:
    return np.asarray(np.rint(-np.log2(np.maximum(F.softmax(q / 2), 2.0**-15))).astype(np.int64))


def _ranks(q: Array) -> Array:
    return np.asarray(np.argsort(np.argsort(q, kind="stable"), kind="stable"))


def _short(q: Array) -> Array:
    return np.asarray(kernel(np.clip(q.max() - q, -128, 127)))  # int8 wraps, and the sign is wrong


def _by_place(q: Array) -> Array:
    return np.asarray(rounded(q) + (np.arange(len(q)) == 0) * (rounded(q) > 0))


def _middle(q: Array) -> Array:
    p, inner = rounded(q), (q > q.min()) & (q < q.max())
    scores, first = np.unique(q[inner], return_index=True)
    turned = dict(zip(scores, p[inner][first][::-1], strict=True))  # equal scores stay equal
    p[inner] = [turned[score] for score in q[inner]]
    return p


def _apart(q: Array) -> Array:
    p = rounded(q)
    if len(q) > 1 and q[-1] < q[-2]:
        p[-1] = min(p[-1] + 1, p[-2])
    return p


def _pairs(softmax: Any, q: Array, scores: Array, codes: Any) -> bool:
    p = np.asarray(softmax(q)).astype(np.int64)
    return bool(np.all(codes(p[:, None], p)[scores]))


def _few_scores() -> Any:
    near = st.lists(st.integers(-4, 4), min_size=4, max_size=6)
    some = st.lists(strategies.codes() | st.integers(-3, 3), min_size=1, max_size=5)
    return (some | near | near).map(lambda values: np.array(values, np.int8))


ORDER = Exercise(
    id="nb10.keeps_order",
    title="a property: softmax keeps the order of scores",
    answer=keeps_order,
    cases=st.tuples(_few_scores()),
    returns="property",
    hints=(
        "Compare all pairs: q[:, None] >= q is [N, N], true where one score is at least another.",
        "Wherever that is true, p[:, None] >= p has to be true as well. Equal scores count in both "
        "directions, so their codes come out equal.",
        "Codes may be unsigned: cast them before you subtract.",
    ),
    tried=Tried(
        right=(kernel, rounded),
        faulty=(
            Wrong("signed", "codes stored in int8, where 128 and more are negative", _signed),
            Wrong("logarithms", "codes of -log2 p, which fall as p rises", _logarithms),
            Wrong("ranks", "ranks, which tell equal scores apart", _ranks),
            Wrong("first_favoured", "one code more for the first token", _by_place),
            Wrong("middle", "the order of the middle scores turned round", _middle),
            Wrong("apart", "a code more for the last token, if the one before it has more", _apart),
            Wrong("distances", "differences taken in int8, and of the wrong sign", _short),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda softmax, q: True),
        Wrong("strict", "different codes for different scores, which rounding does not promise",
              lambda softmax, q: _pairs(softmax, q, q[:, None] > q, np.greater)),
        Wrong("greatest_only", "a look at the greatest score only",
              lambda softmax, q: bool(
                  np.asarray(softmax(q))[q.argmax()] == np.max(softmax(q)))),
        Wrong("equals_forgotten", "no word about equal scores, whose codes must be equal",
              lambda softmax, q: _pairs(softmax, q, q[:, None] > q, np.greater_equal)),
        Wrong("argsorts", "equal argsorts: among equal codes an argsort's order means nothing",
              lambda softmax, q: bool(np.array_equal(np.argsort(softmax(q)), np.argsort(q)))),
        Wrong("equals_only", "equal scores only; the order of others counts, too",
              lambda softmax, q: _pairs(softmax, q, q[:, None] == q, np.equal)),
        Wrong("as_they_come", "codes that rise along the row, as if the scores were sorted",
              lambda softmax, q: bool(np.all(np.diff(np.asarray(softmax(q)).astype(int)) >= 0))),
    ),
)  # fmt: skip


def integer_softmax(q: Array) -> Array:
    """Return codes [N], integers, of softmax(0.5 * q) in steps of 1 / 255, for int8 q [N].

    1 <= N <= 64. Each code is within 0.6 of 255 times the exact probability. A table may be filled
    in floats beforehand; from the codes on use integers only, none beyond int32. That rule is yours
    to keep: the check sees codes only.
    """
    table = np.rint(2**16 * np.exp(-0.5 * np.arange(256))).astype(np.int32)
    e = table[q.max().astype(np.int32) - q]
    total = e.sum(dtype=np.int32)
    return np.asarray((510 * e + total) // (2 * total))


def _near(found: Any, expected: Any, q: Array) -> str:
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu":
        kind = found.dtype if isinstance(found, np.ndarray) else type(found).__name__
        return f"it is {kind}, expected an array of integers"
    if found.shape != q.shape:
        return f"its shape is {found.shape}, expected {q.shape}"
    wrong = np.flatnonzero(np.abs(found.astype(np.int64) - expected) > 0.6)
    if not len(wrong):
        return ""
    return f"at [{wrong[0]}] it is {found[wrong[0]]}, exact is {expected[wrong[0]]:.2f}"


def _softmax(q: Array, rate: float = 0.5, steps: int = 255, half: bool = True) -> Array:
    distance = int(q.max()) - q.astype(np.int64)
    e = np.rint(2**16 * np.exp(-rate * distance)).astype(np.int64)
    return np.asarray((steps * e + half * (e.sum() // 2)) // e.sum())


def _in_int8(q: Array) -> Array:
    table = np.rint(2**16 * np.exp(-0.5 * np.arange(256))).astype(np.int64)
    with np.errstate(over="ignore"):
        e = table[q.max() - q]
    return np.asarray((255 * e + e.sum() // 2) // e.sum())


def _exp_in_int8(q: Array) -> Array:
    with np.errstate(over="ignore"):
        e = np.exp(0.5 * (q - q.max()))
    return np.asarray(np.rint(255 * e / e.sum()), np.int64)


def _unshifted(q: Array) -> Array:
    e = np.exp(0.5 * q.astype(np.float64))
    e = (2**16 * e).astype(np.int64).astype(np.int32).astype(np.int64)
    return np.asarray(255 * e // max(int(e.sum()), 1))


SOFTMAX = Exercise(
    id="nb10.integer_softmax",
    title="a softmax in integers",
    answer=integer_softmax,
    cases=st.tuples(st.lists(strategies.codes() | st.integers(-8, 8), min_size=1, max_size=6).map(
        lambda values: np.array(values, np.int8))),
    edges=((np.zeros(64, np.int8),), (np.array([-128, 127], np.int8),)),
    truth=lambda q: 255 * F.softmax(q / 2),
    judge=_near,
    returns="codes",
    hints=(
        "The distance to the row's maximum is 0 to 255: a table of 256 exponentials, with 16 "
        "fraction bits, holds all there are.",
        "The difference of two int8 may be 255: cast before you subtract.",
        "255 e / total, rounded: (510 * e + total) // (2 * total).",
    ),
    wrong=(
        Wrong("floors", "a quotient that is floored: add half of the divisor first",
              lambda q: _softmax(q, half=False)),
        Wrong("no_scale", "an exponential of the codes themselves: their scale is 1/2",
              lambda q: _softmax(q, 1.0)),
        Wrong("base_two", "powers of two, where e has log2(e) = 1.44 octaves",
              lambda q: _softmax(q, 0.5 * math.log(2))),
        Wrong("index_wraps", "a table read at a difference in int8", _in_int8,
              equivalent="it wraps to a negative index, and Python counts that from the end of a "
              "table of 256: the right distance, by luck of its length"),
        Wrong("exp_wraps", "a difference taken in int8, which wraps beyond 127: cast first",
              _exp_in_int8),
        Wrong("in_floats", "a softmax in floats", lambda q: np.rint(
              255 * F.softmax(q / 2)).astype(np.int64),
              equivalent="the codes are right; by what way they came is not seen from outside"),
        Wrong("no_maximum", "exponentials of the scores, which leave int32 or vanish: take "
              "those of the distance to the greatest", _unshifted),
        Wrong("steps_of_256", "steps of 1 / 256, where the greatest of eight bits is 255",
              lambda q: _softmax(q, steps=256)),
    ),
)  # fmt: skip
