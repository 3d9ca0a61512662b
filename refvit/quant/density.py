"""How evenly values are spread: a Gaussian kernel density, and the entropy of a density.

PSAQ-ViT (Li, Ma, Chen, Xiao and Gu 2022) asks how diverse the similarities of patches are. The
density is a mean of Gaussians, one around every value, so it has a gradient everywhere.

Ten points are often ten bandwidths apart and more. The sum is then no longer near the integral: a
peak between two points is not seen, and one at the end, where patches are all but equal, counts
for its whole interval. It is what the paper's figures were made with, and a loss all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff.tape import value_of, vjp_of
from refvit.ops.functional import overridable

Array = NDArray[Any]
BANDWIDTH = 0.01  # the standard deviation of every Gaussian
POINTS = 10  # at which the density is taken, between the least and the greatest value
FLOOR = 1e-4  # of a density, so that it has a logarithm


@overridable
def kernel_density(values: Array, points: Array, bandwidth: float = BANDWIDTH) -> Array:
    """Return p(x) = mean_i exp(-(x - v_i)^2 / 2 h^2) / (h sqrt(2 pi)): [B, M], [K] -> [B, K].

    One point at a time, forward and backward, so that memory is that of `values` and not K times
    as much.

    >>> kernel_density(np.array([[0.0, 1.0]]), np.array([0.0]), 1.0).round(4)
    array([[0.3205]])
    """
    columns = [_gaussian(values, x, bandwidth).mean(1) for x in points]
    return np.stack(columns, axis=1)


@vjp_of(kernel_density)
def _kernel_density(
    g: Array, out: Array, values: Array, points: Array, bandwidth: float = BANDWIDTH
) -> tuple[Any, ...]:
    """dp(x) / dv_i = (x - v_i) / h^2 of v_i's own Gaussian, over M."""
    into = np.zeros_like(values)
    share = values.dtype.type(1 / (bandwidth**2 * values.shape[1]))
    for k, x in enumerate(points):
        slope = _gaussian(values, x, bandwidth)
        slope *= x - values
        slope *= g[:, k, None] * share
        into += slope
    return into, None, None


def _gaussian(values: Array, x: Any, bandwidth: float) -> Array:
    kind = values.dtype.type
    out = np.subtract(values, x)
    with np.errstate(under="ignore"):  # far from x there is rightly nothing
        out *= out
        out *= kind(-0.5 / bandwidth**2)
        np.exp(out, out=out)
        out *= kind(1 / (bandwidth * np.sqrt(2 * np.pi)))
    return np.asarray(out)


def differential_entropy(density: Any, points: Array) -> Any:
    """Return the integral of -p log p over `points` by trapezia, p = density + 1e-4: [B, K] -> [B].

    >>> differential_entropy(np.full((1, 3), 2 - FLOOR), np.array([0.0, 0.25, 0.5])).round(4)
    array([-0.6931])
    """
    p = density + density.dtype.type(FLOOR)
    width = np.diff(points)
    weight = np.zeros_like(points)
    weight[:-1] += width / 2
    weight[1:] += width / 2
    return np.sum(-p * np.log(p) * weight, axis=1)


def spread(values: Any) -> Any:
    """Return the entropy of each row of `values` [B, M], its density taken at points that all rows
    share: [B]. The points follow the values but have no gradient, as in the released code."""
    known = value_of(values)
    points = np.linspace(known.min(), known.max(), POINTS, dtype=known.dtype)
    return differential_entropy(kernel_density(values, points), points)
