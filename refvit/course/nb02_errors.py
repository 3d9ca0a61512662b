"""The exercises of notebook 02 on the error: half a step at most, and its mean square."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def half_step_holds(round_to: Any, x: Array, scale: float, bits: int) -> bool:
    """Return whether round_to(x, scale, bits), which returns x [n] rounded to a grid as reals [n],
    is nowhere off by more than scale / 2, as far as the grid reaches.

    It reaches to scale * (2**(bits - 1) - 1) on either side; x beyond is clipped, and not looked
    at. This is a property: true of rounding to the nearest, and false of a faulty one for some x.
    """
    reach = scale * (2 ** (bits - 1) - 1)
    error = np.abs(round_to(x, scale, bits) - x)
    return bool(np.all(error[np.abs(x) <= reach] <= scale / 2))


def _on_grid(codes: Array, scale: float, bits: int, least: int = 0) -> Array:
    top = 2 ** (bits - 1) - 1
    return scale * np.clip(codes, least or -top, top)


def nearest_even(x: Array, scale: float, bits: int) -> Array:
    """Return x on the grid of the full range, ties to even."""
    return _on_grid(np.rint(x / scale), scale, bits, -(2 ** (bits - 1)))


def nearest_up(x: Array, scale: float, bits: int) -> Array:
    """Return x on the restricted grid, ties upwards: right as well."""
    return _on_grid(np.floor(x / scale + 0.5), scale, bits)


def _error(round_to: Any, x: Array, scale: float, bits: int) -> Array:
    """Return the errors within the reach, in steps, with their signs."""
    inside = np.abs(x) <= scale * (2 ** (bits - 1) - 1)
    away: Array = (round_to(x, scale, bits) - x)[inside] / scale
    return away


def _one_of_many(x: Array, scale: float, bits: int) -> Array:
    """Return x as it is, but for the first element within the reach if two more are."""
    inside = np.flatnonzero(np.abs(x) <= scale * (2 ** (bits - 1) - 1))
    moved = x.copy()
    moved[inside[: len(inside) > 2]] += 0.6 * scale
    return moved


HALF_STEP = Exercise(
    id="nb02.half_step_holds",
    title="a property: off by at most half a step",
    answer=half_step_holds,
    cases=st.tuples(draw.vectors(), draw.scales(), draw.bits()),
    returns="property",
    hints=(
        "The error has two signs: np.abs. It may be scale / 2 exactly, on a tie.",
        "np.abs(x) <= reach picks the elements that the law is about.",
    ),
    edges=(
        (nearest_even, np.array([3.5, -3.5]), 0.5, 4),
        (nearest_up, np.array([-1.0, 1.0, 0.5]), 1.0, 2),
    ),
    tried=Tried(
        right=(nearest_even, nearest_up),
        faulty=(
            Wrong("codes", "codes in place of reals", lambda x, scale, bits: np.rint(x / scale)),
            Wrong("rounds_down", "rounding down, which is off by up to a step",
                  lambda x, scale, bits: _on_grid(np.floor(x / scale), scale, bits)),
            Wrong("truncates", "rounding towards 0",
                  lambda x, scale, bits: _on_grid(np.trunc(x / scale), scale, bits)),
            Wrong("clips_early", "a greatest code one too small, as in the released I-BERT",
                  lambda x, scale, bits: np.minimum(nearest_even(x, scale, bits),
                                                    scale * (2 ** (bits - 1) - 2))),
            Wrong("open_end", "an end that is left out: at the reach itself, and beyond it, 0",
                  lambda x, scale, bits: np.where(np.abs(x) < scale * (2 ** (bits - 1) - 1),
                                                  nearest_even(x, scale, bits), 0.0)),
            Wrong("coarse", "a step twice as wide",
                  lambda x, scale, bits: _on_grid(2 * np.rint(x / scale / 2), scale, bits)),
            Wrong("second_off", "a step too much in the second element",
                  lambda x, scale, bits: nearest_even(x, scale, bits)
                  + scale * (np.arange(len(x)) == 1)),
            Wrong("low_below_zero", "a step too low where x is below 0",
                  lambda x, scale, bits: nearest_even(x, scale, bits) - scale * (x < 0)),
            Wrong("one_of_many", "one of three or more off by 0.6 of a step, the others exact",
                  _one_of_many),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything",
              lambda round_to, x, scale, bits: True),
        Wrong("whole_step", "a bound of a whole step, which truncation keeps",
              lambda *case: bool(np.all(np.abs(_error(*case)) <= 1))),
        Wrong("signed", "an error with its sign, so that any error downwards is accepted",
              lambda *case: bool(np.all(_error(*case) <= 0.5))),
        Wrong("everywhere", "a bound on x beyond the reach too, where clipping may be off by more",
              lambda round_to, x, scale, bits:
              bool(np.all(np.abs(round_to(x, scale, bits) - x) <= scale / 2))),
        Wrong("strict", "an error below half a step, where a tie is off by exactly that",
              lambda *case: bool(np.all(np.abs(_error(*case)) < 0.5))),
        Wrong("inside_only", "a look at x below the reach only: the end itself is on the grid too",
              lambda round_to, x, scale, bits: bool(np.all(np.abs(round_to(x, scale, bits) - x)[
                  np.abs(x) < scale * (2 ** (bits - 1) - 1)] <= scale / 2))),
        Wrong("mean", "a bound on the mean error, above which single ones may be",
              lambda *case: float(np.mean(np.append(np.abs(_error(*case)), 0.0))) <= 0.5),
        Wrong("not_negative", "a look at x from 0 up only",
              lambda round_to, x, scale, bits: bool(np.all(np.abs(_error(
                  lambda x, *rest: np.where(x < 0, x, round_to(x, *rest)), x, scale, bits))
                  <= 0.5))),
    ),
)  # fmt: skip


def rounding_noise(scale: float) -> float:
    """Predict the mean squared error of rounding to the multiples of `scale`, for values spread
    evenly over many steps, none of them clipped."""
    return scale**2 / 12


def _measured_noise(scale: float) -> float:
    x = (np.arange(64_000) + 0.5) / 1000 * scale - 32 * scale
    error = quant.fake_quantize(x, quant.QParams(np.array(scale), bits=8)) - x
    return float(np.square(error).mean())


NOISE = Exercise(
    id="nb02.rounding_noise",
    title="a prediction: the mean squared error of rounding",
    answer=rounding_noise,
    cases=st.tuples(draw.scales()),
    truth=_measured_noise,
    judge=closely(1e-3),
    returns="error",
    hints=(
        "Within one step the error takes every value from -scale/2 to scale/2, evenly.",
        "The mean of e**2 over that interval is its integral divided by the length, scale.",
    ),
    wrong=(
        Wrong("not_squared", "the worst error, scale / 2: asked for is the mean of the squares",
              lambda scale: scale / 2),
        Wrong("worst", "the square of the worst error, (scale/2)**2: most are smaller",
              lambda scale: scale**2 / 4),
        Wrong("rms", "the root of the mean square, which is asked for without the root",
              lambda scale: scale / 12**0.5),
        Wrong("truncation", "the error of truncation, which takes every value from 0 to scale",
              lambda scale: scale**2 / 3),
        Wrong("absolute", "the mean of |error|", lambda scale: scale / 4),
        Wrong("linear", "a variance that grows with scale where it grows with its square",
              lambda scale: scale / 12),
    ),
)  # fmt: skip
