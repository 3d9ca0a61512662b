"""`QTensor`: integer codes, and a scale that is only a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

IntArray = NDArray[Any]


@dataclass(frozen=True)
class QTensor:
    """`real = scale * codes`, or scale times what codes stand for (`refvit.integer.grids`); no
    operator of the engine ever reads `scale`."""

    codes: IntArray
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape
