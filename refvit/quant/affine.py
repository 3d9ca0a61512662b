"""The affine map between reals and integer codes: `real = scale * (code - zero_point)`.

Symmetric and asymmetric, full and restricted range, per tensor, per channel and per group, of any
width from 2 to 32 bits (Jacob et al. 2018, equation 1; Du, Gong and Chu, section II). Rounding is
half to even, stated here once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


def code_range(bits: int = 8, signed: bool = True) -> tuple[int, int]:
    """Return the least and greatest code of a width, the full two's complement range.

    >>> code_range(4), code_range(8, signed=False)
    ((-8, 7), (0, 255))
    """
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


@dataclass(frozen=True)
class QParams:
    """One affine grid: its scale and zero point, its width, and what they are shared by.

    A scalar `scale` is for the whole tensor; with `axis=k` there is one per index of axis k; with
    `group=g` besides (axis 0 of a matrix), one per row and per g columns: scale [rows, groups].
    `zero_point` is an integer or has the shape of `scale`. Codes run over the full range of their
    width, [-2**(bits-1), 2**(bits-1) - 1] signed or [0, 2**bits - 1] unsigned; `restricted` leaves
    out the least signed one, so that the range is symmetric. Raises ValueError for a width outside
    2..32, a scale that is not positive and finite, a zero point that is no code, or shapes that do
    not go together.
    """

    scale: FloatArray
    bits: int
    signed: bool = True
    axis: int | None = None
    zero_point: IntArray | int = 0
    restricted: bool = False
    group: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ValueError(f"codes have 2 to 32 bits; asked for {self.bits}")
        if self.axis is not None and self.axis < 0:
            raise ValueError(f"an axis is counted from the first, 0; got {self.axis}")
        scale, zero_point = np.asarray(self.scale, np.float64), np.asarray(self.zero_point)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"a scale is positive and finite; got {scale.ravel()[:4]}")
        if self.group < 0 or (self.group and self.axis != 0):
            raise ValueError(f"groups of {self.group} go along axis 0; got axis {self.axis}")
        if scale.ndim != (2 if self.group else int(self.axis is not None)):
            raise ValueError(
                f"a scale of shape {scale.shape} does not go with axis {self.axis}, "
                f"group {self.group}"
            )
        if zero_point.dtype.kind not in "iu" or zero_point.shape not in ((), scale.shape):
            raise ValueError(f"a zero point is an integer, or one for each of {scale.shape} scales")
        if np.any((zero_point < self.lo) | (zero_point > self.hi)):
            found = f"{self.lo} to {self.hi}; got {zero_point.ravel()[:4]}"
            raise ValueError(f"a zero point is a code, {found}")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    @property
    def symmetric(self) -> bool:
        """Whether zero is code 0 everywhere."""
        return not np.any(self.zero_point)

    @property
    def lo(self) -> int:
        return code_range(self.bits, self.signed)[0] + (self.restricted and self.signed)

    @property
    def hi(self) -> int:
        return code_range(self.bits, self.signed)[1]

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest integer that stands for a value, in units of `scale`."""
        return self.lo - int(np.max(self.zero_point)), self.hi - int(np.min(self.zero_point))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest NumPy integer that holds the codes."""
        width = next(w for w in (8, 16, 32) if self.bits <= w)
        return np.dtype(f"{'int' if self.signed else 'uint'}{width}")

    def with_scale(self, scale: Any) -> QParams:
        """Return the same grid at another scale."""
        return replace(self, scale=scale)

    def encode(self, x: FloatArray) -> IntArray:
        steps = self._steps(x)
        if not self.symmetric:
            steps += self.along(self.zero_point, x)
        return np.asarray(steps).astype(self.dtype)

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        steps = codes.astype(dtype)
        if not self.symmetric:
            steps -= self.along(self.zero_point, steps)
        return np.asarray(steps * self.along(self.scale, steps))

    def round(self, x: FloatArray) -> FloatArray:
        steps = self._steps(x)
        steps *= self.along(self.scale, x)
        return steps

    def along(self, what: Any, x: FloatArray) -> FloatArray:
        """`what`, a scalar or one per scale, in the dtype of `x` and a shape that goes with it."""
        one = np.asarray(what, x.dtype)
        if one.ndim == 0 or self.axis is None:
            return one
        if self.group:
            if -(-x.shape[1] // self.group) != self.scale.shape[1]:
                found = f"{self.scale.shape[1]} groups of {self.group}"
                raise ValueError(f"{found} do not go with {x.shape[1]} columns")
            return np.repeat(one, self.group, axis=1)[:, : x.shape[1]]
        return one.reshape(-1, *[1] * (x.ndim - self.axis - 1))

    def _steps(self, x: FloatArray) -> FloatArray:
        """`clip(rint(x / scale))` before the zero point is added, as floats in the dtype of x."""
        with np.errstate(under="ignore"):  # of nearly nothing, nothing
            steps = x / self.along(self.scale, x)
        np.rint(steps, out=steps)
        lo, hi = self.lo, self.hi
        if self.symmetric:
            return np.clip(steps, lo, hi, out=steps)
        zero = self.along(self.zero_point, x)
        return np.clip(steps, lo - zero, hi - zero, out=steps)


def symmetric(
    largest: Any,
    bits: int,
    *,
    signed: bool = True,
    axis: int | None = None,
    restricted: bool = False,
    group: int = 0,
) -> QParams:
    """Return the grid whose greatest code stands for `largest` = max|x|, which has the shape of the
    scale.

    `scale = largest / (2**(bits-1) - 1)`, or `/ (2**bits - 1)` unsigned, so that the extremes of x
    are codes exactly; an all-zero x gets scale 1. ValueError for less than 0 or not finite.

    >>> q = symmetric(2.54, bits=8); float(q.scale), q.lo, q.hi
    (0.02, -128, 127)
    """
    _, steps = code_range(bits, signed)
    largest = np.asarray(largest, np.float64)
    if not (np.isfinite(largest).all() and (largest >= 0).all()):
        raise ValueError(f"max|x| is finite and not below 0; got {largest.ravel()[:4]}")
    scale = np.where(largest > 0, largest, steps) / steps
    return QParams(scale, bits, signed, axis, 0, restricted, group)


def asymmetric(
    lo: Any, hi: Any, bits: int, *, signed: bool = False, axis: int | None = None, group: int = 0
) -> QParams:
    """Return the grid that covers [lo, hi] and zero with all of its codes.

    `scale = (hi - lo) / (2**bits - 1)` with lo <= 0 <= hi, `zero_point = rint(-lo / scale)` plus
    the least code, so that zero is a code exactly (Jacob et al. 2018, section 2.1). A range of
    nothing gets scale 1. ValueError for lo above hi, or what is not finite.

    >>> q = asymmetric(-1.0, 1.55, bits=8); round(float(q.scale), 9), int(q.zero_point)
    (0.01, 100)
    """
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all() and (lo <= hi).all()):
        raise ValueError(f"a range is finite, lo <= hi; got {lo.ravel()[:4]} to {hi.ravel()[:4]}")
    lo, hi = np.minimum(lo, 0.0), np.maximum(hi, 0.0)
    steps = (1 << bits) - 1
    scale = np.where(hi > lo, hi - lo, steps) / steps
    least, _ = code_range(bits, signed)
    zero_point = np.clip(np.rint(-lo / scale), 0, steps).astype(np.int64) + least
    return QParams(scale, bits, signed, axis, zero_point, group=group)


def covering(lo: Any, hi: Any, bits: int, *, symmetric: bool = True, **rest: Any) -> QParams:
    """Return the symmetric grid of max(-lo, hi), or the asymmetric one of [lo, hi]."""
    if symmetric:
        return _symmetric(np.maximum(-np.asarray(lo), np.asarray(hi)), bits, **rest)
    return asymmetric(lo, hi, bits, **rest)


_symmetric = symmetric  # under the name that an argument of `covering` hides


def grouped(weight: FloatArray, group: int) -> FloatArray:
    """Return max|x| of a matrix [rows, columns] by row and group of columns: [rows, groups].

    The last group may be shorter. ValueError for what is no matrix, or groups of no columns.

    >>> grouped(np.array([[1.0, -2.0, 3.0]]), 2)
    array([[2., 3.]])
    """
    if weight.ndim != 2 or group < 1:
        raise ValueError(f"groups of {group} columns do not go with shape {weight.shape}")
    starts = np.arange(0, weight.shape[1], group)
    return np.asarray(np.maximum.reduceat(np.abs(weight), starts, axis=1))
