"""Observers: taps that watch activations during calibration and keep what a grid needs."""

from __future__ import annotations

from typing import Any

import numpy as np


class MinMax:
    """Keep the least and greatest value seen at every site, in constant memory.

    >>> seen = MinMax()
    >>> _ = seen("a", np.array([1.0, -3.0])), seen("a", np.array([2.0]))
    >>> seen.ranges["a"], seen.largest("a")
    ((-3.0, 2.0), 3.0)
    """

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[float, float]] = {}

    def __call__(self, site: str, value: Any) -> Any:
        lo, hi = float(np.min(value)), float(np.max(value))
        before = self.ranges.get(site, (lo, hi))
        self.ranges[site] = (min(lo, before[0]), max(hi, before[1]))
        return value

    def largest(self, site: str) -> float:
        """Return max|x| of everything seen at `site`; KeyError if nothing was."""
        lo, hi = self.ranges[site]
        return max(-lo, hi)
