"""More exercises of notebook 05: probabilities in powers of two, GELU's output in two steps.

Miyashita et al. 2016; Lin et al. 2022 (FQ-ViT), section 3.4; Yuan et al. 2022 (PTQ4ViT), section
3.2.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.ops.functional import gelu
from refvit.quant import TwinGrid, quantize, symmetric
from refvit.testing.extra import st

Array = NDArray[Any]


def log2_codes(p: Array, bits: int) -> Array:
    """Return the codes of the probabilities p [n], 0 <= p <= 1, in powers of two, as int64.

    Code c stands for 2**-c, and the last one, 2**bits - 1, for 0 (bits 2 to 4). p gets the c that
    is nearest to -log2(p); a p of 0, or one nearest to the last code or beyond it, gets the last
    one.
    """
    with np.errstate(divide="ignore"):
        codes = np.rint(-np.log2(p)).clip(max=2**bits - 1)
    return codes.astype(np.int64)


def _by_fractions(p: Array, bits: int) -> Array:
    """The same without a logarithm: 2**-c and 2**-(c + 1) meet where p**2 is 2**-(2 c + 1)."""
    last = 2**bits - 1
    squares = [Fraction(float(x)) ** 2 for x in p]
    borders = [Fraction(1, 2 ** (2 * c + 1)) for c in range(last)]
    return np.array([sum(x < border for border in borders) for x in squares], np.int64)


def _log2(p: Array) -> Array:
    with np.errstate(divide="ignore"):
        found: Array = -np.log2(p)
    return found


def _last(codes: Array, last: int) -> Array:
    return np.minimum(codes, last).astype(np.int64)


def _linearly(p: Array, bits: int) -> Array:
    """The power of two that is nearest in p itself, whose borders are 1.5 * 2**-c."""
    values = np.append(2.0 ** -np.arange(2**bits - 1), 0.0)
    return np.asarray(np.abs(p[:, None] - values).argmin(1))


PROBABILITIES = (
    st.integers(0, 16).map(lambda k: k / 16)
    | st.sampled_from([0.72, 0.74, 0.36, 0.7, 0.35, 0.0, 1.0, 0.09, 0.01])
    | st.integers(0, 20).map(lambda e: 2.0**-e)
)

LOG2_CODES = Exercise(
    id="nb05.log2_codes",
    title="probabilities as powers of two",
    answer=log2_codes,
    cases=st.tuples(draw.vectors(1, 6, PROBABILITIES), draw.bits(2, 4)),
    truth=_by_fractions,
    returns="codes",
    edges=((np.array([0.0, 1.0, 0.72, 0.7]), 4), (np.array([2.0**-15, 2.0**-14, 2.0**-16]), 4)),
    hints=(
        "The code is -log2(p), rounded; then .clip(max=...) to the last code.",
        "np.log2(0) is -inf; clip before .astype, and it becomes the last code.",
    ),
    wrong=(
        Wrong("floored", "the exponent rounded down where the nearest was meant",
              lambda p, bits: _last(np.floor(_log2(p)), 2**bits - 1)),
        Wrong("ceiled", "the exponent rounded up where the nearest was meant",
              lambda p, bits: _last(np.ceil(_log2(p)), 2**bits - 1)),
        Wrong("linear", "the power nearest in p, with a border at 0.75 and not at 0.707: nearest "
              "was meant in the logarithm", _linearly),
        Wrong("natural", "a natural logarithm where base 2 was meant",
              lambda p, bits: _last(np.rint(_log2(p) * np.log(2)), 2**bits - 1)),
        Wrong("no_zero", "a last code that is a power too, so that 0 has none",
              lambda p, bits: _last(np.rint(_log2(p)), 2**bits - 2)),
        Wrong("wraps", "codes beyond the last that begin again",
              lambda p, bits: np.where(p > 0, np.rint(_log2(np.where(p > 0, p, 1.0))) % 2**bits,
                                       2**bits - 1).astype(np.int64)),
    ),
)  # fmt: skip

LEAST = 0.16997120747990369  # GELU's minimum, negated


def wasted_codes(bits: int, largest: float) -> int:
    """Predict how many codes of a symmetric grid no output of GELU ever gets.

    GELU's outputs fill [-0.17, largest] (0.16997 to five digits; largest >= 0.5). The grid has all
    2**bits codes, -2**(bits - 1) to 2**(bits - 1) - 1, and scale = largest / (2**(bits - 1) - 1).
    """
    scale = largest / (2 ** (bits - 1) - 1)
    return int(2 ** (bits - 1) - round(0.16997 / scale))


def _never(bits: int, largest: float) -> int:
    """Count them: GELU of many inputs on the grid of the package."""
    x = np.append(np.linspace(-6, 9, 2**14), -0.7517915)
    y = gelu(x)
    got = quantize(np.append(y[y <= largest], largest), symmetric(largest, bits))
    return int(2**bits - len(np.unique(got)))


WASTED_CODES = Exercise(
    id="nb05.wasted_codes",
    title="predict how many codes GELU never uses",
    answer=wasted_codes,
    cases=st.tuples(draw.bits(3, 8), st.sampled_from([0.5, 1.0, 2.0, 4.0, 5.0, 8.0])),
    truth=_never,
    returns="number of codes",
    hints=(
        "Which code does -0.17 get? The codes below it are never used.",
        "2**(bits - 1) codes are below 0; round(0.16997 / scale) of them are used.",
    ),
    wrong=(
        Wrong("all_negative", "all codes below 0, though some hold GELU's dip",
              lambda bits, largest: 2 ** (bits - 1)),
        Wrong("half", "a number that leaves out the least code, -2**(bits - 1)",
              lambda bits, largest: wasted_codes(bits, largest) - 1),
        Wrong("floored", "the code of the minimum rounded towards 0",
              lambda bits, largest: 2 ** (bits - 1) - int(
                  LEAST / (largest / (2 ** (bits - 1) - 1)))),
        Wrong("share", "a share of the range in place of codes",
              lambda bits, largest: round(2**bits * (1 - (largest + LEAST) / (2 * largest)))),
        Wrong("one", "one code for GELU's dip, however fine the steps are",
              lambda bits, largest: 2 ** (bits - 1) - 1),
        Wrong("none", "none, as on an asymmetric grid", lambda bits, largest: 0),
    ),
)  # fmt: skip


def twin_round(x: Array, fine: float, shift: int, bits: int) -> Array:
    """Return x [n] rounded to a twin grid of `bits` bits (2 to 8), float64.

    Values below 0 are on steps of `fine`, codes -2**(bits - 1) to 0; the others are on steps of
    coarse = fine * 2**shift, codes 0 to 2**(bits - 1) - 1. Each is np.rint of x over its own step;
    what is beyond the codes gets the last one.
    """
    coarse, half = fine * 2**shift, 2 ** (bits - 1)
    near = np.clip(np.rint(x / fine), -half, 0) * fine
    far = np.clip(np.rint(x / coarse), 0, half - 1) * coarse
    return np.where(x < 0, near, far)


def _twin_grid(x: Array, fine: float, shift: int, bits: int) -> Array:
    return TwinGrid(np.asarray(fine), shift, bits, signed=True).round(x)


def _steps(x: Array, step: float, lo: int, hi: int) -> Array:
    rounded: Array = np.clip(np.rint(x / step), lo, hi) * step
    return rounded


TWIN_ROUND = Exercise(
    id="nb05.twin_round",
    title="two steps in one code",
    answer=twin_round,
    cases=st.tuples(
        draw.vectors(1, 5), st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 3), draw.bits(2, 5)
    ),
    truth=_twin_grid,
    returns="rounded values",
    judge=closely(1e-9),
    hints=(
        "Round all of x twice, once on each step, and choose by np.where(x < 0, ..., ...).",
        "np.clip(np.rint(x / fine), -half, 0) * fine for the one, with half = 2**(bits - 1).",
    ),
    wrong=(
        Wrong("swapped", "fine steps above 0 and coarse ones below",
              lambda x, fine, shift, bits: np.where(
                  x < 0, _steps(x, fine * 2**shift, -(2 ** (bits - 1)), 0),
                  _steps(x, fine, 0, 2 ** (bits - 1) - 1))),
        Wrong("one_fine", "the fine step for all, which clips large values",
              lambda x, fine, shift, bits: _steps(
                  x, fine, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)),
        Wrong("one_coarse", "the coarse step for all, which loses small negative values",
              lambda x, fine, shift, bits: _steps(
                  x, fine * 2**shift, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)),
        Wrong("unclipped", "values beyond the last codes, which no code stands for",
              lambda x, fine, shift, bits: _twin_grid(x, fine, shift, 8)),
        Wrong("restricted", "negative codes that end at -2**(bits - 1) + 1: here the least is used",
              lambda x, fine, shift, bits: np.where(
                  x < 0, _steps(x, fine, 1 - 2 ** (bits - 1), 0),
                  _steps(x, fine * 2**shift, 0, 2 ** (bits - 1) - 1))),
        Wrong("whole_width", "all 2**bits codes for each side: one bit says which side it is",
              lambda x, fine, shift, bits: _twin_grid(x, fine, shift, bits + 1)),
        Wrong("sum_of_steps", "coarse = fine + shift where fine * 2**shift was meant",
              lambda x, fine, shift, bits: np.where(
                  x < 0, _steps(x, fine, -(2 ** (bits - 1)), 0),
                  _steps(x, fine + shift, 0, 2 ** (bits - 1) - 1))),
        Wrong("codes", "codes, which are to be multiplied by their steps",
              lambda x, fine, shift, bits: twin_round(x, fine, shift, bits)
              / np.where(x < 0, fine, fine * 2**shift)),
    ),
)  # fmt: skip
