"""GPTQ: weights are rounded one after another, and those still to come make up for the error.

The output error of a linear is a quadratic form in its weights' error, with the second moment of
its inputs as the matrix; rows are independent (Frantar, Ashkboos, Hoefler and Alistarh 2023,
section 3 and algorithm 1, after Hassibi and Stork 1993).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import QParams

Array = NDArray[Any]


def gptq(
    weight: Array, grid: QParams, moment: Array, damping: float = 0.01, ordered: bool = True
) -> Array:
    """Return codes [out, in] of `weight` on `grid`, each column rounded with the earlier errors in.

    `moment` [in, in] is sum x x^T over calibration inputs (H = 2 X X^T of the paper, whose factor
    cancels); `damping` of its mean diagonal is added. With H^-1 = U^T U, U upper triangular,
    column j is rounded after E[:, :j] U[:j, j] is taken from it, and leaves E[:, j] = (w - q) /
    U[j, j]: algorithm 1 with the sums gathered instead of spread. `ordered` takes the columns of
    the largest inputs first.

    The released code sums H in float32, and its users often meet a Cholesky factorization that
    fails; the sums here are float64. It zeroes the weights of an input that is 0 on all calibration
    images, so that an image which does have it loses them: here such a column goes to nearest. Its
    groups take scales from weights that carry errors already: here every grid is as it came.

    >>> w, one = np.array([[0.6, 0.6]]), QParams(1.0, bits=4)
    >>> gptq(w, one, np.ones((2, 2))), gptq(w, one, np.eye(2))  # 1.2 is nearer to 1 than to 2
    (array([[1, 0]], dtype=int8), array([[1, 1]], dtype=int8))
    """
    columns = np.arange(weight.shape[1])
    if ordered:
        columns = np.argsort(-np.diag(moment), kind="stable")
    upper = inverse_root(moment[np.ix_(columns, columns)], damping)
    step, lo, hi = (part[:, columns] for part in lattice(grid, weight.shape))
    w = weight.astype(np.float64)[:, columns]
    steps, errors = np.empty_like(w), np.empty_like(w)
    for j in range(w.shape[1]):
        column = w[:, j] - errors[:, :j] @ upper[:j, j]
        steps[:, j] = np.clip(np.rint(column / step[:, j]), lo[:, j], hi[:, j])
        errors[:, j] = (column - steps[:, j] * step[:, j]) / upper[j, j]
    codes = np.empty(w.shape, grid.dtype)
    codes[:, columns] = steps - lo + grid.lo
    return codes


def inverse_root(moment: Array, damping: float) -> Array:
    """Return the upper triangular U [in, in] with U^T U the inverse of the damped `moment`."""
    mean = float(np.diag(moment).mean()) or 1.0  # of inputs that are all 0, any order is as good
    damped = moment + damping * mean * np.eye(len(moment))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)


def lattice(grid: QParams, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return each weight's step, and the least and greatest multiple of it: three [out, in].

    >>> step, lo, hi = lattice(QParams(np.array([0.5, 2.0]), 3, axis=0), (2, 3))
    >>> step[:, 0], lo[0], hi[0]
    (array([0.5, 2. ]), array([-4., -4., -4.]), array([3., 3., 3.]))
    """

    def along(what: Any) -> Array:
        one = np.asarray(what, np.float64)
        if one.ndim == 2:
            one = np.repeat(one, grid.group, axis=1)[:, : shape[1]]
        return np.broadcast_to(one[:, None] if one.ndim == 1 else one, shape)

    zero = along(grid.zero_point)
    return along(grid.scale), grid.lo - zero, grid.hi - zero
