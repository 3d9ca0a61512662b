"""The exercises of notebook 09: sums and factors (Jacob et al. 2018, section 2.2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb09_floats import BEYOND, EXACT, LONGEST
from refvit.course.nb09_more import PROVED, RANGE, WORST
from refvit.course.nb09_rounding import REQUANTIZED, ROUNDS
from refvit.testing import strategies
from refvit.testing.extra import st

Array = NDArray[Any]


def accumulate(x: Array, weight: Array, bias: Array) -> Array:
    """Return weight @ x + bias, exactly, as int32 [N].

    x is int8 [K], weight int8 [N, K], bias int32 [N]. K is small enough that the sum fits int32.
    """
    return weight.astype(np.int32) @ x.astype(np.int32) + bias


def _layers() -> Any:
    def make(k: int, n: int) -> Any:
        code, offset = strategies.codes(), st.integers(-300, 300)
        rows = st.lists(st.lists(code, min_size=k, max_size=k), min_size=n, max_size=n)
        return st.tuples(
            st.lists(code, min_size=k, max_size=k).map(lambda v: np.array(v, np.int8)),
            rows.map(lambda v: np.array(v, np.int8)),
            st.lists(offset, min_size=n, max_size=n).map(lambda v: np.array(v, np.int32)),
        )

    return st.tuples(st.integers(1, 3), st.integers(1, 2)).flatmap(lambda kn: make(*kn))


LEAST = np.full(4, -128, np.int8)
LONG = np.append(np.full(1024, -128), 1).astype(np.int8)  # 2**24 + 1, as section 6 has it
ACCUMULATE = Exercise(
    id="nb09.accumulate",
    title="the sum of products of codes",
    answer=accumulate,
    cases=_layers(),
    edges=tuple((row, row[None], np.zeros(1, np.int32)) for row in (LEAST, LONG)),
    returns="accumulators",
    hints=(
        "NumPy computes int8 @ int8 in int8 and says nothing when it wraps.",
        "Cast both operands with .astype(np.int32) before the product.",
    ),
    wrong=(
        Wrong("wraps8", "a product that was taken in int8 and wrapped: cast before it, not after",
              lambda x, weight, bias: (weight @ x).astype(np.int32) + bias),
        Wrong("wraps16", "int16, which holds one product but not a sum of several",
              lambda x, weight, bias:
              (weight.astype(np.int16) @ x.astype(np.int16)).astype(np.int32) + bias),
        Wrong("saturates", "a sum saturated to 8 bits: that comes later, after the scale",
              lambda x, weight, bias: np.clip(accumulate(x, weight, bias), -128, 127)),
        Wrong("no_bias", "a sum without the bias",
              lambda x, weight, bias: accumulate(x, weight, bias * 0)),
        Wrong("short_bias", "a bias forced into int8: it is int32, at the scale of the sum",
              lambda x, weight, bias: accumulate(x, weight, bias.astype(np.int8))),
        Wrong("in_float32", "a sum in float32, which is rounded beyond 2**24",
              lambda x, weight, bias:
              (weight.astype(np.float32) @ x.astype(np.float32)).astype(np.int32) + bias),
    ),
)  # fmt: skip


def dyadic_pair(real: float) -> tuple[int, int]:
    """Return whole numbers (m, n) with real ~ m / 2**n and 2**23 <= |m| < 2**24.

    2**-20 < |real| < 2**20. m is the nearest there is, ties to even, with the sign of real.
    Rounding may make |m| = 2**24: then it is halved, and n is one less.
    """
    fraction, exponent = math.frexp(real)
    m, n = round(fraction * 2**24), 24 - exponent
    return (m // 2, n - 1) if abs(m) == 2**24 else (m, n)


def _pair(real: float) -> tuple[int, int]:
    m, n = refvit.integer.dyadic(real)
    return int(m), int(n)


def _uncarried(real: float, bits: int = 24, whole: Any = round) -> tuple[int, int]:
    fraction, exponent = math.frexp(real)
    return whole(fraction * 2**bits), bits - exponent


def _carried(m: int, n: int) -> tuple[int, int]:
    return (m // 2, n - 1) if abs(m) == 2**24 else (m, n)


def _at(real: float, n: int) -> tuple[int, int]:
    return round(real * 2.0**n), n


def _factors() -> Any:
    plain = st.sampled_from([1.0, 0.5, 0.3, 0.75, 2.0, 3.0, 1 / 3, 100.0, -0.3, -2.5])
    carried = st.integers(-9, 9).map(lambda e: (1 - 2.0**-26) * 2.0**e)
    ties = st.builds(lambda m, e: (m + 0.5) * 2.0**e, st.integers(2**23, 2**24 - 1),
                     st.integers(-40, -8))  # fmt: skip
    either = plain | carried | ties | strategies.factors(-19, 19)
    return st.builds(lambda r, s: (r * s,), either, st.sampled_from([1, 1, -1]))


DYADIC = Exercise(
    id="nb09.dyadic_pair",
    title="a real factor as multiplier and shift",
    answer=dyadic_pair,
    cases=_factors(),
    edges=((1 - 2.0**-26,), (-0.3,), (0.7,)),
    truth=_pair,
    returns="pair",
    hints=(
        "math.frexp(real) returns fraction and exponent: real = fraction * 2**exponent, and "
        "1/2 <= |fraction| < 1.",
        "So fraction * 2**24 is of the right size, and n = 24 - exponent; round() rounds half to "
        "even. Last look at |m| = 2**24.",
    ),
    wrong=(
        Wrong("truncates", "a multiplier that was cut off where it is rounded",
              lambda real: _uncarried(real, whole=int)),
        Wrong("floors", "a multiplier rounded down",
              lambda real: _uncarried(real, whole=math.floor)),
        Wrong("no_carry", "a multiplier of 2**24, which has 25 bits: halve it and shift one less",
              _uncarried),
        Wrong("one_bit_less", "a multiplier of 23 bits: one bit of precision is given away",
              lambda real: _uncarried(real, 23)),
        Wrong("unsigned", "a multiplier without its sign", lambda real: dyadic_pair(abs(real))),
        Wrong("half_up", "ties rounded up, where they go to even",
              lambda real: _carried(*_uncarried(real, whole=lambda x: math.floor(x + 0.5)))),
        Wrong("log2", "ceil(log2), which at a power of two is one less than frexp's exponent",
              lambda real: _at(real, 24 - math.ceil(math.log2(abs(real))))),
        Wrong("left", "a shift with the wrong sign: n counts places to the right",
              lambda real: (dyadic_pair(real)[0], -dyadic_pair(real)[1])),
    ),
)  # fmt: skip


EXERCISES = (
    ACCUMULATE, DYADIC, REQUANTIZED, ROUNDS, RANGE, WORST, PROVED, LONGEST, EXACT, BEYOND,
)  # fmt: skip
