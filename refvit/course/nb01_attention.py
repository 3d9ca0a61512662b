"""Exercises of notebook 01 on attention: one head, and its property (Dosovitskiy et al. 2021,
appendix A)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
NEAR = closely(1e-9)


def attention_head(q: Array, k: Array, v: Array) -> Any:
    """Return softmax(q k^T / sqrt(d)) v [N, e] for queries and keys [N, d] and values [N, e].

    The softmax is over the keys, for each query by itself. All are float64, N, d and e at least 1.
    Scores may be as large as 10,000, and the result is finite still.
    """
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def _attend(q: Array, k: Array, v: Array, divisor: float, axis: int = 1) -> Array:
    scores = q @ k.T / divisor
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(weights / weights.sum(axis=axis, keepdims=True) @ v)


def slow_attention(q: Array, k: Array, v: Array) -> Array:
    """Return what `attention_head` has to, query by query."""
    found = []
    for query in q:
        scores = np.array([query @ key for key in k]) / len(query) ** 0.5
        weights = np.exp(scores - max(scores))
        found.append(sum(w * value for w, value in zip(weights, v, strict=True)) / sum(weights))
    return np.array(found)


def heads() -> st.SearchStrategy[tuple[Array, Array, Array]]:
    """Draw q, k [N, d] and v [N, e] of plain numbers, or louder ones, token by token."""

    def of(sizes: tuple[int, int]) -> st.SearchStrategy[tuple[Array, Array, Array]]:
        d, e = sizes
        token = st.lists(st.integers(-4, 4), min_size=2 * d + e, max_size=2 * d + e)
        loud = st.sampled_from([1.0, 1.0, 0.5, 3.0])
        tokens = st.lists(token, min_size=1, max_size=3)
        return st.builds(lambda x, by: _three(by * np.array(x), d), tokens, loud)

    return st.tuples(st.integers(1, 4), st.integers(1, 2)).flatmap(of)


def _three(x: Array, d: int) -> tuple[Array, Array, Array]:
    return x[:, :d], x[:, d : 2 * d], x[:, 2 * d :]


ONE, LOUD = np.array([[1.0], [0.0]]), np.array([[100.0], [-100.0]])
HEAD = Exercise(
    id="nb01.attention_head",
    title="one head of attention",
    answer=attention_head,
    truth=slow_attention,
    judge=NEAR,
    cases=heads(),
    edges=[(LOUD, LOUD, ONE), (100 * ONE, LOUD, ONE), (40 * ONE, 30 + 10 * ONE, ONE)],
    returns="result",
    hints=(
        "scores[i, j] says how well query i goes with key j: q @ k.T, divided by the root of the "
        "width of a query.",
        "Each row of scores becomes weights that sum to 1; keepdims=True keeps the sum a column.",
        "exp overflows above 709: take the row's maximum off before, which changes no weight.",
    ),
    wrong=(
        Wrong("unscaled", "scores that are not divided by sqrt(d)",
              lambda q, k, v: _attend(q, k, v, 1.0)),
        Wrong("by_d", "scores divided by d, where its square root was meant",
              lambda q, k, v: _attend(q, k, v, q.shape[1])),
        Wrong("over_queries", "a softmax over the queries: columns sum to 1, rows do not",
              lambda q, k, v: _attend(q, k, v, np.sqrt(q.shape[1]), axis=0)),
        Wrong("no_shift", "an exponential without the maximum taken off, which overflows",
              lambda q, k, v: _plain(q @ k.T / np.sqrt(q.shape[1])) @ v),
        Wrong("sum_as_row", "sums [N] that divide column by column: keepdims=True makes a column",
              lambda q, k, v: (e := _shifted(q, k)) / e.sum(1) @ v),
        Wrong("maximum_as_row", "maxima [N] taken off column by column: keepdims=True is missing",
              lambda q, k, v: _plain((s := q @ k.T / np.sqrt(q.shape[1])) - s.max(1)) @ v),
        Wrong("not_divided", "exponentials that are not divided by their sum",
              lambda q, k, v: _shifted(q, k) @ v),
        Wrong("one_sum", "one sum for all, where every row has its own",
              lambda q, k, v: (e := _shifted(q, k)) / e.sum() @ v),
    ),
)  # fmt: skip


def _shifted(q: Array, k: Array) -> Array:
    scores = q @ k.T / np.sqrt(q.shape[1])
    return np.asarray(np.exp(scores - scores.max(axis=1, keepdims=True)))


def _plain(scores: Array) -> Array:
    weights = np.exp(scores)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def permutes_along(layer: Any, x: Array, order: Array) -> bool:
    """Return whether a layer treats tokens as a set: those in another order give the same results
    in that order.

    layer(x) is [N, D] for tokens x [N, D], float64; order [N] is a permutation of 0..N-1, and
    x[order] are the tokens in that order. This is a property: true of attention without positions,
    false of a layer to which it matters who comes first. Sums of reals in another order may differ
    in their last digits, which is no reason to refuse: 1e-9 is close enough.
    """
    return bool(np.allclose(layer(x[order]), layer(x)[order], rtol=0, atol=1e-9))


def attends(x: Array) -> Array:
    """Self-attention without positions."""
    return np.asarray(attention_head(x, 0.5 * x, x))


def each_alone(x: Array) -> Array:
    """Every token by itself, as in an MLP."""
    return np.tanh(x) + x


def pooled(x: Array) -> Array:
    """Every token less the mean of all."""
    return np.asarray(x - np.exp(-np.abs(x)).mean(axis=0))


def _causal(x: Array) -> Array:
    scores = x @ x.T
    return np.asarray(_plain(np.where(np.tri(len(x)) > 0, scores - scores.max(1)[:, None], -1e9)))


def _beside(x: Array, step: int) -> Array:
    place = np.clip(np.arange(len(x)) + step, 0, len(x) - 1)
    return np.asarray(x[place])


def reordered() -> st.SearchStrategy[tuple[Array, Array]]:
    """Draw tokens [N, D] and an order of them."""
    tokens = draw.matrices((1, 4), (1, 3), draw.reals(3))
    return tokens.flatmap(
        lambda x: st.tuples(st.just(x), st.permutations(range(len(x))).map(np.array))
    )


_X, _O = np.array([[1.0], [2.0], [4.0]]), np.array([1, 2, 0])
ALONG = Exercise(
    id="nb01.permutes_along",
    title="a property: attention sees a set of tokens",
    answer=permutes_along,
    cases=reordered(),
    edges=[(attends, _X, _O), (each_alone, _X, _O), (pooled, _X, _O)],
    returns="property",
    hints=(
        "Two ways lead to the same place: reorder then apply the layer, or apply then reorder.",
        "x[order] reorders tokens, and layer(x)[order] reorders results in the same way.",
        "np.allclose(..., rtol=0, atol=1e-9) compares reals; bool(...) makes True or False of it.",
    ),
    tried=Tried(
        right=(attends, each_alone, pooled),
        faulty=(
            Wrong("with_positions", "an embedding of the place added to every token",
                  lambda x: attends(x + 0.1 * np.arange(len(x))[:, None])),
            Wrong("causal", "tokens that see only those before them",
                  lambda x: _causal(x) @ x),
            Wrong("last_changed", "something added to the last token only",
                  lambda x: attends(x) + (np.arange(len(x)) == len(x) - 1)[:, None] * 0.5),
            Wrong("sorted", "results in sorted order, whoever they belong to",
                  lambda x: np.sort(attends(x), axis=0)),
            Wrong("rolled", "every token given its neighbour's result",
                  lambda x: np.roll(each_alone(x), 1, axis=0)),
            Wrong("neighbours", "a mean with the neighbours on both sides, as in a convolution",
                  lambda x: (x + _beside(x, 1) + _beside(x, -1)) / 3),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda layer, x, order: True),
        Wrong("invariant", "invariance: the same results for any order, where they move along",
              lambda layer, x, order: bool(np.allclose(layer(x[order]), layer(x)))),
        Wrong("sums", "a comparison of sums over tokens, which do not say who has which result",
              lambda layer, x, order: bool(
                  np.allclose(layer(x[order]).sum(0), layer(x).sum(0), rtol=0, atol=1e-9))),
        Wrong("as_numbers", "a comparison of all numbers sorted, which do not say who has which",
              lambda layer, x, order: bool(np.allclose(
                  np.sort(layer(x[order]), None), np.sort(layer(x), None), rtol=0, atol=1e-9))),
        Wrong("way_back", "the results put in the inverse order",
              lambda layer, x, order: bool(
                  np.allclose(layer(x[order]), layer(x)[np.argsort(order)], rtol=0, atol=1e-9))),
        Wrong("exact", "equality to the last digit, which sums in another order do not keep",
              lambda layer, x, order: bool(np.all(layer(x[order]) == layer(x)[order]))),
        Wrong("backwards", "a look at the reverse order only, which a convolution keeps too",
              lambda layer, x, order: bool(
                  np.allclose(layer(x[::-1]), layer(x)[::-1], rtol=0, atol=1e-9))),
        Wrong("first", "a look at the first token only",
              lambda layer, x, order: bool(
                  np.allclose(layer(x[order])[0], layer(x)[order][0], rtol=0, atol=1e-9)),
              equivalent="over all orders, every token comes first in some of them"),
    ),
)  # fmt: skip
