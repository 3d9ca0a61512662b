"""`FakeQuantize`: the tap that turns the float forward into the simulated quantized one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refvit.quant.grid import Rounds, fake_quantize


class FakeQuantize:
    """Round every value whose site has a grid in `qparams`; others pass untouched.

    >>> import numpy as np
    >>> from refvit.quant import QParams
    >>> tap = FakeQuantize({"x": QParams(0.5, bits=8)})
    >>> tap("x", np.array([0.7])), tap("y", np.array([0.7]))
    (array([0.5]), array([0.7]))
    """

    def __init__(self, qparams: Mapping[str, Rounds]) -> None:
        self.qparams = qparams

    def __call__(self, site: str, value: Any) -> Any:
        grid = self.qparams.get(site)
        return value if grid is None else fake_quantize(value, grid)
