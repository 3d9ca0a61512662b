"""The exercises of notebook 02: linear quantizers (Du, Gong and Chu 2024, section II)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import equal
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb02_errors import HALF_STEP, NOISE
from refvit.course.nb02_laws import IDEMPOTENT, MONOTONE, ZERO
from refvit.course.nb02_more import AFFINE_CODES, AFFINE_GRID, GELU_CODES
from refvit.testing.extra import st

Array = NDArray[Any]


def symmetric(x: Array, bits: int) -> Array:
    """Return the codes of x [n], n >= 1, on a symmetric grid of `bits` bits (2 to 8), as int64.

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


def _tied(bits: int, halves: list[int], scale: float, full: int = 0) -> tuple[Array, int]:
    """Return a case with ties: its largest magnitude is `top` steps, so the scale is `scale`."""
    top = 2 ** (bits - 1) - 1 + full
    inside = [scale * k / 2 for k in halves if abs(k) < 2 * top]
    return np.array([*inside, scale * top]), bits


HALVES = st.lists(st.integers(-15, 15), min_size=1, max_size=5)


def _in_any_order(found: Any, expected: Any, x: Array, bits: int) -> str:
    """Take the codes of x * top / max|x| as well: floats lose other ties in that order."""
    top, reach = 2 ** (bits - 1) - 1, np.abs(x).max() or 1.0
    trouble = equal(found, expected)
    return trouble and equal(found, np.rint(x * top / reach).astype(np.int64)) and trouble


SYMMETRIC = Exercise(
    id="nb02.symmetric",
    title="codes on a symmetric grid",
    answer=symmetric,
    cases=st.tuples(draw.vectors(), draw.bits())
    | st.builds(_tied, draw.bits(), HALVES, draw.scales()),
    returns="codes",
    judge=_in_any_order,
    hints=(
        "First the scale: one number for all of x, such that the largest magnitude becomes the "
        "largest code. What is it where every x is 0?",
        "np.rint rounds to the nearest integer and ties to even; then .astype(np.int64).",
    ),
    wrong=(
        Wrong("truncates", "truncation where rounding was meant",
              lambda x, bits: _scaled(x, bits).astype(np.int64)),
        Wrong("floors", "rounding down where rounding to the nearest was meant",
              lambda x, bits: np.floor(_scaled(x, bits)).astype(np.int64)),
        Wrong("half_up", "ties rounded upwards, floor(x + 1/2), where they go to even",
              lambda x, bits: np.floor(_scaled(x, bits) + 0.5).astype(np.int64)),
        Wrong("half_away", "ties rounded away from 0, where they go to even",
              lambda x, bits: np.trunc(_scaled(x, bits) + np.copysign(0.5, x)).astype(np.int64)),
        Wrong("full_range", "a scale that divides by 2**(bits - 1), whose top is out of reach",
              lambda x, bits: np.rint(_scaled(x, bits, 2 ** (bits - 1))).astype(np.int64)),
        Wrong("one_sided", "a scale from max(x) where max|x| was meant",
              lambda x, bits: np.rint(_scaled(x, bits, sign=True)).astype(np.int64)),
        Wrong("no_zero", "a division by a scale of 0 where all of x is 0",
              lambda x, bits: np.rint(x / (np.abs(x).max() / (2 ** (bits - 1) - 1))
                                      ).astype(np.int64)),
    ),
)  # fmt: skip


def full_range_codes(x: Array, bits: int) -> Array:
    """Return the codes of x [n], n >= 1, on the grid of all 2**bits codes (bits 2 to 8), as int64.

    The scale is max|x| / 2**(bits - 1), or 1 where x is all zero; a code is x / scale rounded, ties
    to even, and clipped to [-2**(bits - 1), 2**(bits - 1) - 1].
    """
    low = 2 ** (bits - 1)
    scale = np.abs(x).max() / low or 1.0
    return np.clip(np.rint(x / scale), -low, low - 1).astype(np.int64)


def _full(x: Array, bits: int) -> tuple[Array, int]:
    low = 2 ** (bits - 1)
    return np.rint(_scaled(x, bits, low)).astype(np.int64), low


def _clipped(x: Array, bits: int, more: int = 0) -> Array:
    codes, low = _full(x, bits)
    return np.clip(codes, -low + more, low - 1)


def _wrapped(x: Array, bits: int) -> Array:
    codes, low = _full(x, bits)
    wrapped: Array = (codes + low) % (2 * low) - low
    return wrapped


FULL = Exercise(
    id="nb02.full_range_codes",
    title="codes of the full range",
    answer=full_range_codes,
    cases=st.tuples(draw.vectors(), draw.bits())
    | st.builds(_tied, draw.bits(), HALVES, draw.scales(), st.just(1)),
    returns="codes",
    hints=(
        "What is the code of max|x| itself when it is positive? There is no such code.",
        "np.clip(codes, -2**(bits - 1), 2**(bits - 1) - 1), after np.rint.",
    ),
    wrong=(
        Wrong("unclipped", "codes that are not clipped: 2**(bits - 1) has no code of its own",
              lambda x, bits: _full(x, bits)[0]),
        Wrong("wraps", "a code past the top that wraps round to the least, as an int8 does",
              _wrapped),
        Wrong("restricted", "a least code of -(2**(bits - 1) - 1): one code is left unused",
              lambda x, bits: _clipped(x, bits, 1)),
        Wrong("other_scale", "the scale of the restricted range, max|x| / (2**(bits - 1) - 1)",
              symmetric),
        Wrong("early", "a top of 2**(bits - 1) - 2: [-n, n - 1] with n = 2**(bits - 1) - 1",
              lambda x, bits: np.minimum(_clipped(x, bits), 2 ** (bits - 1) - 2)),
        Wrong("half_up", "ties rounded upwards, floor(x + 1/2), where they go to even",
              lambda x, bits: np.minimum(np.floor(_scaled(x, bits, 2 ** (bits - 1)) + 0.5),
                                         2 ** (bits - 1) - 1).astype(np.int64)),
        Wrong("clip_first", "clipping before rounding",
              lambda x, bits: np.rint(np.clip(_scaled(x, bits, 2 ** (bits - 1)), -(2 ** (bits - 1)),
                                              2 ** (bits - 1) - 1)).astype(np.int64),
              equivalent="the ends are integers, so clipping and rounding may change places"),
    ),
)  # fmt: skip

EXERCISES = (
    SYMMETRIC, HALF_STEP, NOISE, ZERO, MONOTONE, IDEMPOTENT, FULL, GELU_CODES, AFFINE_GRID,
    AFFINE_CODES,
)  # fmt: skip
