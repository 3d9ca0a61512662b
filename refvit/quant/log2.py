"""Powers of two: the grid of attention weights, dense where softmax has its mass.

Logarithmic quantization of probabilities (Miyashita et al. 2016; FQ-ViT, Lin et al. 2022,
section 3.4): a code c is 2**-c, so that a product with it is a shift. The integer form of every
such grid is here: `power_borders` says where one power gives way to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


def power_borders(count: int, octave: int, guard: int) -> IntArray:
    """Return the least integers [count], int32, with `guard` fraction bits, that are nearest in
    the logarithm to 2**(j / octave) or to a greater power, j from 0.

    Exact: the border of j is 2**((j - 1/2) / octave), whose 2 octave-th power is an integer's.

    >>> power_borders(4, 1, 0), power_borders(4, 2, 8)
    (array([1, 2, 3, 6], dtype=int32), array([216, 305, 431, 609], dtype=int32))
    """
    least = []
    for j in range(count):
        root = (1 << max(0, 2 * j - 1 + 2 * octave * guard)) - 1  # of least**(2 octave)
        for _ in range(octave):
            root = math.isqrt(root)
        least.append(root + 1)
    return np.array(least, np.int32)


def falling(integers: IntArray, borders: IntArray) -> IntArray:
    """Return uint8 codes that fall with the integer: how many `borders`, ascending, are above it.

    For powers of two hardware finds the leading one and compares what follows with one constant.
    """
    return np.asarray(len(borders) - np.searchsorted(borders, integers, "right")).astype(np.uint8)


@dataclass(frozen=True)
class Log2Grid:
    """Codes 0 .. 2**bits - 2 stand for 2**-code, the nearest in the logarithm; the last for 0.

    >>> grid = Log2Grid(bits=4)
    >>> grid.encode(np.array([1.0, 0.3, 0.0])), grid.decode(np.array([1, 14, 15]), np.float64)
    (array([ 0,  2, 15], dtype=uint8), array([5.00000000e-01, 6.10351562e-05, 0.00000000e+00]))
    """

    bits: int

    lo = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 4:
            raise ValueError(f"powers of two have codes of 2 to 4 bits; asked for {self.bits}")

    @property
    def hi(self) -> int:
        return (1 << self.bits) - 1

    @property
    def power(self) -> int:
        """The exponent of the least power: `2**(power - code)` is an integer for every code."""
        return self.hi - 1

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest of those integers."""
        return 0, 1 << self.power

    @property
    def scale(self) -> FloatArray:
        """The unit of those integers, a label."""
        return np.asarray(2.0**-self.power)

    def encode(self, x: FloatArray) -> IntArray:
        with np.errstate(divide="ignore"):
            code = np.rint(-np.log2(np.maximum(x, 0.0)))
        return np.clip(code, 0, self.hi).astype(np.uint8)

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        values = np.ldexp(np.asarray(1, dtype), -codes.astype(np.int32))
        return np.asarray(np.where(codes == self.hi, np.asarray(0, dtype), values))

    def round(self, x: FloatArray) -> FloatArray:
        return self.decode(self.encode(x), x.dtype)

    def aligned(self, codes: IntArray) -> IntArray:
        """Return int32 integers in units of `scale`, by one shift: `decode` is scale * aligned."""
        c = codes.astype(np.int32)
        return np.where(c == self.hi, np.int32(0), np.int32(1) << np.maximum(self.power - c, 0))

    def narrow(self, integers: IntArray, guard: int = 0) -> IntArray:
        """Return the codes of integers in units of `scale` with `guard` fraction bits.

        >>> Log2Grid(4).narrow(np.array([0, 1, 11585, 11586, 16384]))
        array([15, 14,  1,  0,  0], dtype=uint8)
        """
        return falling(integers, power_borders(self.hi, 1, guard))
