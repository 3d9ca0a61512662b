"""The exercises of notebook 02: linear quantizers (Du, Gong and Chu 2024, section II)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def symmetric(x: Array, bits: int) -> Array:
    """Return the codes of x [n] on a symmetric grid of `bits` bits (2 to 8), as int64.

    The scale is max|x| / (2**(bits - 1) - 1), or 1 where x is all zero; a code is x / scale rounded
    to the nearest integer, ties to even.
    """
    top = 2 ** (bits - 1) - 1
    scale = np.abs(x).max() / top or 1.0
    return np.rint(x / scale).astype(np.int64)


def _scaled(x: Array, bits: int, top: int = 0, sign: bool = False) -> Array:
    top = top or 2 ** (bits - 1) - 1
    reach = x.max() if sign else np.abs(x).max()
    ratio: Array = x / ((reach / top) or 1.0)
    return ratio


SYMMETRIC = Exercise(
    id="nb02.symmetric",
    title="codes on a symmetric grid",
    answer=symmetric,
    cases=st.tuples(draw.vectors(), draw.bits()),
    returns="codes",
    hints=(
        "First the scale: one number for all of x, such that the largest magnitude becomes the "
        "largest code.",
        "np.rint rounds to the nearest integer and ties to even; then .astype(np.int64).",
    ),
    wrong=(
        Wrong("truncates", "truncation where rounding was meant",
              lambda x, bits: _scaled(x, bits).astype(np.int64)),
        Wrong("floors", "rounding down where rounding to the nearest was meant",
              lambda x, bits: np.floor(_scaled(x, bits)).astype(np.int64)),
        Wrong("half_up", "ties rounded upwards, floor(x + 1/2), where they go to even",
              lambda x, bits: np.floor(_scaled(x, bits) + 0.5).astype(np.int64)),
        Wrong("full_range", "a scale that divides by 2**(bits - 1), whose top is out of reach",
              lambda x, bits: np.rint(_scaled(x, bits, 2 ** (bits - 1))).astype(np.int64)),
        Wrong("one_sided", "a scale from max(x) where max|x| was meant",
              lambda x, bits: np.rint(_scaled(x, bits, sign=True)).astype(np.int64)),
    ),
)  # fmt: skip


def zero_is_exact(quantize: Any, x: Array, bits: int) -> bool:
    """Return whether quantize(x, bits), which returns codes [n], gives every 0.0 of x the code 0.

    This is a property: true of every symmetric quantizer, and false of a faulty one for some x.
    """
    codes = quantize(x, bits)
    return bool(np.all(codes[x == 0] == 0))


def full_range(x: Array, bits: int) -> Array:
    """Return codes from -2**(bits - 1) on: right as well, on another scale."""
    low = 2 ** (bits - 1)
    return np.clip(np.rint(_scaled(x, bits, low)), -low, low - 1).astype(np.int64)


ZERO = Exercise(
    id="nb02.zero_is_exact",
    title="a property: zero has the code zero",
    answer=zero_is_exact,
    cases=st.tuples(draw.vectors(), draw.bits()),
    returns="property",
    hints=("x == 0 picks the elements that matter.", "All of their codes are 0: np.all."),
    tried=Tried(
        right=(symmetric, full_range),
        faulty=(
            Wrong("mid_rise", "codes that begin half a step beside zero",
                  lambda x, bits: np.floor(_scaled(x, bits)).astype(np.int64) + 1),
            Wrong("shifted", "a zero point that differs from 0",
                  lambda x, bits: symmetric(x - x.min(), bits)),
            Wrong("one_more", "codes one too great behind the first element",
                  lambda x, bits: symmetric(x, bits) + (np.arange(len(x)) > 0)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda quantize, x, bits: True),
        Wrong("any", "any zero where all of them were meant",
              lambda quantize, x, bits: bool(np.any(quantize(x, bits)[x == 0] == 0))),
        Wrong("first", "a look at the first element only",
              lambda quantize, x, bits: bool(x[0] != 0 or quantize(x, bits)[0] == 0)),
        Wrong("converse", "the converse: every code 0 came from 0.0, which small values break",
              lambda quantize, x, bits: bool(np.all(x[quantize(x, bits) == 0] == 0))),
    ),
)  # fmt: skip

EXERCISES = (SYMMETRIC, ZERO)
