"""Dynamic quantization: the grid is found when the value comes, for all of it or for each token.

No calibration, and no range that is wrong; the price is a reduction over every activation at run
time, and a scale that no integer engine knows beforehand (Du, Gong and Chu, section II-C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import QParams, asymmetric, code_range, symmetric

FloatArray = NDArray[Any]


@dataclass(frozen=True)
class DynamicGrid:
    """An affine grid over each value's own range, or that of each token [..., C].

    >>> grid = DynamicGrid(bits=2, per_token=True)
    >>> grid.round(np.array([[1.0, 0.2], [100.0, 60.0]]))
    array([[  1.,   0.],
           [100., 100.]])
    """

    bits: int
    signed: bool = True
    symmetric: bool = True
    per_token: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"dynamic codes have 2 to 16 bits; asked for {self.bits}")

    scale = np.asarray(np.nan)  # there is none before the value
    cure = (
        'it is found at run time; write dynamic = "" in its line of the recipe, or take another '
        "method than dynamic"
    )

    @property
    def lo(self) -> int:
        return code_range(self.bits, self.signed)[0]

    @property
    def hi(self) -> int:
        return code_range(self.bits, self.signed)[1]

    @property
    def range(self) -> tuple[int, int]:
        return self.lo, self.hi

    def grid_of(self, x: FloatArray) -> QParams:
        """Return the static grid that a value [rows, C] gets: one for all, or one a row."""
        axis = 0 if self.per_token else None
        over = 1 if self.per_token else None
        lo, hi = x.min(over), x.max(over)
        if self.symmetric:
            largest = np.maximum(-lo, hi)
            return symmetric(largest, self.bits, signed=self.signed, axis=axis)
        return asymmetric(lo, hi, self.bits, signed=self.signed, axis=axis)

    def encode(self, x: FloatArray) -> NDArray[Any]:
        rows = x.reshape(-1, x.shape[-1])
        return self.grid_of(rows).encode(rows).reshape(x.shape)

    def decode(self, codes: NDArray[Any], dtype: Any) -> FloatArray:
        raise ValueError("codes of a dynamic grid say nothing without their value's range")

    def round(self, x: FloatArray) -> FloatArray:
        rows = x.reshape(-1, x.shape[-1])
        return self.grid_of(rows).round(rows).reshape(x.shape)
