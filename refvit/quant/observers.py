"""Observers: what calibration keeps of a value, and the range that its grid shall cover.

Each answers `range(bits, symmetric, signed)` with (lo, hi), after any number of `update`s in
bounded memory (Du, Gong and Chu, section III-A). Symmetric grids cover the larger of the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refvit.matching import one_of
from refvit.quant.affine import covering
from refvit.quant.histogram import Histogram, affine_errors, finite_ends
from refvit.quant.ptf import Channels

FloatArray = NDArray[Any]
Range = tuple[float, float]
CANDIDATES = 100  # clipping points that a search tries
SMALLEST = 0.01  # of the largest value, the least of them
TURNS = 2  # of an asymmetric search, each end alone
RESOLVED = 4  # bins to a step, from which on their counts tell one grid from another


class Observer(Protocol):
    """Sees finite values, or raises ValueError; then says which range a grid of so many bits shall
    cover."""

    def update(self, x: FloatArray) -> None: ...
    def range(self, bits: int, symmetric: bool, signed: bool) -> Range: ...


class MinMax:
    """The least and greatest value seen.

    >>> seen = MinMax()
    >>> seen.update(np.array([1.0, -3.0])); seen.update(np.array([2.0]))
    >>> seen.range(8, True, True)
    (-3.0, 2.0)
    """

    def __init__(self) -> None:
        self.lo, self.hi = np.inf, -np.inf

    def update(self, x: FloatArray) -> None:
        lo, hi = finite_ends(x)
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)

    def range(self, bits: int, symmetric: bool, signed: bool) -> Range:
        return self.lo, self.hi


class MovingAverage:
    """Exponential average of each batch's ends: `m old + (1 - m) new` (Jacob et al. 2018, 3.1).

    Unlike min-max it forgets: later batches outweigh earlier ones, and one outlier is damped.
    """

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"a momentum lies in [0, 1); got {momentum}")
        self.momentum = momentum
        self.ends: FloatArray | None = None

    def update(self, x: FloatArray) -> None:
        now = np.array(finite_ends(x))
        m = self.momentum
        self.ends = now if self.ends is None else m * self.ends + (1 - m) * now

    def range(self, bits: int, symmetric: bool, signed: bool) -> Range:
        assert self.ends is not None, "an observer is asked after it has seen something"
        return float(self.ends[0]), float(self.ends[1])


class Percentile:
    """`share` of the values lie within each end, the rest beyond it (McKinstry et al. 2019)."""

    def __init__(self, share: float = 0.9999) -> None:
        if not 0.5 < share <= 1:
            raise ValueError(f"a share of the values lies in (0.5, 1]; got {share}")
        self.share = share
        self.seen = Histogram()

    def update(self, x: FloatArray) -> None:
        self.seen.update(x)

    def range(self, bits: int, symmetric: bool, signed: bool) -> Range:
        return self.seen.quantile(1 - self.share), self.seen.quantile(self.share)


class MeanSquare:
    """The clipping that loses least: the range whose grid has the least mean square error.

    Clipping points are `SMALLEST` to 1 of the largest value, both ends alike; an asymmetric grid's
    ends are then tried each alone, since a GELU's negative end is dense and its positive one is
    not. The full range is among them and wins ties. The error is that of values spread evenly over
    their bins; a grid whose steps are less than `RESOLVED` of them, which 8 bits and fewer never
    are, cannot be told from a finer one, and has the full range.
    """

    def __init__(self) -> None:
        self.seen = Histogram()

    def update(self, x: FloatArray) -> None:
        self.seen.update(x)

    def range(self, bits: int, symmetric: bool, signed: bool) -> Range:
        lo, hi = self.seen.lo, self.seen.hi
        whole = covering(lo, hi, bits, symmetric=symmetric, signed=signed)
        if whole.scale < RESOLVED * self.seen.width or lo == hi == 0:
            return lo, hi
        lost = affine_errors(self.seen)
        lo, hi = min(lo, 0.0), max(hi, 0.0)  # as a grid covers them

        def least(ends: list[Range]) -> Range:
            los, his = np.array(ends).T
            grids = covering(los, his, bits, symmetric=symmetric, signed=signed, axis=0)
            return ends[int(np.argmin(lost(grids)))]

        best = least([(lo * part, hi * part) for part in parts()])
        for _ in range(0 if symmetric else TURNS):
            best = least([best, *((best[0], hi * part) for part in parts())])
            best = least([best, *((lo * part, best[1]) for part in parts())])
        return best


class Entropy:
    """The clipping whose codes differ least in distribution: KL divergence (Migacz 2017).

    The values beyond a clipping point count at it; what is left is spread evenly over the filled
    bins of each code, and the divergence of the two is least at the answer. Magnitudes only, so
    both ends are clipped alike, for as many codes as the longer side of the grid has. It was made
    for the long tails of convolutions: of attention weights, nearly all of them small, it clips the
    few that matter to a third and less.
    """

    def __init__(self, bins: int = 4096) -> None:
        self.seen = Histogram(bins)

    def update(self, x: FloatArray) -> None:
        self.seen.update(x)

    def range(self, bits: int, symmetric: bool, signed: bool) -> Range:
        half = len(self.seen.counts) // 2
        magnitudes = (self.seen.counts[half:] + self.seen.counts[half - 1 :: -1]).astype(float)
        magnitudes[0] = min(magnitudes[0], magnitudes[1])  # exact zeros are no shape to preserve
        if not magnitudes.any():
            return self.seen.lo, self.seen.hi
        filled = int(np.flatnonzero(magnitudes)[-1]) + 1

        def ends(keep: int) -> Range:
            top = keep * self.seen.width if keep < filled else np.inf
            return max(self.seen.lo, -top), min(self.seen.hi, top)

        def lost(keep: int) -> float:
            return divergence(magnitudes, keep, levels(*ends(keep), bits, symmetric, signed))

        least = min(levels(*ends(filled), bits, symmetric, signed), filled)
        points = np.unique(np.linspace(least, filled, CANDIDATES).astype(int)).tolist()
        return ends(min(points, key=lost))


def parts() -> FloatArray:
    """Return the clipping points a search tries, as parts of the largest value; 1 is the first."""
    return np.linspace(1.0, SMALLEST, CANDIDATES)


def levels(lo: float, hi: float, bits: int, symmetric: bool, signed: bool) -> int:
    """Return how many codes magnitudes have on the grid of [lo, hi]: those of its longer side.

    >>> levels(-1.0, 1.0, 4, symmetric=False, signed=True), levels(-0.2, 3.0, 4, False, True)
    (8, 15)
    """
    if symmetric:
        return 1 << (bits - 1 if signed else bits)
    return max(1, round((1 << bits) * max(-lo, hi) / (max(hi, 0.0) - min(lo, 0.0))))


def divergence(counts: FloatArray, keep: int, levels: int) -> float:
    """Return KL(p || q) of `counts` clipped to `keep` bins and merged into `levels` codes;
    infinite if nothing is in the bins that are kept, since q has no shape then."""
    if not counts[:keep].any():
        return np.inf
    p = counts[:keep].copy()
    p[-1] += counts[keep:].sum()
    code = np.arange(keep) * levels // keep
    alive = counts[:keep] > 0
    mass = np.bincount(code, counts[:keep], levels)
    shared = np.bincount(code, alive, levels)
    q = np.where(alive, (mass / np.maximum(shared, 1))[code], 0.0)
    there = p > 0
    if (q[there] == 0).any():  # the clipped mass fell on a bin that holds nothing itself
        q = q + (p > 0) * 1e-9 * q.sum()
    p, q = p[there] / p.sum(), q[there] / q[there].sum()
    return float(np.sum(p * np.log(p / q)))


OBSERVERS: Mapping[str, Callable[[], Observer]] = {
    "minmax": MinMax,
    "moving": MovingAverage,
    "percentile": Percentile,
    "mse": MeanSquare,
    "entropy": Entropy,
    "channels": Channels,
}


def observer(name: str) -> Observer:
    """Return a fresh observer called `name`; ValueError lists them."""
    return OBSERVERS[one_of(name, OBSERVERS, "observer")]()


class Calibration:
    """The tap that hands every value to the observer of its site.

    `choose(site)` names the observer; each is made when its site is first seen.
    """

    def __init__(self, choose: Callable[[str], str] = lambda site: "minmax") -> None:
        self.choose = choose
        self.seen: dict[str, Observer] = {}

    def __call__(self, site: str, value: Any) -> Any:
        if site not in self.seen:
            self.seen[site] = observer(self.choose(site))
        self.seen[site].update(np.asarray(value))
        return value
