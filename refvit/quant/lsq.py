"""Grids that learn: the straight-through estimator, LSQ and LSQ+.

A rounding has the gradient 0 almost everywhere, so the backward pass takes it for the identity
inside the range, its ends included (Bengio, Leonard and Courville 2013). LSQ gives the step a
gradient as well (Esser, McKinstry, Bablani, Appuswamy and Modha 2020, equations 3 and 5), and LSQ+
an offset (Bhalgat, Lee, Nagel, Blankevoort and Kwak 2020, equation 4), here a zero point in steps:
one rate serves grids of all sizes, and its rounding is in the forward, so that what is trained is
what settles. At an end of the range LSQ gives all to the step. None of this is the slope of the
staircase: it is that of a forward in which how far each value was rounded, rint(u) - u, is held
still, and so differences check it. The tap is `FakeQuantize`, as in calibration and in simulation:
only the grids it is given know that something is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff.tape import unbroadcast, value_of, vjp_of
from refvit.ops.functional import overridable
from refvit.quant.affine import QParams
from refvit.quant.dynamic import DynamicGrid
from refvit.quant.grid import Grid
from refvit.quant.log_sqrt2 import LogSqrt2Grid
from refvit.quant.noisy import NoisyGrid
from refvit.quant.ptf import PowerOfTwoFactor
from refvit.quant.twin import TwinGrid

Array = NDArray[Any]
ScaledGrid = LogSqrt2Grid | TwinGrid  # one scale, and values that are its multiples


@overridable
def straight_through(x: Array, grid: Grid) -> Array:
    """Return `x` on `grid`; of a `Var`, with the gradient of the identity where x is in range."""
    return grid.round(x)


@vjp_of(straight_through)
def _straight_through(g: Array, out: Array, x: Array, grid: Grid) -> tuple[Any, ...]:
    """1 between the least and the greatest value of the grid, and 0 beyond, where x was clipped. A
    dynamic grid clips nothing."""
    return g if isinstance(grid, DynamicGrid) else g * in_range(x, grid), None


def in_range(x: Array, grid: Grid) -> Array:
    """Return where x is between the least and the greatest value of its own channel of `grid`.

    >>> in_range(np.array([-5.0, 5.0]), QParams(1.0, 4, signed=False, zero_point=15))
    array([ True, False])
    """
    if isinstance(grid, QParams | NoisyGrid | PowerOfTwoFactor):  # greater codes, greater values
        lo, hi = (grid.decode(np.full(x.shape, code), x.dtype) for code in (grid.lo, grid.hi))
    else:
        lo, hi = (np.asarray(end * grid.scale, x.dtype) for end in grid.range)
    return np.asarray((x >= lo) & (x <= hi))


@overridable
def lsq(x: Array, step: Array, zero_point: Any, lo: int, hi: int, gradient_scale: float) -> Array:
    """Return `clip(rint(x / step), lo - z, hi - z) * step`, in the dtype of `x`, with z the code
    nearest to `zero_point`: what `QParams` of this step and z rounds x to.

    `step` and `zero_point` broadcast against x; a zero point of None is 0 and is not learned.
    `gradient_scale` is what the gradients of both are multiplied by.

    >>> lsq(np.array([0.9, -0.2, 9.0]), np.array(0.5), None, -2, 1, 1.0)
    array([ 0.5, -0. ,  0.5])
    """
    lo, hi = ends(zero_point, lo, hi)
    with np.errstate(under="ignore"):  # a probability of nearly nothing is rounded to nothing
        out = x / step
    np.rint(out, out=out)
    np.clip(out, lo, hi, out=out)
    out *= step
    return out


def ends(zero_point: Any, lo: int, hi: int) -> tuple[Any, Any]:
    """Return the least and the greatest value, in steps, of codes lo .. hi."""
    if zero_point is None:
        return lo, hi
    whole = np.clip(np.rint(zero_point), lo, hi)
    return lo - whole, hi - whole


@vjp_of(lsq)
def _lsq(
    g: Array,
    out: Array,
    x: Array,
    step: Array,
    zero_point: Any,
    lo: int,
    hi: int,
    gradient_scale: float,
) -> tuple[Any, ...]:
    """With u = x / step: dx = 1 where lo < u < hi, else 0; dstep = rint(u) - u there, else the end
    that u is clipped to, so (out - dx x) / step: nothing is rounded again. The zero point is LSQ+'s
    offset b = -z step in steps, straight through its own rounding: dz = -step where x is clipped,
    and 0 for a z that is itself clipped to the codes.
    """
    least, most = ends(zero_point, lo, hi)
    dx = g * ((x > least * step) & (x < most * step))
    dstep = unbroadcast(g * out - dx * x, step) * (g.dtype.type(gradient_scale) / step)
    dzero = None
    if zero_point is not None:
        dzero = unbroadcast((dx - g) * step, zero_point) * g.dtype.type(gradient_scale)
        dzero *= (lo <= zero_point) & (zero_point <= hi)
    return dx, dstep, dzero, None, None, None


@overridable
def scaled(x: Array, step: Array, grid: Grid, gradient_scale: float) -> Array:
    """Return `x` on `grid`, whose scale is `step`: a number that all its values are multiples of.

    `gradient_scale` is what the step's gradient is multiplied by.
    """
    return grid.round(x)


@vjp_of(scaled)
def _scaled(
    g: Array, out: Array, x: Array, step: Array, grid: Grid, gradient_scale: float
) -> tuple[Any, ...]:
    """With r the rounding for a step of 1, out = step r(x / step): where x is in range and r is
    taken for the identity dstep = (out - x) / step, else out / step, which is LSQ of any grid."""
    dx = g * in_range(x, grid)
    dstep = unbroadcast(g * out - dx * x, step) * (g.dtype.type(gradient_scale) / step)
    return dx, dstep, None, None


@dataclass(frozen=True)
class Straight:
    """Any grid, with the straight-through gradient: nothing of it is learned."""

    grid: Grid

    def round(self, x: Any) -> Any:
        return straight_through(x, self.grid)

    def in_range(self, x: Array) -> Array:
        """Return where x is in the range of the grid."""
        return in_range(x, self.grid)


def gradient_scale_of(x: Any, grid: Any, count: int) -> float:
    """Return LSQ's 1 / sqrt(N hi) for the N values that share a step (Esser et al. 2020, section
    2.2): `count` of them, or as many as one image or window of `x` [n, ...] has.

    Adam divides any such factor out again; it is for optimisers that do not, and for clipping.
    """
    return float(1 / np.sqrt((count or np.prod(x.shape[1:])) * grid.hi))


@dataclass(frozen=True)
class LearnedScale:
    """A grid of logarithms or of twin steps whose scale is `step`, an array or a `Var`."""

    grid: ScaledGrid
    step: Any

    def round(self, x: Any) -> Any:
        """Return `x` on the grid."""
        return scaled(x, self.step, self.grid, gradient_scale_of(x, self.grid, 0))

    def in_range(self, x: Array) -> Array:
        """Return where x is in the range of the grid."""
        return in_range(x, self.grid)


@dataclass(frozen=True)
class LearnedGrid:
    """The affine grid `grid` with the step `step` and, unless that is None, the zero point
    `zero_point`, a real number until it is used: arrays or `Var`s of the shape of its scale.
    `count` values share a step, where that is not for the images to say."""

    grid: QParams
    step: Any
    zero_point: Any = None
    count: int = 0

    def round(self, x: Any) -> Any:
        """Return `x` on the grid."""
        step, zero = (self._beside(what, x) for what in (self.step, self.zero_point))
        shared = gradient_scale_of(x, self.grid, self.count)
        return lsq(x, step, zero, self.grid.lo, self.grid.hi, shared)

    def in_range(self, x: Array) -> Array:
        """Return where x is in the range of the grid: between its ends, both in it."""
        step, zero = (self._beside(value_of(v), x) for v in (self.step, self.zero_point))
        lo, hi = ends(zero, self.grid.lo, self.grid.hi)
        return np.asarray((x >= lo * step) & (x <= hi * step))

    def _beside(self, what: Any, x: Any) -> Any:
        """`what` in a shape that goes with x."""
        if what is None or self.grid.axis is None:
            return what
        return what.reshape(-1, *[1] * (len(x.shape) - self.grid.axis - 1))
