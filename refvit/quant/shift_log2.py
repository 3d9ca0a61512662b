"""Powers of two less a shift: attention weights on a logarithmic grid that reaches zero exactly.

The shift-uniform-log2 quantizer of I&S-ViT (Zhong, Hu, Lin, Chen and Ji 2023, section on SULQ):
x + eta is rounded in the logarithm and eta is taken off again, so that small values share codes and
the codes end where the values do. The engine runs these codes (specification, clauses 1.5 and 3.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.histogram import Histogram, square_error
from refvit.quant.log2 import falling, power_borders

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


@dataclass(frozen=True)
class ShiftLog2Grid:
    """Codes 0 .. shift stand for 2**-code - 2**-shift, the nearest to x in log(x + 2**-shift).

    The paper quantizes -log2(x + eta) uniformly and, so that a product is a shift, rounds what
    comes back to an integer exponent. With eta = 2**-shift all of it is integers: the exponent is
    the code, the last code is exactly 0, and a product with v is the sum of shifted v less one
    shifted sum of all v. A finer uniform grid would only name the same exponents twice: the
    released eta, at least 0.001, leaves 11 exponents to 4 bits. Also as released, the forward has
    2**bits + 1 codes where its search had 2**bits, and 0 comes back as 2**-7 - 0.01 for eta 0.01.

    >>> grid = ShiftLog2Grid(bits=3, shift=4)
    >>> grid.encode(np.array([1.0, 0.5, 0.02, 0.0]))
    array([0, 1, 4, 4], dtype=uint8)
    >>> grid.decode(np.arange(5), np.float64) * 16
    array([15.,  7.,  3.,  1.,  0.])
    """

    bits: int
    shift: int

    lo = 0

    def __post_init__(self) -> None:
        if not (2 <= self.bits <= 4 and 1 <= self.shift < 1 << self.bits):
            raise ValueError(
                f"2 to 4 bits have codes for shifts 1 to 2**bits - 1; asked for {self.bits} bits "
                f"and shift {self.shift}"
            )

    @property
    def hi(self) -> int:
        return self.shift

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest integer that stands for a value, in units of `scale`."""
        return 0, (1 << self.shift) - 1

    @property
    def scale(self) -> FloatArray:
        """The unit of those integers, a label."""
        return np.asarray(2.0**-self.shift)

    def encode(self, x: FloatArray) -> IntArray:
        code = np.rint(-np.log2(np.maximum(x, 0.0) + np.asarray(self.scale, x.dtype)))
        return np.asarray(np.clip(code, 0, self.hi)).astype(np.uint8)

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        powers = np.ldexp(np.asarray(1, dtype), -codes.astype(np.int32))
        return np.asarray(powers - np.asarray(self.scale, dtype))

    def round(self, x: FloatArray) -> FloatArray:
        return self.decode(self.encode(x), x.dtype)

    def aligned(self, codes: IntArray) -> IntArray:
        """Return int32 2**(shift - code) - 1, in units of `scale`: `decode` is scale * aligned."""
        return np.asarray((np.int32(1) << (self.shift - codes.astype(np.int32))) - 1)

    def narrow(self, integers: IntArray, guard: int = 0) -> IntArray:
        """Return the codes of integers >= 0 in units of `scale` with `guard` fraction bits.

        >>> ShiftLog2Grid(bits=3, shift=4).narrow(np.array([0, 1, 2, 5, 15]))
        array([4, 3, 2, 1, 0], dtype=uint8)
        """
        borders = power_borders(self.shift + 1, 1, guard)[1:]
        return falling(integers + np.int32(1 << guard), borders)


def shift_log2(seen: Histogram, bits: int) -> ShiftLog2Grid:
    """Return the grid of `bits` bits whose shift has the least square error, as the paper searches
    eta.

    >>> seen = Histogram(); seen.update(np.array([0.01, 0.02, 0.05, 0.92]))
    >>> shift_log2(seen, bits=3).shift
    4
    """
    grids = [ShiftLog2Grid(bits, shift) for shift in range(1, 1 << bits)]
    return min(grids, key=lambda grid: square_error(grid, seen))
