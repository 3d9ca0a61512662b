"""`QTensor`: integer codes, and a scale that is only a label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

IntArray = NDArray[Any]


@dataclass(frozen=True)
class QTensor:
    """`real = scale * (codes - zero)`, or scale times what codes stand for
    (`refvit.integer.grids`); no operator of the engine ever reads `scale`. `zero` is the code that
    stands for 0, for what pads."""

    codes: IntArray
    scale: float
    zero: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def holding(self, codes: IntArray) -> QTensor:
        """Return the same with its codes moved."""
        return replace(self, codes=codes)
