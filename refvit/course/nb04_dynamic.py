"""Exercises of notebook 04: grids that are found when the value comes (Du, Gong and Chu 2024,
section II-C)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.quant import DynamicGrid
from refvit.testing.extra import st

Array = NDArray[Any]


def token_codes(x: Array, bits: int) -> tuple[Array, Array]:
    """Return (codes, scales) of x [N, C], quantized dynamically: a symmetric scale for each row.

    The scale of a row is max|row| / (2**(bits - 1) - 1), or 1 where the row is all zero: float64
    [N]. A code is the element over its row's scale, rounded by np.rint: int64 [N, C]. Bits 2 to 8.
    """
    largest = np.abs(x).max(axis=1)
    scales = np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)
    return np.rint(x / scales[:, None]).astype(np.int64), scales


def _per_token(x: Array, bits: int, largest: Array, top: int = 0) -> tuple[Array, Array]:
    scales = np.where(largest > 0, largest / (top or 2 ** (bits - 1) - 1), 1.0)
    return np.rint(x / scales[:, None]).astype(np.int64), scales


TOKEN_CODES = Exercise(
    id="nb04.token_codes",
    title="a scale for each token, found when it comes",
    answer=token_codes,
    cases=st.tuples(draw.matrices(), draw.bits()),
    returns="codes and scales",
    judge=closely(1e-9),
    hints=(
        "np.abs(x).max(axis=1) has one number for each row.",
        "scales[:, None] is a column, and divides every row by its own; np.where mends zero rows.",
    ),
    wrong=(
        Wrong("per_tensor", "one scale for all rows",
              lambda x, bits: _per_token(x, bits, np.full(len(x), np.abs(x).max()))),
        Wrong("per_channel", "a scale for each column where each row was meant",
              lambda x, bits: (token_codes(x.T, bits)[0].T, token_codes(x.T, bits)[1])),
        Wrong("one_sided", "scales from max(row) where max|row| was meant",
              lambda x, bits: _per_token(x, bits, x.max(axis=1))),
        Wrong("kept_dims", "scales of shape [N, 1] where [N] was meant",
              lambda x, bits: (token_codes(x, bits)[0], token_codes(x, bits)[1][:, None])),
        Wrong("full_range", "a scale that divides by 2**(bits - 1), whose top is out of reach",
              lambda x, bits: _per_token(x, bits, np.abs(x).max(axis=1), 2 ** (bits - 1))),
        Wrong("divides_by_zero", "a division by 0: a row of zeros has the scale 1",
              lambda x, bits: (
                  np.rint(x / (np.abs(x).max(axis=1) / (2 ** (bits - 1) - 1))[:, None]).astype(
                      np.int64),
                  np.abs(x).max(axis=1) / (2 ** (bits - 1) - 1))),
        Wrong("zero_scale", "the scale 0 for a row of zeros where 1 was meant",
              lambda x, bits: (token_codes(x, bits)[0],
                               np.abs(x).max(axis=1) / (2 ** (bits - 1) - 1))),
        Wrong("turned_round", "(scales, codes), where the codes come first",
              lambda x, bits: token_codes(x, bits)[::-1]),
    ),
)  # fmt: skip


def is_scale_equivariant(encode: Any, x: Array, e: int) -> bool:
    """Return whether encode(x), which returns codes [n], gives the values x [n] times 2.0**e the
    same codes as x.

    This is a property: true of every dynamic quantizer, whose scale grows with x, for every e (-3
    to 3), and false of one whose range was fixed before.
    """
    return bool(np.array_equal(encode(x * 2.0**e), encode(x)))


def symmetric_dynamic(x: Array) -> Array:
    """Return codes -7 to 7 on a grid of x itself."""
    return np.asarray(DynamicGrid(4).encode(x))


def asymmetric_dynamic(x: Array) -> Array:
    """Return codes 0 to 15, with a zero point of x itself."""
    return np.asarray(DynamicGrid(4, signed=False, symmetric=False).encode(x))


def _clipped(x: Array, scale: float) -> Array:
    return np.clip(np.rint(x / scale), -7, 7).astype(np.int64)


def _floored(x: Array) -> Array:
    return _clipped(x, max(np.abs(x).max(), 1.0) / 7)


def _if_large(x: Array, turn: Any) -> Array:
    """Dynamic codes, changed by `turn` where x reaches 1."""
    codes = symmetric_dynamic(x)
    return np.asarray(turn(codes) if np.abs(x).max() >= 1 else codes)


EQUIVARIANT = Exercise(
    id="nb04.is_scale_equivariant",
    title="a property: dynamic codes do not see the scale of their input",
    answer=is_scale_equivariant,
    cases=st.tuples(draw.vectors(1, 4), st.integers(-3, 3)),
    returns="property",
    hints=("Encode x and x * 2.0**e, and compare all the codes: np.array_equal.",),
    tried=Tried(
        right=(symmetric_dynamic, asymmetric_dynamic),
        faulty=(
            Wrong("static", "a scale fixed before", lambda x: _clipped(x, 0.5)),
            Wrong("floored", "a scale that is never below 1/7, against division by 0", _floored),
            Wrong("capped", "a scale that is never above 8/7, against outliers",
                  lambda x: _clipped(x, (min(np.abs(x).max(), 8.0) or 7.0) / 7)),
            Wrong("first_is_max", "a fixed scale for all but the largest values",
                  lambda x: np.where(np.abs(x) == np.abs(x).max(), 7 * np.sign(x),
                                     _clipped(x, 1.0)).astype(np.int64)),
            Wrong("reverses", "codes in the reverse order where x reaches 1",
                  lambda x: _if_large(x, lambda codes: codes[::-1])),
            Wrong("turns", "codes of the other sign where x reaches 1",
                  lambda x: _if_large(x, np.negative)),
            Wrong("last_of_many", "a fixed scale for the last of three and more elements",
                  lambda x: np.where(np.arange(len(x)) < max(2, len(x) - 1),
                                     symmetric_dynamic(x), _clipped(x, 0.5))),
            Wrong("ends_alone", "a fixed scale for all but the first and the last element",
                  lambda x: np.where(np.isin(np.arange(len(x)), (0, len(x) - 1)),
                                     symmetric_dynamic(x), _clipped(x, 0.5))),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda encode, x, e: True),
        Wrong("largest", "a look at the largest element only: its code is the top of any grid",
              lambda encode, x, e: bool(
                  encode(x * 2.0**e)[np.abs(x).argmax()] == encode(x)[np.abs(x).argmax()])),
        Wrong("any", "any code where all of them were meant",
              lambda encode, x, e: bool(np.any(encode(x * 2.0**e) == encode(x)))),
        Wrong("shrunk_only", "smaller inputs only: a scale with a cap is not seen",
              lambda encode, x, e: bool(np.array_equal(
                  encode(x * 2.0**(-3 - abs(e))), encode(x / 8)))),
        Wrong("grows", "codes that grow with x, as those of a fixed scale do",
              lambda encode, x, e: bool(np.array_equal(
                  encode(x * 2.0**e), np.rint(encode(x) * 2.0**e)))),
        Wrong("odd", "a sign that turns the codes, which a zero point does not allow",
              lambda encode, x, e: bool(np.array_equal(encode(-x), -encode(x)))),
        Wrong("sorted", "a comparison of sorted codes: the right ones in other places",
              lambda encode, x, e: bool(np.array_equal(
                  np.sort(encode(x * 2.0**e)), np.sort(encode(x))))),
        Wrong("magnitudes", "a comparison of codes without their sign",
              lambda encode, x, e: bool(np.array_equal(
                  np.abs(encode(x * 2.0**e)), np.abs(encode(x))))),
    ),
)  # fmt: skip


def run_time_scales() -> int:
    """Predict how many scales the four blocks of nano_vit find for one image, if every value of 8
    bits has a dynamic scale for each row [..., C], as the table above lists them."""
    return 4 * 65 * (1 + 3 + 4 + 4 + 4 + 1 + 1 + 1)


class _Rows:
    """A tap that counts the rows of what recipe w8a8 keeps in 8 bits inside blocks."""

    count = 0

    def __call__(self, site: str, value: Any) -> Any:
        recipe = refvit.quant.PRESETS["w8a8"]
        inside = site.startswith("blocks.") and not site.endswith(("weight", "bias"))
        if inside and recipe.spec(site).bits == 8:
            self.count += int(np.prod(value.shape[:-1]))
        return value


def _counted() -> int:
    model, rows = refvit.random("nano_vit"), _Rows()
    model(np.zeros((1, 3, 32, 32), np.float32), tap=rows)
    return rows.count


RUN_TIME_SCALES = Exercise(
    id="nb04.run_time_scales",
    title="predict how many scales one image needs at run time",
    answer=run_time_scales,
    cases=st.just(()),
    truth=_counted,
    returns="number of scales",
    hints=(
        "A value [1, heads, tokens, C] has heads * tokens rows, and as many scales.",
        "Each of four blocks has seven values of 65 rows, and three of 4 * 65.",
    ),
    wrong=(
        Wrong("one_block", "one block where there are four", lambda: 65 * 19),
        Wrong("no_heads", "one row for a token where each head has one", lambda: 4 * 65 * 10),
        Wrong("per_tensor", "one scale for a value where every row has one", lambda: 4 * 10),
        Wrong("heads_everywhere", "heads in every value, though only three have them",
              lambda: 4 * 65 * 4 * 10),
    ),
)  # fmt: skip
