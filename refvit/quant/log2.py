"""Powers of two: the grid of attention weights, dense where softmax has its mass.

Logarithmic quantization of probabilities (Miyashita et al. 2016; FQ-ViT, Lin et al. 2022,
section 3.4): a code c is 2**-c, so that a product with it is a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


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
