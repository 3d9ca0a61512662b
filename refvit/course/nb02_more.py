"""The exercises of notebook 02 on asymmetric grids: `real = scale * (code - zero_point)`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.ops.functional import gelu
from refvit.testing.extra import st

Array = NDArray[Any]


def gelu_codes_used() -> int:
    """Predict how many of the 16 codes occur when the outputs of GELU for all inputs from -4 to 4,
    which run from -0.17 to 4, are put on the symmetric grid of 4 bits whose code 7 is 4."""
    return 8


def _count_codes() -> int:
    x = gelu(np.linspace(-4, 4, 10_001))
    return len(np.unique(quant.quantize(x, quant.symmetric(np.abs(x).max(), bits=4))))


GELU_CODES = Exercise(
    id="nb02.gelu_codes_used",
    title="a prediction: codes that GELU uses",
    answer=gelu_codes_used,
    cases=st.tuples(),
    truth=_count_codes,
    returns="count",
    hints=(
        "The scale is 4 / 7. What is the code of -0.17?",
        "Codes from 0 to 7 occur: count them.",
    ),
    wrong=(
        Wrong("all", "every code of the width, half of which stand for values below -0.17",
              lambda: 16),
        Wrong("restricted", "every code of the restricted range, whose negative ones are not used",
              lambda: 15),
        Wrong("one_negative", "a code of its own for -0.17, which is nearer to 0 than to -4/7",
              lambda: 9),
        Wrong("no_zero", "the count of the positive codes: 0 is a code too", lambda: 7),
    ),
)  # fmt: skip


def affine_grid(lo: float, hi: float, bits: int) -> tuple[float, int]:
    """Return the scale (float) and the zero point (int) of the grid whose codes from 0 to
    2**bits - 1 cover the values from lo to hi (lo <= hi) and 0.

    First 0 takes the place of a lo above it, or of a hi below it. The scale is then (hi - lo)
    divided by the greatest code, or 1 if that is 0; the zero point, the code of 0.0, is -lo / scale
    rounded, ties to even.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = (hi - lo) / (2**bits - 1) or 1.0
    return scale, int(np.rint(-lo / scale))


def _grid(lo: float, hi: float, bits: int) -> tuple[float, int]:
    q = quant.asymmetric(lo, hi, bits)
    return float(q.scale), int(q.zero_point)


def _ends(scale: float, quarters: int, steps: int, bits: int) -> tuple[float, float, int]:
    """Return a range of whole steps that begins at a quarter, so that ties are exact in floats."""
    lo = quarters / 4 * scale
    return lo, lo + min(steps, 2**bits - 1) * scale, bits


def _zero(lo: float, hi: float, bits: int, count: int = 0, sign: int = -1) -> tuple[float, float]:
    """Return the scale and the zero point before it is rounded."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = (hi - lo) / (count or 2**bits - 1) or 1.0
    return scale, sign * lo / scale


def _no_zero(lo: float, hi: float, bits: int) -> tuple[float, int]:
    scale = (hi - lo) / (2**bits - 1) or 1.0
    return scale, int(np.rint(-lo / scale))


AFFINE_GRID = Exercise(
    id="nb02.affine_grid",
    title="scale and zero point of a range",
    answer=affine_grid,
    cases=st.builds(
        _ends, draw.scales(), st.integers(-64, 8), st.integers(0, 300), draw.bits()
    ),
    truth=_grid,
    judge=closely(1e-9),
    returns="grid",
    edges=((0.0, 0.0, 8), (-3.0, -1.0, 2), (1.0, 3.0, 2), (-1.0, 5.0, 2), (-3.0, 3.0, 2)),
    hints=(
        "min(lo, 0.0) and max(hi, 0.0) are the ends that the grid covers.",
        "The greatest code is 2**bits - 1: that many steps lie between the ends.",
        "int(np.rint(-lo / scale)) is the zero point.",
    ),
    wrong=(
        Wrong("no_zero", "a range that was not extended to 0: its zero point may be no code",
              _no_zero),
        Wrong("codes_for_steps", "a range divided by 2**bits: there is one step less than codes",
              lambda lo, hi, bits: (_zero(lo, hi, bits, 2**bits)[0],
                                    int(np.rint(_zero(lo, hi, bits, 2**bits)[1])))),
        Wrong("floors", "a zero point rounded down where rounding to the nearest was meant",
              lambda lo, hi, bits: (_zero(lo, hi, bits)[0], int(_zero(lo, hi, bits)[1]))),
        Wrong("half_up", "a zero point whose ties go upwards, where they go to even",
              lambda lo, hi, bits: (_zero(lo, hi, bits)[0], int(_zero(lo, hi, bits)[1] + 0.5))),
        Wrong("real", "a zero point that was not rounded: it is a code, so an integer",
              lambda lo, hi, bits: _zero(lo, hi, bits)),
        Wrong("sign", "a zero point of lo / scale, which has the wrong sign",
              lambda lo, hi, bits: (_zero(lo, hi, bits)[0],
                                    int(np.rint(_zero(lo, hi, bits, sign=1)[1])))),
        Wrong("signed_steps", "a range divided by the greatest signed code, 2**(bits - 1) - 1",
              lambda lo, hi, bits: (_zero(lo, hi, bits, 2 ** (bits - 1) - 1)[0],
                                    int(np.rint(_zero(lo, hi, bits, 2 ** (bits - 1) - 1)[1])))),
        Wrong("both_ends", "both ends moved to 0, where the one nearer to it moves",
              lambda lo, hi, bits: affine_grid(lo, hi, bits) if lo <= 0 <= hi else (1.0, 0)),
    ),
)  # fmt: skip


def affine_codes(x: Array, scale: float, zero_point: int, bits: int) -> Array:
    """Return the codes of x [n] on an asymmetric grid, as int64: x / scale rounded, ties to even,
    then the zero point added, then clipped to [0, 2**bits - 1]."""
    codes = np.rint(x / scale).astype(np.int64) + zero_point
    return np.clip(codes, 0, 2**bits - 1)


def _codes(x: Array, scale: float, zero_point: int, bits: int) -> Array:
    q = quant.QParams(np.array(scale), bits, signed=False, zero_point=zero_point)
    return quant.quantize(x, q).astype(np.int64)


def _clip(codes: Array, bits: int) -> Array:
    clipped: Array = np.clip(codes, 0, 2**bits - 1).astype(np.int64)
    return clipped


AFFINE_CODES = Exercise(
    id="nb02.affine_codes",
    title="codes on an asymmetric grid",
    answer=affine_codes,
    cases=st.tuples(draw.vectors(), draw.scales(), st.integers(0, 3), draw.bits()),
    truth=_codes,
    returns="codes",
    edges=((np.array([0.5, 1.5]), 1.0, 1, 8), (np.array([-0.5, -2.0]), 1.0, 3, 2)),
    hints=(
        "Keep to the order: rounded, moved, clipped. Each of the three sees another number if they "
        "change places.",
        "np.clip(np.rint(x / scale) + zero_point, 0, 2**bits - 1)",
    ),
    wrong=(
        Wrong("moves_first", "a zero point added before rounding: an odd one turns ties over",
              lambda x, s, z, bits: _clip(np.rint(x / s + z), bits)),
        Wrong("clips_first", "clipping before the zero point is added",
              lambda x, s, z, bits: _clip(np.rint(x / s), bits) + z),
        Wrong("unclipped", "codes that are not clipped",
              lambda x, s, z, bits: (np.rint(x / s) + z).astype(np.int64)),
        Wrong("wraps", "codes that wrap round, as a cast to uint8 does",
              lambda x, s, z, bits: (np.rint(x / s) + z).astype(np.int64) % 2**bits),
        Wrong("subtracts", "a zero point subtracted, as it is on the way back to reals",
              lambda x, s, z, bits: _clip(np.rint(x / s) - z, bits)),
        Wrong("truncates", "truncation where rounding was meant",
              lambda x, s, z, bits: _clip(np.trunc(x / s) + z, bits)),
        Wrong("signed", "codes clipped to the signed range",
              lambda x, s, z, bits: np.clip(np.rint(x / s) + z, -(2 ** (bits - 1)),
                                            2 ** (bits - 1) - 1).astype(np.int64)),
        Wrong("in_units", "a zero point taken for a real number: x - zero_point, then divided",
              lambda x, s, z, bits: _clip(np.rint((x - z) / s), bits)),
    ),
)  # fmt: skip
