"""Exercises of notebook 05: scales that move from a channel into the weight that reads it.

Xiao et al. 2023 (SmoothQuant), equation 4; Li et al. 2023 (RepQ-ViT), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def smoothing_scale(x_reach: Array, w_reach: Array, alpha: float) -> Array:
    """Return the scale [C] by which every channel of an activation is divided, float64.

    SmoothQuant, equation 4: s = x_reach**alpha / w_reach**(1 - alpha), with x_reach [C] >= 0 the
    max|x| of a channel, w_reach [C] > 0 the max|w| of the column that reads it, 0 <= alpha <= 1.
    A channel that is always 0 keeps s = 1.
    """
    scale = x_reach**alpha / w_reach ** (1 - alpha)
    return np.where(x_reach > 0, scale, 1.0)


def _living(x_reach: Array, scale: Array) -> Array:
    return np.where(x_reach > 0, scale, 1.0)


POSITIVE = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 16.0])

SMOOTHING = Exercise(
    id="nb05.smoothing_scale",
    title="how much of an outlier goes into the weight",
    answer=smoothing_scale,
    cases=st.integers(1, 3).flatmap(
        lambda c: st.tuples(
            draw.vectors(c, c, POSITIVE | st.just(0.0)), draw.vectors(c, c, POSITIVE),
            st.sampled_from([0.5, 0.0, 1.0, 0.75, 0.25]),
        )
    ),
    returns="scale",
    judge=closely(1e-9),
    hints=(
        "The formula as it stands, ** by elements; then mend the channels with x_reach == 0.",
        "np.where(x_reach > 0, scale, 1.0)",
    ),
    wrong=(
        Wrong("swapped", "alpha on the weight and 1 - alpha on the activation",
              lambda x, w, alpha: _living(x, x ** (1 - alpha) / w**alpha)),
        Wrong("times", "a product where a quotient was meant: large weights take less, not more",
              lambda x, w, alpha: _living(x, x**alpha * w ** (1 - alpha))),
        Wrong("dead", "a channel of zeros divided by 0 or by what its weight says",
              lambda x, w, alpha: x**alpha / w ** (1 - alpha)),
        Wrong("alpha_only", "1 - alpha left out",
              lambda x, w, alpha: _living(x, x**alpha / w)),
        Wrong("inverse", "the inverse: what channels are multiplied by",
              lambda x, w, alpha: _living(x, w ** (1 - alpha) / np.where(x > 0, x, 1.0) ** alpha)),
        Wrong("always_half", "a square root whatever alpha is",
              lambda x, w, alpha: _living(x, np.sqrt(x / w))),
    ),
)  # fmt: skip


def folds_invisibly(fold: Any, x: Array, weight: Array, scale: Array) -> bool:
    """Return whether fold(x, weight, scale) leaves a product unchanged.

    fold takes x [N, C], weight [out, C] and scale [C], powers of two, and returns a new (x, weight)
    of the same shapes. Their product x @ weight.T shall equal the old one, element by element; all
    numbers are small, so that it is exact. This is a property, of every fold that is right.
    """
    new_x, new_weight = fold(x, weight, scale)
    return bool(np.array_equal(new_x @ new_weight.T, x @ weight.T))


def into_weight(x: Array, weight: Array, scale: Array) -> tuple[Array, Array]:
    """Divide channels, multiply columns."""
    return x / scale, weight * scale


def into_activation(x: Array, weight: Array, scale: Array) -> tuple[Array, Array]:
    """The other way round, which is as invisible."""
    return x * scale, weight / scale


def _matrices(draw_: Any) -> Any:
    c, numbers = draw_(st.integers(1, 3)), st.integers(-3, 3).map(float)
    x, w = (draw_(draw.matrices((1, 3), (c, c), numbers)) for _ in range(2))
    return x, w, draw_(draw.vectors(c, c, st.sampled_from([1.0, 2.0, 4.0, 0.5])))


def _folded(check: Callable[[Array, Array, Array, Array], Any]) -> Callable[..., bool]:
    """A property that looks at old x, new x, old product, new product."""

    def holds(fold: Any, x: Array, weight: Array, scale: Array) -> bool:
        new_x, new_weight = fold(x, weight, scale)
        return bool(check(x, new_x, x @ weight.T, new_x @ new_weight.T))

    return holds


FOLDS = Exercise(
    id="nb05.folds_invisibly",
    title="a property: a fold does not change the product",
    answer=folds_invisibly,
    cases=st.composite(_matrices)(),
    returns="property",
    hints=(
        "Two products to compare: of what goes in, and of what comes out.",
        "x @ weight.T before, new_x @ new_weight.T after, np.array_equal.",
    ),
    tried=Tried(
        right=(into_weight, into_activation),
        faulty=(
            Wrong("forgets_weight", "a weight that is left as it was",
                  lambda x, w, s: (x / s, w)),
            Wrong("twice", "both divided", lambda x, w, s: (x / s, w / s)),
            Wrong("mean_scale", "a weight multiplied by the mean scale",
                  lambda x, w, s: (x / s, w * s.mean())),
            Wrong("tokens_reversed", "tokens in the reverse order",
                  lambda x, w, s: ((x / s)[::-1], w * s)),
            Wrong("reversed", "outputs in the reverse order",
                  lambda x, w, s: (x / s, (w * s)[::-1])),
            Wrong("first_row", "a right first row of the weight and the others left as they were",
                  lambda x, w, s: (x / s, np.where(np.arange(len(w))[:, None] == 0, w * s, w))),
            Wrong("last_row", "a right last row of the weight and the others left as they were",
                  lambda x, w, s: (x / s,
                                   np.where(np.arange(1 - len(w), 1)[:, None] == 0, w * s, w))),
            Wrong("turns", "a product of the other sign", lambda x, w, s: (-x / s, w * s)),
            Wrong("inner_token", "a token twice as large, if one is before it and one behind",
                  lambda x, w, s: (x / s * np.where(
                      np.isin(np.arange(len(x)), (0, len(x) - 1)), 1.0, 2.0)[:, None], w * s)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything",
              lambda fold, x, weight, scale: True),
        Wrong("any", "any element where all of them were meant",
              _folded(lambda x, new_x, old, new: np.any(old == new))),
        Wrong("first", "a look at the first output only",
              _folded(lambda x, new_x, old, new: np.array_equal(old[:, 0], new[:, 0]))),
        Wrong("over_tokens", "a comparison of sums over tokens: equal rows may be in other places",
              _folded(lambda x, new_x, old, new: np.array_equal(old.sum(0), new.sum(0)))),
        Wrong("same_x", "an x that must not change, though changing it is the purpose",
              _folded(lambda x, new_x, old, new: np.array_equal(x, new_x))),
        Wrong("smaller", "an x that must not grow, which is no part of the property",
              _folded(lambda x, new_x, old, new: np.array_equal(old, new)
                      and np.abs(new_x).max() <= np.abs(x).max())),
        Wrong("one_way", "x / scale and weight * scale: the other way round is a fold as well",
              lambda fold, x, weight, scale: bool(
                  np.array_equal(fold(x, weight, scale)[0], x / scale)
                  and np.array_equal(fold(x, weight, scale)[1], weight * scale))),
        Wrong("magnitudes", "a comparison of products without their sign",
              _folded(lambda x, new_x, old, new: np.array_equal(np.abs(old), np.abs(new)))),
    ),
)  # fmt: skip
