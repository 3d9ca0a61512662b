"""More exercises of notebook 04: how often a range is exceeded, and where to clip."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely, equal
from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
STEPS = 20  # clipping points that are tried


def chance_beyond(n: int, m: int) -> float:
    """Predict the chance that at least one of m fresh images has a greater maximum than all of n
    calibration images, n, m >= 1.

    The images come in random order and no two maxima are the same; nothing else is known of them.
    """
    return m / (n + m)


@cache
def _enumerated(n: int, m: int) -> float:
    """The share of all orders of n + m maxima in which one of the last m is the greatest."""
    orders = list(itertools.permutations(range(n + m)))
    return sum(max(order[n:]) > max(order[:n]) for order in orders) / len(orders)


CHANCE = Exercise(
    id="nb04.chance_beyond",
    title="predict how often a calibrated range is exceeded",
    answer=chance_beyond,
    cases=st.tuples(st.integers(1, 4), st.integers(1, 3)).filter(lambda nm: sum(nm) <= 6),
    truth=_enumerated,
    returns="chance",
    judge=closely(1e-9),
    edges=((5, 1), (1, 5)),
    hints=(
        "One of the n + m images has the greatest maximum of all. Which one is it?",
        "Each with the same chance; the range is exceeded if it is one of the m.",
    ),
    wrong=(
        Wrong("one_image", "the chance of one fresh image, 1 / (n + 1), whatever m is",
              lambda n, m: 1 / (n + 1)),
        Wrong("independent", "m independent trials of 1 / (n + 1); but they share one range, and "
              "if it is narrow it is so for all of them",
              lambda n, m: 1 - (n / (n + 1)) ** m),
        Wrong("expected", "the expected number beyond, m / (n + 1), which is no chance",
              lambda n, m: m / (n + 1)),
        Wrong("kept", "the chance that the range holds", lambda n, m: n / (n + m)),
        Wrong("half", "a half, as if old and new images were one each", lambda n, m: 0.5),
    ),
)  # fmt: skip


def best_clip(x: Array, bits: int) -> float:
    """Return the clipping point of x [n] whose symmetric grid has the least mean square error.

    Tried are max|x| * k / 20 for k = 20, 19, ... 1. The grid of a point has the codes -top to top,
    top = 2**(bits - 1) - 1 (bits 2 to 4), and scale point / top; values beyond the point get the
    last code. Of points with equal errors any will do. Where x is all zero the answer is 0.0.
    """
    top, whole = 2 ** (bits - 1) - 1, float(np.abs(x).max())
    best, least = whole, np.inf
    for point in (whole * k / 20 for k in range(20, 0, -1)):
        scale = point / top or 1.0
        rounded = np.clip(np.rint(x / scale), -top, top) * scale
        error = float(np.mean((rounded - x) ** 2))
        if error < least:
            best, least = point, error
    return best


def _off(x: Array, point: float, bits: int) -> Array:
    """What clipping and rounding change of x, element by element."""
    top = 2 ** (bits - 1) - 1
    scale = point / top or 1.0
    changed: Array = np.clip(np.rint(x / scale), -top, top) * scale - x
    return changed


def _least(
    x: Array, bits: int, loss: Callable[[Array, float], Any], ks: Iterable[int] = range(20, 0, -1)
) -> float:
    points = [float(np.abs(x).max()) * k / STEPS for k in ks]
    return min(points, key=lambda point: loss(_off(x, point, bits), point))


def _with_least_code(x: Array, bits: int) -> float:
    """Search on grids that have one code more below 0."""
    top, points = 2 ** (bits - 1) - 1, float(np.abs(x).max()) * np.arange(STEPS, 0, -1) / STEPS

    def error(point: float) -> Any:
        scale = point / top or 1.0
        return np.mean((np.clip(np.rint(x / scale), -top - 1, top) * scale - x) ** 2)

    return float(min(points, key=error))


def _loses_least(found: Any, expected: float, x: Array, bits: int) -> str:
    """Judge a clipping point by its error: several may have the least."""
    trouble = equal(found, expected, within=np.inf)
    whole = float(np.abs(x).max())
    if trouble or whole == 0:
        return trouble or equal(found, expected)
    if np.abs(whole * np.arange(1, STEPS + 1) / STEPS - found).min() > 1e-9 * whole:
        return f"{float(found):.6g} is not one of the 20 points that are tried"
    lost, least = (float(np.mean(_off(x, at, bits) ** 2)) for at in (found, expected))
    if lost <= least * (1 + 1e-9) + 1e-15 * whole**2:
        return ""
    minmax = float(np.mean(_off(x, whole, bits) ** 2))
    worse = ", more than min-max" if lost > minmax else ""
    return f"its mean square error is {lost:.4g}{worse}; that of {expected:.6g} is {least:.4g}"


BEST_CLIP = Exercise(
    id="nb04.best_clip",
    title="the clipping point of least square error",
    answer=best_clip,
    cases=st.tuples(draw.vectors() | draw.vectors(6, 10) | draw.vectors(6, 10), draw.bits(2, 4)),
    returns="clipping point",
    judge=_loses_least,
    edges=((np.array([3.0, 1.0, 1.0, 1.0, 1.0]), 2), (np.array([0.0, 0.0]), 4)),
    hints=(
        "For every point: quantize x on its grid, subtract x, take the mean of the squares.",
        "Keep the point itself in units of x: scale = point / top, codes np.clip(np.rint(x / "
        "scale), -top, top), values codes * scale.",
        "Keep the point with the least error so far; an all-zero x would divide by 0.",
    ),
    wrong=(
        Wrong("minmax", "min-max: nothing is searched",
              lambda x, bits: float(np.abs(x).max())),
        Wrong("absolute", "the mean absolute error where the square was meant",
              lambda x, bits: _least(x, bits, lambda off, point: np.mean(np.abs(off)))),
        Wrong("clipped_first", "errors against clipped values: what is clipped off x is lost too",
              lambda x, bits: min(
                  (float(np.abs(x).max()) * k / STEPS for k in range(20, 0, -1)),
                  key=lambda point: np.mean(_off(np.clip(x, -point, point), point, bits) ** 2))),
        Wrong("in_steps", "errors in steps, which are not those in x: a coarse step counts as one "
              "too", lambda x, bits: _least(
                  x, bits, lambda off, point: np.mean((off / (point or 1.0)) ** 2))),
        Wrong("inside", "errors of the values inside alone: what is clipped is lost too",
              lambda x, bits: _least(x, bits, lambda off, point: np.mean(
                  (off * (np.abs(x) <= point)) ** 2))),
        Wrong("no_full_range", "a search that leaves out the full range, so it can be worse than "
              "min-max", lambda x, bits: _least(
                  x, bits, lambda off, point: np.mean(off**2), range(19, 0, -1))),
        Wrong("least_code", "a grid with the code -top - 1: here codes go from -top to top",
              _with_least_code),
        Wrong("smallest_wins", "the least point among equals",
              lambda x, bits: _least(x, bits, lambda off, point: np.mean(off**2), range(1, 21)),
              equivalent="points of equal error are equally good"),
    ),
)  # fmt: skip


def relative_entropy(p: Array, q: Array) -> float:
    """Return KL(p || q) = sum of p log(p / q), in nats, of two histograms.

    `p` and `q` [n] are counts, not below 0, with at least one above; first each is divided by its
    sum. Where p is 0 the term is 0; where p is above 0 and q is 0 the answer is np.inf.
    """
    p, q = p / p.sum(), q / q.sum()
    there = p > 0
    if np.any(q[there] == 0):
        return np.inf
    return float(np.sum(p[there] * np.log(p[there] / q[there])))


def _kl(p: Array, q: Array, log: Any = np.log) -> float:
    """The sum over bins where both are above 0."""
    both = (p > 0) & (q > 0)
    return float(np.sum(p[both] * log(p[both] / q[both])))


def _within_a_hair(found: Any, expected: float, *arguments: Any) -> str:
    """Judge a divergence, of order 1: where it is 0 a rounding error is none."""
    trouble = equal(found, expected, within=1e-9)
    kind = isinstance(found, float | np.floating)
    return "" if kind and abs(found - expected) < 1e-9 else trouble


def _pairs(n: int) -> Any:
    counts = draw.vectors(n, n, st.integers(0, 4), np.int64).filter(lambda x: bool(x.any()))
    return st.tuples(counts, counts)


RELATIVE_ENTROPY = Exercise(
    id="nb04.relative_entropy",
    title="the divergence of two histograms",
    answer=relative_entropy,
    cases=st.integers(1, 4).flatmap(_pairs),
    returns="divergence",
    judge=_within_a_hair,
    hints=(
        "p / p.sum() and q / q.sum() first; then pick the bins with p > 0.",
        "Among those a single q of 0 makes the sum infinite: np.any(q[there] == 0).",
    ),
    wrong=(
        Wrong("reversed", "KL(q || p), the other way round: it is not symmetric",
              lambda p, q: relative_entropy(q, p)),
        Wrong("not_normalised", "counts that were not divided by their sums",
              lambda p, q: np.inf if np.any((p > 0) & (q == 0)) else _kl(p, q)),
        Wrong("bits", "a logarithm to base 2 where nats were meant",
              lambda p, q: relative_entropy(p, q) / np.log(2)),
        Wrong("skips", "bins left out where q is 0, though p has mass there",
              lambda p, q: _kl(p / p.sum(), q / q.sum())),
        Wrong("padded", "a small number added to q, which makes a large answer of an infinite one",
              lambda p, q: _kl(p / p.sum(), q / q.sum() + 1e-9)),
        Wrong("nan", "0 log 0 computed, which is not a number",
              lambda p, q: float(np.sum(p / p.sum() * np.log((p / p.sum()) / (q / q.sum()))))),
    ),
)  # fmt: skip
