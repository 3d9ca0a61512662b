"""Powers of the root of two: probabilities twice as finely as `Log2Grid`, and still by shifts.

RepQ-ViT (Li et al. 2023, section 3.4) codes a probability as q = round(-2 log2(x / D)) and reads it
as D 2**-ceil(q / 2), times the root of two if q is odd. The paper calls that a change of base to
log2 with shifts; the release computes it in floats.

The integers are these. Products of even codes are shifts of v and so are those of odd codes, in
units of D 2**-power and of root two times that. So two accumulators are kept, and the second is
multiplied once, per output and not per code, by root two as a dyadic number of 24 bits. So the
engine runs codes of up to 5 bits: `narrow` behind its softmax has two borders an octave, at
2**(1/4) and 2**(3/4). The product that reads them rounds the second accumulator to a unit of the
first, hence it alone of the engine's is not exact (specification, clauses 1.5, 3.3 and 3.8).

Two defects of the release:

1. It has 2**bits + 1 values: codes 0 .. 2**bits - 1, and 0 where q is greater. Here the last code
   is 0, as in `Log2Grid`, which costs half an octave of reach: 4 bits end at 2**-7 D, not 2**-7.5.
   On rows of 197 tokens, softmax of normal scores of deviation 2, the mean square error is
   6.3e-6; with one value more it is 5.4e-6.
2. With D = 1 the reach of 4 bits is the mean of such a row, 1/197 = 2**-7.6: of scores of
   deviation 1 and 2 the release makes 66 % and 82 % of all probabilities zero. So the search for D
   is part of the method: 100 candidates here, three percentiles in the release. At deviation 1 it
   leaves 13 % of zeros; at deviation 2 large probabilities keep D large, and 83 % are zero.

At 4 bits the error is the least of all grids here: at deviations 1, 2 and 3 it is 8.5e-7, 6.3e-6
and 1.3e-5, of a uniform grid with its own search 3.1e-6, 2.4e-5 and 2.3e-5. At 6 bits it is
6.9e-7, 4.3e-6 and 1.2e-5, and uniform 5.8e-7, 4.7e-6 and 3.2e-6: more bits only reach lower, the
ratio of neighbours remains, and `TwinGrid` is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.histogram import Histogram, square_error
from refvit.quant.log2 import falling, power_borders
from refvit.quant.observers import parts

FloatArray = NDArray[Any]
IntArray = NDArray[Any]

SHIFT = 23
ROOT2 = round(math.sqrt(2) * 2**SHIFT)  # 11863283: 24 bits, less than 2**-25 from the root


@dataclass(frozen=True)
class LogSqrt2Grid:
    """Codes 0 .. 2**bits - 2 stand for top * 2**(-code / 2), nearest in the logarithm; the last
    for 0.

    >>> grid = LogSqrt2Grid(top=1.0, bits=4)
    >>> grid.encode(np.array([1.0, 0.7, 0.3, 0.0])), grid.decode(np.array([1, 14, 15]), np.float64)
    (array([ 0,  1,  3, 15], dtype=uint8), array([0.70710678, 0.0078125 , 0.        ]))
    """

    top: float
    bits: int

    lo = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 6:
            raise ValueError(f"powers of root two have codes of 2 to 6 bits; asked for {self.bits}")
        if not (math.isfinite(self.top) and self.top > 0):
            raise ValueError(f"the greatest value is positive and finite; got {self.top}")

    @property
    def hi(self) -> int:
        return (1 << self.bits) - 1

    @property
    def power(self) -> int:
        """The exponent of the least value, top * 2**-power."""
        return self.hi >> 1

    @property
    def range(self) -> tuple[int, int]:
        """Bounds of the values in units of `scale`; those of odd codes are no integers."""
        return 0, 1 << self.power

    @property
    def scale(self) -> FloatArray:
        """The unit of the accumulator of even codes, a label."""
        return np.asarray(self.top * 2.0**-self.power)

    def with_scale(self, scale: Any) -> LogSqrt2Grid:
        return replace(self, top=float(scale) * 2.0**self.power)

    def encode(self, x: FloatArray) -> IntArray:
        least = np.asarray(self.top * 2.0 ** -(self.power + 1), x.dtype)  # already 0
        code = np.rint(-2 * np.log2(np.maximum(x, least) / np.asarray(self.top, x.dtype)))
        return np.asarray(np.clip(code, 0, self.hi).astype(np.uint8))

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        return np.asarray(np.take(self.values(dtype), codes))

    def values(self, dtype: Any) -> FloatArray:
        """Return what the codes 0 .. hi stand for: a table is faster than the formula."""
        c = np.arange(self.hi + 1, dtype=np.int32)
        size = np.where(c & 1, self.top * math.sqrt(2), self.top).astype(dtype)
        return np.asarray(np.where(c == self.hi, 0, np.ldexp(size, -((c + 1) >> 1))))

    def round(self, x: FloatArray) -> FloatArray:
        return self.decode(self.encode(x), x.dtype)

    def narrow(self, integers: IntArray, guard: int = 0) -> IntArray:
        """Return the codes of integers in units of `scale` with `guard` fraction bits.

        >>> LogSqrt2Grid(1.0, 4).narrow(np.array([0, 1, 45, 128, 129]) << 8, guard=8)
        array([15, 14,  3,  0,  0], dtype=uint8)
        """
        return falling(integers, power_borders(self.hi, 2, guard))

    def halves(self, codes: IntArray) -> tuple[IntArray, IntArray]:
        """Return int32 integers of even codes, in units of `scale`, and of odd codes, in units of
        root two times that; 0 where a code is of the other kind.

        >>> LogSqrt2Grid(1.0, 4).halves(np.array([0, 1, 14, 15], np.uint8))
        (array([128,   0,   1,   0], dtype=int32), array([ 0, 64,  0,  0], dtype=int32))
        """
        if self.bits > 5:
            raise ValueError(
                "codes of 6 bits reach 2**-31: 5 bits are the most with an integer form"
            )
        c = codes.astype(np.int32)
        shifted = np.int32(1) << np.maximum(self.power - ((c + 1) >> 1), 0)
        shifted = np.where(c == self.hi, np.int32(0), shifted)
        return shifted * (1 - (c & 1)), shifted * (c & 1)

    def accumulators(self, codes: IntArray, v: IntArray) -> tuple[IntArray, IntArray]:
        """Return int64 sums of `v << (power - ceil(code / 2))` over even and over odd codes.

        codes [..., M, K], v [..., K, N]. Of K integers v of b bits each sum has power + b + log2(K)
        bits: 23 of 4-bit codes for 197 int8, 31 of 5-bit codes, so these fit int32.
        """
        even, odd = (half.astype(np.int64) for half in self.halves(codes))
        return np.asarray(even @ v), np.asarray(odd @ v)

    def integer_product(self, codes: IntArray, v: IntArray) -> IntArray:
        """Return int64 `even + round(odd * sqrt(2))` of the accumulators, in units of `scale`.

        Off the product of the reals by at most 1/2 + |odd| / 2**25, the dyadic root of two: less
        than one unit for |odd| < 2**24. The product with the root has 55 bits.
        """
        even, odd = self.accumulators(codes, v)
        return np.asarray(even + ((odd * ROOT2 + (1 << (SHIFT - 1))) >> SHIFT))


def log_sqrt2(seen: Histogram, bits: int) -> LogSqrt2Grid:
    """Return the grid whose top, one of `parts()` of the greatest value seen, has the least square
    error.

    >>> seen = Histogram(); seen.update(np.array([0.01, 0.02, 0.05, 0.92]))
    >>> log_sqrt2(seen, bits=4).top
    0.92
    """
    if not seen.hi > 0:
        return LogSqrt2Grid(1.0, bits)
    grids = [LogSqrt2Grid(float(seen.hi * part), bits) for part in parts()]
    return min(grids, key=lambda grid: square_error(grid, seen))
