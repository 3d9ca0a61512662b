"""The exercises of notebook 03 on errors: what a scale for every row promises, and what not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def row_errors_are_bounded(round_to: Any, w: Array, bits: int) -> bool:
    """Return whether round_to(w, bits), which returns w [R, C] rounded as reals [R, C], is nowhere
    off by more than half the step that its row alone needs, max|row| / (2**(bits - 1) - 1).

    Allow floats a relative 1e-9. This is a property: true where each row has a scale of its own,
    or its parts have, and false of a coarser quantizer for some w.
    """
    step = np.abs(w).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return bool(np.all(np.abs(round_to(w, bits) - w) <= step / 2 * (1 + 1e-9)))


def _with(w: Array, largest: Array, bits: int, way: Any = np.rint) -> Array:
    step = np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)
    rounded: Array = way(w / step) * step
    return rounded


def by_rows(w: Array, bits: int) -> Array:
    """Return w rounded with a scale for every row."""
    return _with(w, np.abs(w).max(1, keepdims=True), bits)


def by_pairs(w: Array, bits: int) -> Array:
    """Return w rounded with a scale for every two weights of a row: finer, and right as well."""
    q = quant.symmetric(quant.grouped(w, 2), bits, axis=0, group=2)
    return quant.fake_quantize(w, q)


def _half(round_to: Any, w: Array, largest: Array, bits: int) -> bool:
    error = np.abs(round_to(w, bits) - w)
    return bool(np.all(error <= largest / (2 ** (bits - 1) - 1) / 2 * (1 + 1e-9)))


def _inner(w: Array, bits: int) -> Array:
    """Return w as it is, but for the second column of rows between the first and the last."""
    moved = w.copy()
    moved[1:-1, 1:2] += 0.6 * np.abs(w[1:-1]).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    return moved


ROW_ERRORS = Exercise(
    id="nb03.row_errors_are_bounded",
    title="a property: each row is off by half of its own step",
    answer=row_errors_are_bounded,
    cases=st.tuples(draw.matrices((1, 4), (1, 3)), draw.bits()),
    returns="property",
    edges=(
        (by_rows, np.array([[7.0, 3.5], [0.5, 0.25]]), 4),
        (by_rows, np.array([[3.0, 0.0], [2.0, 1.0]]), 3),
    ),
    hints=(
        "np.abs(w).max(axis=1, keepdims=True) has the shape [R, 1], which goes with every column.",
        "The bound is half of the step, and every single error has to keep it.",
    ),
    tried=Tried(
        right=(by_rows, by_pairs),
        faulty=(
            Wrong("by_tensor", "one scale for the whole tensor",
                  lambda w, bits: _with(w, np.abs(w).max(), bits)),
            Wrong("by_columns", "a scale for every column",
                  lambda w, bits: _with(w, np.abs(w).max(0), bits)),
            Wrong("truncates", "scales of rows, and truncation",
                  lambda w, bits: _with(w, np.abs(w).max(1, keepdims=True), bits, np.trunc)),
            Wrong("downwards", "scales of rows, and rounding down",
                  lambda w, bits: _with(w, np.abs(w).max(1, keepdims=True), bits, np.floor)),
            Wrong("late", "scales of rows, and rounding up only from three quarters on",
                  lambda w, bits: _with(w, np.abs(w).max(1, keepdims=True), bits,
                                        lambda x: np.copysign(np.floor(np.abs(x) + 0.25), x))),
            Wrong("coarse", "scales of rows, each four times too large",
                  lambda w, bits: _with(w, 4 * np.abs(w).max(1, keepdims=True), bits)),
            Wrong("inner", "one weight of each inner row off by 0.6 of its step, all others exact",
                  _inner),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda round_to, w, bits: True),
        Wrong("tensor_step", "a bound by the step of the whole tensor, which one scale keeps",
              lambda round_to, w, bits: _half(round_to, w, np.abs(w).max(), bits)),
        Wrong("column_step", "a bound by the step of each column: rows are the first axis",
              lambda round_to, w, bits: _half(round_to, w, np.abs(w).max(0), bits)),
        Wrong("whole_step", "a bound of a whole step, which truncation keeps",
              lambda round_to, w, bits: _half(
                  round_to, w, 2 * np.abs(w).max(1, keepdims=True), bits)),
        Wrong("signed", "an error with its sign, so that any error downwards is accepted",
              lambda round_to, w, bits: bool(np.all((round_to(w, bits) - w) <= np.abs(w).max(
                  1, keepdims=True) / (2 ** (bits - 1) - 1) / 2 * (1 + 1e-9)))),
        Wrong("mean", "a bound on the mean error of a row, above which single ones may be",
              lambda round_to, w, bits: bool(np.all(
                  np.abs(round_to(w, bits) - w).mean(1)
                  <= np.abs(w).max(1) / (2 ** (bits - 1) - 1) / 2 * (1 + 1e-9)))),
        Wrong("full_range", "a step of max|row| / 2**(bits - 1), which is smaller than needed",
              lambda round_to, w, bits: bool(np.all(
                  np.abs(round_to(w, bits) - w)
                  <= np.abs(w).max(1, keepdims=True) / 2 ** (bits - 1) / 2 * (1 + 1e-9)))),
        Wrong("less_than_tensor", "a comparison of summed squares, in which rows may be unlucky",
              lambda round_to, w, bits: bool(
                  np.square(round_to(w, bits) - w).sum()
                  <= np.square(_with(w, np.abs(w).max(), bits) - w).sum() * (1 + 1e-9))),
    ),
)  # fmt: skip


def unlucky_weights() -> Array:
    """Find weights [2, 2], floats, for which a scale for every row is worse than one scale for all:
    the sum of their squared errors at 3 bits, symmetric, is larger by more than 0.01 of max|w|**2.
    """
    return np.array([[3.0, 0.0], [2.0, 1.0]])


def _squares(w: Array) -> tuple[float, float]:
    """Return the summed squared errors at 3 bits by rows, and with one scale."""
    one = _with(w, np.abs(w).max(), 3)
    return float(np.square(by_rows(w, 3) - w).sum()), float(np.square(one - w).sum())


def _is_unlucky(found: Any, expected: Any) -> str:
    """Judge weights by their errors: many are right."""
    if not isinstance(found, np.ndarray) or found.shape != (2, 2) or found.dtype.kind != "f":
        return "it is no array of floats of shape (2, 2): np.array([[..., ...], [..., ...]])"
    if not np.isfinite(found).all():
        return "it has elements that are not finite"
    rows, one = _squares(found)
    if rows - one > 0.01 * np.square(found).max():
        return ""
    return f"its squared errors are {rows:.4g} by rows, {one:.4g} with one scale"


UNLUCKY = Exercise(
    id="nb03.unlucky_weights",
    title="weights that prefer one scale",
    answer=unlucky_weights,
    cases=st.tuples(),
    truth=lambda: "a larger error by rows",
    judge=_is_unlucky,
    returns="weights",
    hints=(
        "Put every weight on the grid of the whole tensor: with 3 in the first row its scale is 1.",
        "The second row needs a largest weight with which its other weight is not on its own grid: "
        "2 gives a step of 2/3.",
    ),
    wrong=(
        Wrong("alike", "rows of the same range: both ways are the same then",
              lambda: np.array([[1.0, 0.3], [0.7, -1.0]])),
        Wrong("zeros", "rows without any error: neither way is worse", lambda: np.zeros((2, 2))),
        Wrong("far_apart", "rows of very different size, where a scale for each is far better",
              lambda: np.array([[100.0, 30.0], [1.0, 0.3]])),
        Wrong("integers", "integers: 3.0 is a float", lambda: np.array([[3, 0], [2, 1]])),
    ),
)  # fmt: skip
