"""The affine map between reals and integer codes: `real = scale * (code - zero_point)`.

Symmetric quantization, per tensor or per channel, of any width from 2 to 32 bits (Jacob et al.
2018, equation 1; Du, Gong and Chu, section II). Rounding is half to even, stated here once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


class Grid(Protocol):
    """What the codes of one value stand for: codes, what they mean, and x rounded to the grid."""

    @property
    def lo(self) -> int: ...
    @property
    def hi(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def scale(self) -> FloatArray: ...
    @property
    def range(self) -> tuple[int, int]: ...
    def encode(self, x: FloatArray) -> IntArray: ...
    def decode(self, codes: IntArray, dtype: Any) -> FloatArray: ...
    def round(self, x: FloatArray) -> FloatArray: ...


@dataclass(frozen=True)
class QParams:
    """One affine grid: its scale (a scalar, or one per index of `axis`), zero point and width.

    Codes run over the full range of their width, [-2**(bits-1), 2**(bits-1) - 1] signed or
    [0, 2**bits - 1] unsigned. Raises ValueError for a width outside 2..32 or a scale that is not
    positive and finite.
    """

    scale: FloatArray
    bits: int
    signed: bool = True
    axis: int | None = None
    zero_point: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ValueError(f"codes have 2 to 32 bits; asked for {self.bits}")
        scale = np.asarray(self.scale, np.float64)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"a scale is positive and finite; got {scale.ravel()[:4]}")
        if (scale.ndim == 0) != (self.axis is None):
            raise ValueError(f"a scale of shape {scale.shape} does not go with axis {self.axis}")
        object.__setattr__(self, "scale", scale)

    @property
    def lo(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest integer that stands for a value, in units of `scale`."""
        return self.lo, self.hi

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest NumPy integer that holds the codes."""
        width = next(w for w in (8, 16, 32) if self.bits <= w)
        return np.dtype(f"{'int' if self.signed else 'uint'}{width}")

    def with_scale(self, scale: Any) -> QParams:
        """Return the same grid at another scale."""
        return replace(self, scale=scale)

    def encode(self, x: FloatArray) -> IntArray:
        return np.asarray(self._steps(x) + self.zero_point).astype(self.dtype)

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        steps = codes.astype(dtype)
        if self.zero_point:
            steps -= self.zero_point
        return np.asarray(steps * self._along(codes.ndim, dtype))

    def round(self, x: FloatArray) -> FloatArray:
        steps = self._steps(x)
        steps *= self._along(x.ndim, x.dtype)
        return steps

    def _along(self, ndim: int, dtype: Any) -> FloatArray:
        scale = self.scale.astype(dtype)
        return scale if self.axis is None else scale.reshape(-1, *[1] * (ndim - self.axis - 1))

    def _steps(self, x: FloatArray) -> FloatArray:
        """`clip(rint(x / scale))` before the zero point is added, as floats in the dtype of x."""
        steps = x / self._along(x.ndim, x.dtype)
        np.rint(steps, out=steps)
        return np.clip(steps, self.lo - self.zero_point, self.hi - self.zero_point, out=steps)


def symmetric(largest: Any, bits: int, *, signed: bool = True, axis: int | None = None) -> QParams:
    """Return the grid whose greatest code stands for `largest` = max|x| (a scalar, or per channel).

    `scale = largest / (2**(bits-1) - 1)`, or `/ (2**bits - 1)` unsigned, so that the extremes of x
    are codes exactly; an all-zero x gets scale 1.

    >>> q = symmetric(2.54, bits=8); float(q.scale), q.lo, q.hi
    (0.02, -128, 127)
    """
    steps = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    largest = np.asarray(largest, np.float64)
    return QParams(np.where(largest > 0, largest, steps) / steps, bits, signed, axis)


def quantize(x: FloatArray, q: Grid) -> IntArray:
    """Return the codes `clip(rint(x / scale) + zero_point, lo, hi)`, in the dtype of the grid.

    >>> quantize(np.array([0.5, 1.5, -9.0]), QParams(1.0, bits=4))
    array([ 0,  2, -8], dtype=int8)
    """
    return q.encode(x)


def dequantize(codes: IntArray, q: Grid, dtype: Any = np.float32) -> FloatArray:
    """Return `scale * (codes - zero_point)` as `dtype`."""
    return q.decode(codes, dtype)


def fake_quantize(x: FloatArray, q: Grid) -> FloatArray:
    """Return `dequantize(quantize(x))` in the dtype of `x`: the value as the engine would hold it.

    Idempotent, monotone, exact at zero, and off by at most `scale / 2` inside the range.
    """
    return q.round(x)
