"""The exercises of notebook 07: gradients of what has none, and grids that learn.

Straight-through (Bengio, Leonard and Courville 2013) and LSQ (Esser, McKinstry, Bablani, Appuswamy
and Modha 2020), both against the package's tape. Finite differences and weights that go to and fro
are in `nb07_more`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import Var, backward
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb07_more import SHARE, SLOPE, TURNS
from refvit.quant import LearnedGrid, QParams, code_range, straight_through
from refvit.testing.extra import st

Array = NDArray[Any]


def ste_gradient(g: Array, x: Array, scale: float, lo: int, hi: int) -> Array:
    """Return the straight-through gradient for x [n] of a loss, float64 [n].

    x was rounded to y = clip(rint(x / scale), lo, hi) * scale, with lo <= 0 < hi, and g [n] is the
    gradient for y. Rounding is taken for the identity where x is in the range of the grid, its ends
    lo * scale and hi * scale included; beyond them, where x was clipped, no gradient passes.
    """
    inside = (x >= lo * scale) & (x <= hi * scale)
    return np.asarray(g * inside)


def taped(g: Array, x: Array, scale: float, lo: int, hi: int) -> Array:
    """Return the same from the package's tape."""
    leaf: Any = Var(x)
    backward(np.sum(straight_through(leaf, _grid(scale, lo, hi)) * g))
    return np.asarray(leaf.grad)


def _grid(scale: float, lo: int, hi: int) -> QParams:
    return QParams(np.asarray(scale), int(hi - lo).bit_length(), signed=lo < 0)


def _values() -> Any:
    """Draw g and x of one length, a scale, and the ends of a range of 2 to 4 bits; x is often a
    whole or half number of steps."""
    steps = st.integers(-9, 9).map(float) | draw.reals()
    pairs = st.lists(st.tuples(st.integers(-4, 4).map(float), steps), min_size=1, max_size=5)
    ranges = st.builds(code_range, draw.bits(2, 4), st.booleans())

    def laid_out(drawn: Any) -> tuple[Any, ...]:
        columns, scale, (lo, hi) = drawn
        g, u = np.array(columns).T
        return g.copy(), u * scale, scale, lo, hi

    return st.tuples(pairs, draw.scales(), ranges).map(laid_out)


STE = Exercise(
    id="nb07.ste_gradient",
    title="the straight-through gradient",
    answer=ste_gradient,
    cases=_values(),
    returns="gradient",
    truth=taped,
    hints=(
        "A mask says for every x whether it was in range, in reals: compare x with lo * scale and "
        "hi * scale.",
        "g times the mask, a boolean array, is g where the mask is true and 0 elsewhere.",
    ),
    wrong=(
        Wrong("everywhere", "a gradient that passes everywhere: what was clipped does not move y",
              lambda g, x, s, lo, hi: g * 1.0),
        Wrong("true_derivative", "the true derivative of a staircase, 0, with which nothing learns",
              lambda g, x, s, lo, hi: g * 0.0),
        Wrong("open_ends", "a range without its ends, which belong to it",
              lambda g, x, s, lo, hi: g * ((x > lo * s) & (x < hi * s))),
        Wrong("of_codes", "a mask on the rounded code: it reaches half a step beyond the range",
              lambda g, x, s, lo, hi: g * ((np.rint(x / s) >= lo) & (np.rint(x / s) <= hi))),
        Wrong("no_scale", "x compared with codes: the ends of the range are lo * scale, hi * scale",
              lambda g, x, s, lo, hi: g * ((x >= lo) & (x <= hi))),
        Wrong("symmetric", "a range from -hi to hi, where it begins at lo",
              lambda g, x, s, lo, hi: g * (np.abs(x) <= hi * s)),
        Wrong("times_scale", "a gradient times the scale: y is a real like x, and its slope is 1",
              lambda g, x, s, lo, hi: g * s * ((x >= lo * s) & (x <= hi * s))),
        Wrong("mask_alone", "the mask alone, which g has to be multiplied by",
              lambda g, x, s, lo, hi: 1.0 * ((x >= lo * s) & (x <= hi * s))),
    ),
)  # fmt: skip


def lsq_step_gradient(g: Array, x: Array, step: float, lo: int, hi: int) -> float:
    """Return LSQ's gradient of a loss for the step of a grid, a float.

    x [n] was rounded to y = clip(rint(u), lo, hi) * step, where u = x / step and lo <= 0 < hi, and
    g [n] is the gradient for y. The slope of y_i for the step is rint(u_i) - u_i where lo < u_i <
    hi, and elsewhere the end that u_i is clipped to, lo or hi (Esser et al. 2020, equation 3).
    The n slopes are summed, weighted by g, and the sum is multiplied by the gradient scale
    1 / sqrt(n * hi) (section 2.2). np.rint breaks ties to even.
    """
    u = x / step
    slope = np.where((u > lo) & (u < hi), np.rint(u) - u, np.clip(u, lo, hi))
    return float(np.sum(g * slope) / np.sqrt(len(x) * hi))


def taped_step(g: Array, x: Array, step: float, lo: int, hi: int) -> float:
    """Return the same from the package's tape."""
    grid = _grid(step, lo, hi)
    leaf: Any = Var(grid.scale)
    backward(np.sum(LearnedGrid(grid, leaf, count=len(x)).round(x) * g))
    return float(leaf.grad)


def _slopes(inside: Any = None, outside: Any = None, share: Any = None) -> Any:
    """Return an answer with its slope inside, its slope outside, or its factor exchanged."""
    inside = inside or (lambda u: np.rint(u) - u)
    outside = outside or np.clip
    share = share or (lambda n, hi: 1 / np.sqrt(n * hi))

    def answer(g: Array, x: Array, step: float, lo: int, hi: int) -> float:
        u = x / step
        slope = np.where((u > lo) & (u < hi), inside(u), outside(u, lo, hi))
        return float(np.sum(g * slope) * share(len(x), hi))

    return answer


def _closed(g: Array, x: Array, step: float, lo: int, hi: int) -> float:
    u = x / step
    slope = np.where((u >= lo) & (u <= hi), np.rint(u) - u, np.clip(u, lo, hi))
    return float(np.sum(g * slope) / np.sqrt(len(x) * hi))


LSQ = Exercise(
    id="nb07.lsq_step_gradient",
    title="LSQ's gradient for the step",
    answer=lsq_step_gradient,
    cases=_values(),
    returns="gradient",
    truth=taped_step,
    judge=closely(1e-9),
    hints=(
        "First the slope of every y_i, [n]: np.where(inside, np.rint(u) - u, np.clip(u, lo, hi)).",
        "Then one number: the sum of g times the slope, over the root of n * hi.",
    ),
    wrong=(
        Wrong("no_gradient_scale", "a sum without the gradient scale 1 / sqrt(n * hi)",
              _slopes(share=lambda n, hi: 1.0)),
        Wrong("no_root", "a gradient scale of 1 / (n * hi), without the root",
              _slopes(share=lambda n, hi: 1 / (n * hi))),
        Wrong("without_hi", "a gradient scale of 1 / sqrt(n), without hi",
              _slopes(share=lambda n, hi: 1 / np.sqrt(n))),
        Wrong("codes_inside", "the code rint(u) inside: straight-through adds -u, as x is held "
              "still while u changes with the step", _slopes(inside=np.rint)),
        Wrong("sign", "u - rint(u) inside, the other way round",
              _slopes(inside=lambda u: u - np.rint(u))),
        Wrong("less_u", "-u outside as well, where x no longer counts: y is lo or hi steps",
              _slopes(outside=lambda u, lo, hi: np.clip(u, lo, hi) - u)),
        Wrong("nothing_outside", "no gradient from what is clipped, though y is lo or hi steps",
              _slopes(outside=lambda u, lo, hi: 0 * u)),
        Wrong("closed_ends", "ends taken for inside, where rint(u) - u is 0: at an end the slope "
              "is the end", _closed),
    ),
)  # fmt: skip

EXERCISES = (SLOPE, STE, LSQ, SHARE, TURNS)
