"""The exercises of notebook 05: channels that are far larger than others, and what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb05_folds import FOLDS, SMOOTHING
from refvit.course.nb05_more import LOG2_CODES, TWIN_ROUND, WASTED_CODES
from refvit.quant import quantize, symmetric
from refvit.testing.extra import st

Array = NDArray[Any]
Layer = tuple[Array, Array, Array]


def outlier_channels(y: Array, factor: float) -> Array:
    """Return the channels of y [N, C] that are outliers, ascending, as int64.

    The reach of a channel is its max|y| over the N tokens. A channel is an outlier if its reach is
    more than `factor` times the median of all C reaches.
    """
    reach = np.abs(y).max(axis=0)
    return np.flatnonzero(reach > factor * np.median(reach))


def _beyond(reach: Array, factor: float, usual: Any = np.median) -> Array:
    return np.flatnonzero(reach > factor * usual(reach))


OUTLIERS = Exercise(
    id="nb05.outlier_channels",
    title="which channels are outliers",
    answer=outlier_channels,
    cases=st.tuples(draw.matrices((1, 3), (1, 5)), st.sampled_from([1.0, 1.5, 2.0, 4.0])),
    returns="channels",
    hints=(
        "np.abs(y).max(axis=0) has one number for each channel.",
        "np.flatnonzero(condition) has the places where a condition holds.",
    ),
    wrong=(
        Wrong("tokens", "reaches of tokens where those of channels were meant: axis 0 has tokens",
              lambda y, factor: _beyond(np.abs(y).max(axis=1), factor)),
        Wrong("mean", "the mean reach where the median was meant: outliers raise the mean",
              lambda y, factor: _beyond(np.abs(y).max(axis=0), factor, np.mean)),
        Wrong("one_sided", "max(y) where max|y| was meant",
              lambda y, factor: _beyond(y.max(axis=0), factor)),
        Wrong("at_least", "at least `factor` times the median where more was meant",
              lambda y, factor: np.flatnonzero(
                  np.abs(y).max(axis=0) >= factor * np.median(np.abs(y).max(axis=0)))),
        Wrong("median_of_all", "the median of all values where that of the reaches was meant",
              lambda y, factor: np.flatnonzero(
                  np.abs(y).max(axis=0) > factor * np.median(np.abs(y)))),
        Wrong("where", "what np.where returns, a tuple: np.flatnonzero has the array itself",
              lambda y, factor: np.where(
                  np.abs(y).max(axis=0) > factor * np.median(np.abs(y).max(axis=0)))),
        Wrong("mask", "a mask where the numbers of channels were meant",
              lambda y, factor: np.abs(y).max(axis=0) > factor * np.median(np.abs(y).max(axis=0))),
    ),
)  # fmt: skip


def with_outliers(gamma: Array, beta: Array, weight: Array, chosen: Array, factor: float) -> Layer:
    """Return new (gamma, beta, weight), with outliers and the same float function.

    A LayerNorm gives y = n * gamma + beta, gamma and beta [C]; a linear reads it: weight [out, C]
    times y. The channels in `chosen` (distinct, int64) of y shall become `factor` times as large,
    the linear's output shall stay what it was. `factor` is a power of two.
    """
    scale = np.ones(len(gamma))
    scale[chosen] = factor
    return gamma * scale, beta * scale, weight / scale


def _layers(draw_: Any) -> Any:
    channels, outputs = draw_(st.integers(1, 3)), draw_(st.integers(1, 3))
    numbers = st.integers(-4, 4).map(float)
    weight = draw_(draw.matrices((outputs, outputs), (channels, channels), numbers))
    vector = draw.vectors(channels, channels, numbers)
    chosen = sorted(draw_(st.sets(st.integers(0, channels - 1))))
    factor = draw_(st.sampled_from([1.0, 2.0, 4.0, 0.5]))
    return draw_(vector), draw_(vector), weight, np.array(chosen, np.int64), factor


def _injected(
    gamma: Array, beta: Array, weight: Array, chosen: Array, factors: tuple[float, float, float]
) -> Layer:
    g, b, w = gamma.copy(), beta.copy(), weight.copy()
    g[chosen] *= factors[0]
    b[chosen] *= factors[1]
    w[:, chosen] *= factors[2]
    return g, b, w


def _same_output(found: Any, expected: Layer, *arguments: Any) -> str:
    """Judge three arrays, and say of a wrong one what it does to the output."""
    trouble = closely(1e-12)(found, expected, *arguments)
    for place, name in enumerate(("gamma", "beta", "weight")):
        trouble = trouble.replace(f"item {place} of the tuple", name)
    alike = len(trouble) and isinstance(found, tuple) and len(found) == 3
    if not alike or [np.shape(a) for a in found] != [np.shape(a) for a in expected]:
        return trouble
    gamma, beta, weight = arguments[:3]
    before, after = weight @ (gamma + beta), found[2] @ (found[0] + found[1])
    if np.allclose(before, after):
        return trouble
    return f"{trouble}; for n = 1 the linear gave {before.tolist()}, now {after.tolist()}"


def _rows_by_number(g: Array, b: Array, w: Array, chosen: Array, f: float) -> Layer:
    gamma, beta, weight = _injected(g, b, w, chosen, (f, f, 1))
    weight[chosen] /= f
    return gamma, beta, weight


WITH_OUTLIERS = Exercise(
    id="nb05.with_outliers",
    title="outliers that the float output does not see",
    answer=with_outliers,
    cases=st.composite(_layers)(),
    returns="(gamma, beta, weight)",
    judge=_same_output,
    hints=(
        "y is factor times as large if gamma and beta both are.",
        "The linear multiplies channel c of y by column c of the weight: weight[:, c] / factor.",
        "A vector of ones with `factor` at the chosen channels does all three by broadcasting.",
    ),
    wrong=(
        Wrong("gamma_only", "a beta left as it was: it belongs to y as well",
              lambda g, b, w, chosen, f: _injected(g, b, w, chosen, (f, 1, 1 / f))),
        Wrong("weight_kept", "a weight left as it was: the output grows",
              lambda g, b, w, chosen, f: _injected(g, b, w, chosen, (f, f, 1))),
        Wrong("weight_grows", "a weight multiplied where it is divided",
              lambda g, b, w, chosen, f: _injected(g, b, w, chosen, (f, f, f))),
        Wrong("inverse", "channels made smaller and columns larger, the inverse",
              lambda g, b, w, chosen, f: _injected(g, b, w, chosen, (1 / f, 1 / f, f))),
        Wrong("everywhere", "all channels where the chosen ones were meant",
              lambda g, b, w, chosen, f: (g * f, b * f, w / f)),
        Wrong("rows", "rows of the weight divided where its columns read the channels",
              lambda g, b, w, chosen, f: (
                  *_injected(g, b, w, chosen, (f, f, 1))[:2],
                  w / np.where(np.isin(np.arange(len(w)), chosen), f, 1.0)[:, None])),
        Wrong("rows_by_number", "rows of the weight, w[chosen], where w[:, chosen] are its columns",
              _rows_by_number),
    ),
)  # fmt: skip


def codes_left(bits: int, ratio: int) -> int:
    """Predict how many different codes the ordinary channels of a tensor can take.

    They reach +-1, the largest channel reaches +-`ratio` (1 or more), and one symmetric grid of
    `bits` bits covers both: scale = ratio / (2**(bits - 1) - 1), ties to even.
    """
    top = 2 ** (bits - 1) - 1
    return int(2 * round(top / ratio) + 1)


def _quantized(bits: int, ratio: int) -> int:
    """Count them: every value from -1 to 1 on the grid of the package."""
    ordinary = np.linspace(-1, 1, 2 ** (bits + 2) + 1)
    return len(np.unique(quantize(ordinary, symmetric(float(ratio), bits))))


CODES_LEFT = Exercise(
    id="nb05.codes_left",
    title="predict how many codes an outlier leaves to the others",
    answer=codes_left,
    cases=st.tuples(draw.bits(3, 8), st.integers(1, 70)),
    truth=_quantized,
    returns="number of codes",
    edges=((6, 16), (6, 64), (8, 64), (8, 256), (6, 62), (4, 14)),
    hints=(
        "Which code does the value 1 get on this grid?",
        "1 / scale, rounded; the codes from minus that to plus that are left, and 0.",
    ),
    wrong=(
        Wrong("share", "all codes divided by the ratio, as if codes came in parts",
              lambda bits, ratio: max(1, 2**bits // ratio)),
        Wrong("floored", "the code of 1 rounded down where it is rounded to the nearest",
              lambda bits, ratio: 2 * ((2 ** (bits - 1) - 1) // ratio) + 1),
        Wrong("half_up", "a tie rounded upwards, int(x + 0.5), where it goes to even",
              lambda bits, ratio: 2 * int((2 ** (bits - 1) - 1) / ratio + 0.5) + 1),
        Wrong("no_zero", "codes counted on both sides of zero, without zero itself",
              lambda bits, ratio: codes_left(bits, ratio) - 1),
        Wrong("one_side", "codes on one side of zero only",
              lambda bits, ratio: (codes_left(bits, ratio) + 1) // 2),
        Wrong("full_range", "2**(bits - 1) steps, one more than a symmetric grid has",
              lambda bits, ratio: int(2 * round(2 ** (bits - 1) / ratio) + 1)),
        Wrong("all", "all codes of the grid, which the largest channel alone uses",
              lambda bits, ratio: 2**bits - 1),
    ),
)  # fmt: skip


EXERCISES = (
    OUTLIERS, WITH_OUTLIERS, CODES_LEFT, SMOOTHING, FOLDS, LOG2_CODES, WASTED_CODES, TWIN_ROUND,
)  # fmt: skip
