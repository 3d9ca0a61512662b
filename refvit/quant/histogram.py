"""`Histogram`: what was seen of a value, in memory that does not grow with the number of images.

The bins lie at multiples of their width, over [-reach, reach) with a reach that is a power of two.
When a value falls outside, the reach doubles and neighbouring bins merge; so the counts are those
of one histogram over all values at the final reach, whatever the order they came in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import QParams
from refvit.quant.grid import Grid

FloatArray = NDArray[Any]
POINTS = 8  # of a bin, at which an error is taken
HAIR = 2.0**-10  # of a bin: what the ends have on each side, so that a single value has a width


class Histogram:
    """Counts of real values in `bins` bins (even) of one width, and their exact ends.

    >>> seen = Histogram(bins=8)
    >>> seen.update(np.array([0.4, -0.1])); seen.update(np.array([3.0, 0.9]))
    >>> seen.reach, seen.counts.tolist(), (seen.lo, seen.hi)
    (4.0, [0, 0, 0, 1, 2, 0, 0, 1], (-0.1, 3.0))
    """

    def __init__(self, bins: int = 4096) -> None:
        if bins < 4 or bins % 4:
            raise ValueError(f"a histogram has a multiple of 4 bins, asked for {bins}")
        self.counts = np.zeros(bins, np.int64)
        self.reach = 0.0
        self.lo, self.hi = np.inf, -np.inf

    def update(self, x: FloatArray) -> None:
        """Count every element of `x`; ValueError if one is not finite."""
        x = np.asarray(x, x.dtype if x.dtype.kind == "f" else np.float64)
        lo, hi = finite_ends(x)
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        self._widen(max(-lo, hi))
        if self.reach == 0.0:  # nothing but zeros so far: they are counted when there is a width
            self.counts[len(self.counts) // 2] += x.size
            return
        place = np.floor(np.ravel(x) / np.asarray(self.width, x.dtype)).astype(np.int64)
        self.counts += np.bincount(place + len(self.counts) // 2, minlength=len(self.counts))

    @property
    def width(self) -> float:
        """The width of a bin, a power of two; 0 as long as only zeros were seen."""
        return 2 * self.reach / len(self.counts)

    @property
    def centres(self) -> FloatArray:
        """The middle of every bin."""
        half = len(self.counts) // 2
        return (np.arange(-half, half) + 0.5) * self.width

    def _widen(self, top: float) -> None:
        wanted = 0.0 if top == 0 else float(2.0 ** (np.frexp(top)[1]))  # strictly above top
        if self.reach == 0.0:
            self.reach = wanted
        while self.reach < wanted:
            quarter = len(self.counts) // 4
            merged = self.counts[0::2] + self.counts[1::2]
            self.counts = np.zeros_like(self.counts)
            self.counts[quarter : 3 * quarter] = merged
            self.reach *= 2

    def quantile(self, share: float) -> float:
        """Return a value that `share` of those seen do not exceed, to the width of one bin."""
        if self.reach == 0.0:
            return 0.0
        running = np.cumsum(self.counts)
        k = int(np.searchsorted(running, share * running[-1], side="left"))
        edge = (k + 1 - len(self.counts) // 2) * self.width
        return float(np.clip(edge, self.lo, self.hi))


def finite_ends(x: FloatArray) -> tuple[float, float]:
    """Return the least and greatest element of `x`; ValueError if one is not finite."""
    lo, hi = float(np.min(x)), float(np.max(x))
    if not (np.isfinite(lo) and np.isfinite(hi)):
        raise ValueError(f"an observer sees finite values; these go from {lo} to {hi}")
    return lo, hi


def square_error(grid: Grid, seen: Histogram) -> float:
    """Return the mean square error of `grid` on what `seen` counted.

    The values of a bin are taken to be spread over it: a fine step is less than a bin, and the
    error at centres alone would depend on where the two happen to meet.
    """
    used = np.flatnonzero(seen.counts)
    place = used[:, None] - len(seen.counts) // 2 + (np.arange(POINTS) + 0.5) / POINTS
    x = np.clip(place * seen.width, seen.lo, seen.hi)
    errors = np.square(grid.round(x) - x).mean(1)
    return float(seen.counts[used] @ errors / seen.counts.sum())


def affine_errors(seen: Histogram) -> Callable[[QParams], list[float]]:
    """Return the square errors of what `seen` counted, as a function of per-tensor grids: one for
    each scale of a `QParams` of axis 0.

    The values of a bin are spread evenly over it, and the integral is exact: in steps, of the code
    c at the distance e it is c / 12 + e**3 / 3 from zero on, also beyond the ends. The sum is over
    the edges of the bins, whatever the grid: a search of many grids is cheap.
    """
    used, width = np.flatnonzero(seen.counts), seen.width
    places = np.union1d(used, used + 1)
    edges = (places - len(seen.counts) // 2) * width
    edges = np.clip(edges, seen.lo - HAIR * width, seen.hi + HAIR * width)
    left = np.searchsorted(places, used)
    density = seen.counts[used] / (edges[left + 1] - edges[left])
    weight = np.zeros_like(edges)
    weight[left] -= density
    weight[left + 1] += density

    def errors(grids: QParams) -> list[float]:
        steps = edges / grids.scale[:, None]
        zero = np.broadcast_to(grids.zero_point, grids.scale.shape)[:, None]
        codes = np.clip(np.rint(steps), grids.lo - zero, grids.hi - zero)
        off = steps - codes
        lost = codes / 12 + off * off * off / 3
        each = zip(lost, grids.scale, strict=True)
        return [float(weight @ row) * float(scale) ** 3 for row, scale in each]

    return errors
