"""The exercises of notebook 03: one scale for a tensor, a row, or a group of weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb03_errors import ROW_ERRORS, UNLUCKY
from refvit.course.nb03_groups import BYTES, EFFECTIVE, GROUPS
from refvit.course.nb03_packing import PACK, TELLS_APART, UNPACK
from refvit.testing.extra import st

Array = NDArray[Any]


def row_scales(w: Array, bits: int) -> Array:
    """Return the scale of every row of w [R, C] on symmetric grids of `bits` bits (2 to 8), as
    floats [R].

    The scale of a row is its max|w| / (2**(bits - 1) - 1), or 1 for a row that is all zero.
    """
    largest = np.abs(w).max(axis=1)
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


def _scales(w: Array, bits: int) -> Array:
    return quant.symmetric(np.abs(w).max(1), bits, axis=0).scale


def _or_one(largest: Array, steps: int) -> Array:
    return np.where(largest > 0, largest / steps, 1.0)


ROW_SCALES = Exercise(
    id="nb03.row_scales",
    title="a scale for every row",
    answer=row_scales,
    cases=st.tuples(draw.matrices(), draw.bits()),
    truth=_scales,
    judge=closely(1e-9),
    returns="scales",
    edges=((np.array([[-2.0, 1.0], [0.0, 0.0], [0.5, 0.25]]), 3),),
    hints=(
        "np.abs(w).max(axis=1) is the largest magnitude of every row.",
        "np.where(largest > 0, ..., 1.0) takes care of rows of zeros.",
    ),
    wrong=(
        Wrong("columns", "a scale for every column: rows are the first axis, so axis=1 is reduced",
              lambda w, bits: _or_one(np.abs(w).max(0), 2 ** (bits - 1) - 1)),
        Wrong("one_sided", "a scale from the largest weight where the largest magnitude was meant",
              lambda w, bits: _or_one(w.max(1), 2 ** (bits - 1) - 1)),
        Wrong("tensor", "the scale of the whole tensor, repeated",
              lambda w, bits: np.full(len(w), _or_one(np.abs(w).max(), 2 ** (bits - 1) - 1))),
        Wrong("kept_axis", "an axis of length 1 that was kept: the shape is (R,)",
              lambda w, bits: _or_one(np.abs(w).max(1, keepdims=True), 2 ** (bits - 1) - 1)),
        Wrong("zero", "a scale of 0 for a row of zeros, by which nothing can be divided",
              lambda w, bits: np.abs(w).max(1) / (2 ** (bits - 1) - 1)),
        Wrong("full_range", "a scale that divides by 2**(bits - 1), whose top is out of reach",
              lambda w, bits: _or_one(np.abs(w).max(1), 2 ** (bits - 1))),
    ),
)  # fmt: skip


def row_levels(bits: int, ratio: float) -> int:
    """Predict how many different codes the weights of one row can get on the symmetric grid of a
    whole matrix: `bits` bits (2 to 8), its code 2**(bits - 1) - 1 stands for the largest magnitude
    of the matrix, and that of the row is `ratio` times smaller (ratio >= 1). Ties go to even.
    """
    top = 2 ** (bits - 1) - 1
    return 2 * int(np.rint(top / ratio)) + 1


def _count_levels(bits: int, ratio: float) -> int:
    top = 2 ** (bits - 1) - 1
    grid = quant.symmetric(float(top), bits, restricted=True)
    row = np.linspace(-top / ratio, top / ratio, 4001)
    return len(np.unique(quant.quantize(row, grid)))


ROW_LEVELS = Exercise(
    id="nb03.row_levels",
    title="a prediction: codes left for a small row",
    answer=row_levels,
    cases=st.tuples(draw.bits(), st.sampled_from([1.0, 2.0, 3.0, 4.0, 1.5, 8.0, 16.0, 64.0])),
    truth=_count_levels,
    returns="count",
    hints=(
        "What is the code of the largest weight of the row? It is (2**(bits - 1) - 1) / ratio, "
        "rounded.",
        "There are as many codes below 0 as above, and 0.",
    ),
    wrong=(
        Wrong("floor", "a greatest code that is rounded down, where it is rounded to the nearest",
              lambda bits, ratio: 2 * int((2 ** (bits - 1) - 1) / ratio) + 1),
        Wrong("half_up", "a greatest code whose ties go upwards, where they go to even",
              lambda bits, ratio: 2 * int((2 ** (bits - 1) - 1) / ratio + 0.5) + 1),
        Wrong("no_zero", "codes above and below 0, without 0 itself",
              lambda bits, ratio: 2 * int(np.rint((2 ** (bits - 1) - 1) / ratio))),
        Wrong("one_side", "the codes from 0 up: a row has both signs",
              lambda bits, ratio: int(np.rint((2 ** (bits - 1) - 1) / ratio)) + 1),
        Wrong("share", "a share of all 2**bits codes", lambda bits, ratio: int(2**bits / ratio)),
        Wrong("all", "all codes of the restricted range, as if the row had a scale of its own",
              lambda bits, ratio: 2**bits - 1),
        Wrong("lost_bits", "2 to the power of the bits that are left: codes come in pairs and 0",
              lambda bits, ratio: 2 ** max(0, int(bits - np.log2(ratio)))),
    ),
)  # fmt: skip


def scaled_product(codes: Array, scales: Array, x: Array) -> Array:
    """Return the product of a weight matrix with a vector as float64 [R]: the weights are
    scales[r] * codes[r, c] with codes int8 [R, C] and scales float64 [R], and x is int8 [C].

    Sum integers, and multiply each sum once. A sum needs int32: in int8 it wraps.
    """
    sums = codes.astype(np.int32) @ x.astype(np.int32)
    return sums * scales


def _slowly(codes: Array, scales: Array, x: Array) -> Array:
    rows = [[int(q) * int(v) for q, v in zip(row, x, strict=True)] for row in codes]
    return np.array([math.fsum(s * p for p in row) for row, s in zip(rows, scales, strict=True)])


def _products() -> st.SearchStrategy[tuple[Array, Array, Array]]:
    int8 = st.integers(-3, 3) | st.integers(-128, 127)
    matrix = draw.matrices((1, 3), (1, 3), int8, np.int8)
    return matrix.flatmap(lambda m: st.tuples(
        st.just(m), draw.vectors(len(m), len(m), draw.scales()),
        draw.vectors(m.shape[1], m.shape[1], int8, np.int8)))  # fmt: skip


SCALED_PRODUCT = Exercise(
    id="nb03.scaled_product",
    title="the scale of a row leaves its sum",
    answer=scaled_product,
    cases=_products(),
    truth=_slowly,
    judge=closely(1e-9),
    returns="product",
    edges=(
        (np.full((1, 3), 127, np.int8), np.array([1.0]), np.full(3, 127, np.int8)),
        (np.array([[1, 2], [3, 4]], np.int8), np.array([1.0, 0.5]), np.array([50, 1], np.int8)),
        (np.array([[3]], np.int8), np.array([0.1]), np.array([1], np.int8)),  # not a float32
    ),
    hints=(
        "codes.astype(np.int32) first; then @ sums over the columns.",
        "Every row has one sum and one scale: sums * scales.",
    ),
    wrong=(
        Wrong("wraps", "a sum in int8, which wraps beyond 127",
              lambda codes, scales, x: (codes @ x) * scales),
        Wrong("products_wrap", "products in int8, which wrap beyond 127 before they are summed",
              lambda codes, scales, x: (codes * x).sum(1) * scales),
        Wrong("wraps_later", "a sum in int16, which wraps beyond 32767",
              lambda codes, scales, x: (codes.astype(np.int16) @ x.astype(np.int16)) * scales),
        Wrong("on_columns", "scales multiplied to x, whose elements belong to columns",
              lambda codes, scales, x: codes.astype(np.int32) @ (x * scales)),
        Wrong("unscaled", "sums without their scales",
              lambda codes, scales, x: codes.astype(np.float64) @ x),
        Wrong("one_scale", "the largest scale for every row",
              lambda codes, scales, x: codes.astype(np.float64) @ x * scales.max()),
        Wrong("summed", "one number: the rows were summed as well",
              lambda codes, scales, x: scales @ (codes.astype(np.float64) @ x)),
        Wrong("divides", "sums divided by the scales, as they are on the way to codes",
              lambda codes, scales, x: codes.astype(np.float64) @ x / scales),
    ),
)  # fmt: skip


EXERCISES = (
    ROW_SCALES, ROW_LEVELS, SCALED_PRODUCT, ROW_ERRORS, UNLUCKY, GROUPS, EFFECTIVE, BYTES, PACK,
    UNPACK, TELLS_APART,
)  # fmt: skip
