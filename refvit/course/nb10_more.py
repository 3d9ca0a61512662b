"""Exercises of notebook 10: GELU on all of 256 codes, and what the codes of softmax keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.integer.kernels.released import ibert_gelu
from refvit.ops import functional as F
from refvit.testing import reference
from refvit.testing.extra import st

Array = NDArray[Any]


def gelu_is_near(gelu: Any, scale: float) -> bool:
    """Return whether gelu(q, scale) is right for every code q from -128 to 127.

    q is int8 [N] and stands for scale * q; gelu returns codes [N], integers at the same scale.
    Right is within 0.02 + scale / 2 of the exact F.gelu(scale * q), which is float64 [N]: the
    polynomial's error and half a step of rounding. This is a property: true of every kernel so
    good, and false of a faulty one, be it at one code only.
    """
    q = np.arange(-128, 128).astype(np.int8)
    error = np.abs(scale * gelu(q, scale) - F.gelu(scale * q))
    return bool(np.all(error <= 0.02 + scale / 2))


def exact(q: Array, scale: float) -> Array:
    """Return the exact GELU, rounded to a code."""
    return np.rint(F.gelu(scale * q) / scale).astype(np.int64)


def polynomial(q: Array, scale: float) -> Array:
    """Return the codes of refvit's kernel."""
    return reference.gelu(scale)(q)


def _at(code: int) -> Any:
    def faulty(q: Array, scale: float) -> Array:
        off = 2 + int(0.04 / scale)
        return np.where(q == code, exact(q, scale) + off, exact(q, scale))

    return faulty


def _relu(q: Array, scale: float) -> Array:
    return np.maximum(q, 0)


def _floored(q: Array, scale: float) -> Array:
    return np.floor(F.gelu(scale * q) / scale).astype(np.int64)


def _wrapped(q: Array, scale: float) -> Array:
    return np.where(q == -128, q, exact(q, scale))  # abs(-128) of int8 is -128


def _too_low(q: Array, scale: float) -> Array:
    return exact(q, scale) - 2 - int(0.04 / scale)


def _typed(q: Array, scale: float) -> Array:
    codes, step = ibert_gelu(q, scale)
    return np.rint(codes * step / scale).astype(np.int64)


def _errors(gelu: Any, scale: float, low: int = -128, high: int = 128, step: int = 1) -> Array:
    q = np.arange(low, high, step).astype(np.int8)
    return np.asarray(scale * gelu(q, scale) - F.gelu(scale * q))


def _within(errors: Array, scale: float, most: float = 0.02) -> bool:
    return bool(np.all(np.abs(errors) <= most + scale / 2))


NEAR = Exercise(
    id="nb10.gelu_is_near",
    title="a property: GELU, on all of 256 codes",
    answer=gelu_is_near,
    cases=st.tuples(st.sampled_from([1 / 16, 1 / 32, 1 / 64, 1 / 20, 4 / 127])),
    returns="property",
    hints=(
        "An int8 has 256 values: try them all, -128 too. np.arange(-128, 128).astype(np.int8).",
        "Compare reals: scale * gelu(q, scale) with F.gelu(scale * q), by np.abs, at every code.",
    ),
    tried=Tried(
        right=(exact, polynomial),
        faulty=(
            Wrong("relu", "ReLU in place of GELU", _relu),
            Wrong("typed_in", "I-BERT's polynomial after a shift of 14", _typed),
            Wrong("least_code", "a fault at -128 alone, as abs() in int8 makes", _wrapped),
            *(
                Wrong(f"code_{code}", f"a fault at the code {code} alone", _at(code))
                for code in (37, -61, 1, 126, 127, -90, 74)
            ),
            Wrong("too_low", "values that are all too low", _too_low),
            Wrong("floored", "codes that are rounded down, off by up to a whole step", _floored),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda gelu, scale: True),
        Wrong("symmetric_range", "codes from -127 on: -128 is one, too",
              lambda gelu, scale: _within(_errors(gelu, scale, -127), scale)),
        Wrong("positive_half", "codes from 0 on: half of them",
              lambda gelu, scale: _within(_errors(gelu, scale, 0), scale)),
        Wrong("every_fourth", "a sample of the codes: there are only 256, so try all",
              lambda gelu, scale: _within(_errors(gelu, scale, step=4), scale)),
        Wrong("on_average", "a mean error, which a single fault hardly moves",
              lambda gelu, scale: bool(np.abs(_errors(gelu, scale)).mean() <= 0.02 + scale / 2)),
        Wrong("signed", "errors with their sign, so that too low is never wrong",
              lambda gelu, scale: bool(np.all(_errors(gelu, scale) <= 0.02 + scale / 2))),
        Wrong("no_half_step", "no room for the rounding to a code, which costs half a step",
              lambda gelu, scale: _within(_errors(gelu, scale), scale, 0.02 - scale / 2)),
        Wrong("generous", "a tenfold bound, which ReLU keeps",
              lambda gelu, scale: _within(_errors(gelu, scale), scale, 0.2)),
    ),
)  # fmt: skip


def uniform_mass(tokens: int) -> float:
    """Predict what the 8-bit codes of a row of `tokens` equal scores sum to, as a probability.

    refvit rounds each probability to the nearest multiple of 1 / 255; exact, the row sums to 1.
    1 <= tokens <= 400, and 255 / tokens is never a tie. Return a float.
    """
    return tokens * round(255 / tokens) / 255


def _by_kernel(tokens: int) -> float:
    return int(reference.softmax(0.5)(np.zeros(tokens, np.int8)).sum()) / 255


MASS = Exercise(
    id="nb10.uniform_mass",
    title="predict what a row of equal scores keeps",
    answer=uniform_mass,
    cases=st.tuples(st.integers(1, 400).filter(lambda n: 510 % n or not 255 % n)),
    edges=((197,), (65,), (400,)),
    truth=_by_kernel,
    judge=closely(1e-9),
    returns="mass",
    hints=(
        "Each of the tokens has the probability 1 / tokens. How many steps of 1 / 255 is that?",
        "Round that number of steps, and multiply by the tokens again.",
    ),
    wrong=(
        Wrong("one", "a sum of one, as if codes could hold 1 / tokens", lambda tokens: 1.0),
        Wrong("floored", "codes rounded down, which is what Shiftmax does, not refvit",
              lambda tokens: tokens * (255 // tokens) / 255),
        Wrong("up", "codes rounded up", lambda tokens: tokens * math.ceil(255 / tokens) / 255),
        Wrong("steps_of_256", "steps of 1 / 256: the greatest of 8-bit codes is 255",
              lambda tokens: tokens * round(256 / tokens) / 256),
        Wrong("one_code", "the code of one token, not the sum of the row",
              lambda tokens: round(255 / tokens) / 255),
    ),
)  # fmt: skip
