"""Grids that learn: the straight-through estimator, LSQ and LSQ+.

A rounding has the gradient 0 almost everywhere, so the backward pass takes it for the identity
inside the range (Bengio, Leonard and Courville 2013). LSQ gives the step a gradient as well (Esser,
McKinstry, Bablani, Appuswamy and Modha 2020, equations 3 and 5), and LSQ+ an offset (Bhalgat, Lee,
Nagel, Blankevoort and Kwak 2020, equation 4). The tap is `FakeQuantize`, as in calibration and in
simulation: only the grids it is given know that something is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff.tape import unbroadcast, vjp_of
from refvit.ops.functional import overridable
from refvit.quant.affine import Grid, QParams
from refvit.quant.dynamic import DynamicGrid
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
def lsq(x: Array, step: Array, offset: Any, lo: int, hi: int, worth: float) -> Array:
    """Return `clip(rint((x - offset) / step), lo, hi) * step + offset`, in the dtype of `x`.

    `step` and `offset` broadcast against x; an offset of None is 0 and is not learned. `worth` is
    what the step's gradient is multiplied by.

    >>> lsq(np.array([0.9, -0.2, 9.0]), np.array(0.5), None, -2, 1, 1.0)
    array([ 0.5, -0. ,  0.5])
    """
    with np.errstate(under="ignore"):  # a probability of nearly nothing is rounded to nothing
        out = (x if offset is None else x - offset) / step
    np.rint(out, out=out)
    np.clip(out, lo, hi, out=out)
    out *= step
    if offset is not None:
        out += offset
    return out


@vjp_of(lsq)
def _lsq(
    g: Array, out: Array, x: Array, step: Array, offset: Any, lo: int, hi: int, worth: float
) -> tuple[Any, ...]:
    """With u = (x - offset) / step: dx = 1 where lo < u < hi, else 0; dstep = rint(u) - u there,
    else the end that u is clipped to; doffset = 1 - dx.

    Both cases of dstep are (out - offset - dx (x - offset)) / step: nothing is rounded again.
    """
    if offset is not None:
        x, out = x - offset, out - offset
    dx = g * ((x > lo * step) & (x < hi * step))
    dstep = unbroadcast(g * out - dx * x, step) * (g.dtype.type(worth) / step)
    return dx, dstep, None if offset is None else unbroadcast(g - dx, offset), None, None, None


@overridable
def scaled(x: Array, step: Array, grid: Grid, worth: float) -> Array:
    """Return `x` on `grid`, whose scale is `step`: a number that all its values are multiples of.

    `worth` is what the step's gradient is multiplied by.
    """
    return grid.round(x)


@vjp_of(scaled)
def _scaled(
    g: Array, out: Array, x: Array, step: Array, grid: Grid, worth: float
) -> tuple[Any, ...]:
    """With r the rounding for a step of 1, out = step r(x / step): where x is in range and r is
    taken for the identity dstep = (out - x) / step, else out / step, which is LSQ of any grid."""
    dx = g * in_range(x, grid)
    dstep = unbroadcast(g * out - dx * x, step) * (g.dtype.type(worth) / step)
    return dx, dstep, None, None


@dataclass(frozen=True)
class Straight:
    """Any grid, with the straight-through gradient: nothing of it is learned."""

    grid: Grid

    def round(self, x: Any) -> Any:
        return straight_through(x, self.grid)

    def holds(self, x: Array) -> Array:
        """Return where x is in the range of the grid."""
        return in_range(x, self.grid)


@dataclass(frozen=True)
class LearnedScale:
    """A grid of logarithms or of twin steps whose scale is `step`, an array or a `Var`."""

    grid: ScaledGrid
    step: Any

    def round(self, x: Any) -> Any:
        """Return `x` on the grid; the step's gradient is worth 1 / sqrt(N) for N values."""
        return scaled(x, self.step, self.grid, float(1 / np.sqrt(np.prod(x.shape))))

    def holds(self, x: Array) -> Array:
        """Return where x is in the range of the grid."""
        return in_range(x, self.grid)


@dataclass(frozen=True)
class LearnedGrid:
    """The affine grid `grid` with the step `step`, its zero at the real number `offset` unless that
    is None: arrays or `Var`s of the shape of its scale."""

    grid: QParams
    step: Any
    offset: Any = None

    def round(self, x: Any) -> Any:
        """Return `x` on the grid; the step's gradient is worth 1 / sqrt(N hi) for the N values
        that share it (Esser et al., section 2.2)."""
        share = int(np.prod(x.shape)) // self.grid.scale.size
        step, offset = (self._beside(what, x) for what in (self.step, self.offset))
        worth = float(1 / np.sqrt(share * self.grid.hi))
        return lsq(x, step, offset, self.grid.lo, self.grid.hi, worth)

    def holds(self, x: Array) -> Array:
        """Return where x is in the range of the grid: between its ends, both in it."""
        step, offset = (self._beside(what, x) for what in (self.step, self.offset))
        lo, hi = (
            end * step + (0 if offset is None else offset) for end in (self.grid.lo, self.grid.hi)
        )
        return np.asarray((x >= lo) & (x <= hi))

    def _beside(self, what: Any, x: Any) -> Any:
        """`what` in a shape that goes with x."""
        if what is None or self.grid.axis is None:
            return what
        return what.reshape(-1, *[1] * (len(x.shape) - self.grid.axis - 1))
