"""What a grid is: codes, the reals they stand for, and a value rounded to the nearest of them.

Everything that quantizes, calibrates or simulates asks no more of a grid than this, so one of
another kind (affine, powers of two, twin steps, a factor for each channel) is one more class.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


class Rounds(Protocol):
    """What a tap needs of a grid: x on it, in the dtype of x."""

    def round(self, x: FloatArray) -> FloatArray: ...


class Grid(Rounds, Protocol):
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


def quantize(x: FloatArray, q: Grid) -> IntArray:
    """Return the codes `clip(rint(x / scale) + zero_point, lo, hi)`, in the dtype of the grid.

    Integers are taken as float64. ValueError for a value that is not a number.

    >>> from refvit.quant.affine import QParams
    >>> quantize(np.array([0.5, 1.5, -9.0]), QParams(1.0, bits=4))
    array([ 0,  2, -8], dtype=int8)
    """
    x = in_floats(x)
    if np.isnan(x).any():
        raise ValueError("a value that is not a number has no code")
    return q.encode(x)


def in_floats(x: Any) -> Any:
    """Return an array of integers as float64; others, and what remembers, as they are."""
    kind = getattr(getattr(x, "dtype", None), "kind", "")
    return x if kind == "f" else np.asarray(x, np.float64)


def dequantize(codes: IntArray, q: Grid, dtype: Any = np.float32) -> FloatArray:
    """Return `scale * (codes - zero_point)` as `dtype`."""
    return q.decode(codes, dtype)


def fake_quantize(x: FloatArray, q: Rounds) -> FloatArray:
    """Return `dequantize(quantize(x))` in the dtype of `x`: the value as the engine would hold it.

    Idempotent, monotone, exact at zero, and off by at most `scale / 2` inside the range.
    """
    return q.round(in_floats(x))
