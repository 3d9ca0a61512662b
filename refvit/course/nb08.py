"""The exercises of notebook 08: images out of the model itself (PSAQ-ViT, Li et al. 2022)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely, equal
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb08_more import EVEN, REPRODUCIBLE, VARIATION
from refvit.quant.datafree import similarities
from refvit.testing.extra import st

Array = NDArray[Any]
Range = tuple[float, float]
DRAWS = 32 * 3 * 32 * 32  # values of 32 images


def noise_reach() -> float:
    """Return how large you expect the largest magnitude of 98,304 draws from N(0, 1) to be.

    So many values are in 32 noise images of 3 x 32 x 32. The pixels of an image end at 1, so this
    is how many times wider noise makes the range of the input. Within 5 % of what is drawn counts.
    """
    n = 2 * 98_304  # either sign counts
    return float(np.sqrt(2 * np.log(n) - np.log(4 * np.pi * np.log(n))))


def _drawn() -> float:
    return float(np.abs(np.random.default_rng(0).standard_normal(DRAWS, np.float32)).max())


NOISE_REACH = Exercise(
    id="nb08.noise_reach",
    title="predict how far noise reaches",
    answer=noise_reach,
    cases=st.just(()),
    returns="reach",
    truth=_drawn,
    judge=closely(0.05),
    hints=(
        "One draw in 370 lies beyond 3. How often does that happen in 98,304 draws?",
        "One draw in 16,000 lies beyond 4, one in 150,000 beyond 4.5, at either end.",
    ),
    wrong=(
        Wrong("pixels", "where pixels end, which noise knows nothing of", lambda: 1.0),
        Wrong("three", "three deviations: right for one draw, not for the largest of many",
              lambda: 3.0),
        Wrong("root", "the root of the number of draws, which is how their sum grows",
              lambda: 98_304**0.5),
        Wrong("bound", "sqrt(2 ln n), a limit that the largest of n draws stays some way below",
              lambda: float(np.sqrt(2 * np.log(98_304)))),
    ),
)  # fmt: skip


def range_overlap(a: Range, b: Range) -> float:
    """Return which share of two ranges together is in both of them, from 0.0 to 1.0.

    A range is a tuple (lo, hi), lo <= hi. The share is the length of what both cover, over the
    length from the lower lo to the higher hi. Ranges that only touch or lie apart share 0.0; two
    ranges that are the same single point share 1.0.
    """
    both = min(a[1], b[1]) - max(a[0], b[0])
    whole = max(a[1], b[1]) - min(a[0], b[0])
    return 1.0 if whole == 0 else max(0.0, both / whole)


def _overlap_exactly(a: Range, b: Range) -> float:
    (low, high), (bottom, top) = (tuple(map(Fraction, ends)) for ends in (a, b))
    whole = max(high, top) - min(low, bottom)
    outside = abs(low - bottom) + abs(high - top)  # of ranges that meet: what one has alone
    return 1.0 if not whole else float(max(Fraction(0), 1 - outside / whole))


def _ratio(a: Range, b: Range, whole: float, zero: float = 0.0) -> float:
    both = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return both / whole if whole else zero


def _unclipped(a: Range, b: Range) -> float:
    whole = max(a[1], b[1]) - min(a[0], b[0])
    return (min(a[1], b[1]) - max(a[0], b[0])) / whole if whole else 1.0


RANGES = st.tuples(draw.reals(4), draw.reals(4)).map(lambda ends: (min(ends), max(ends)))
OVERLAP = Exercise(
    id="nb08.range_overlap",
    title="how much of two ranges is common",
    answer=range_overlap,
    cases=st.tuples(RANGES, RANGES),
    returns="share",
    truth=_overlap_exactly,
    judge=closely(1e-9),
    edges=(((1.0, 1.0), (1.0, 1.0)), ((0.0, 1.0), (1.0, 2.0)), ((0.0, 4.0), (1.0, 2.0))),
    hints=(
        "What both cover runs from the higher lo to the lower hi.",
        "Where they lie apart that length is below 0: max(0.0, ...).",
    ),
    wrong=(
        Wrong("unclipped", "a share below 0 where the ranges lie apart", _unclipped),
        Wrong("of_first", "a share of the first range alone, 1 as soon as the other contains it",
              lambda a, b: _ratio(a, b, a[1] - a[0], float(b[0] <= a[0] <= b[1]))),
        Wrong("of_shorter", "a share of the shorter range, 1 as soon as one contains the other",
              lambda a, b: _ratio(a, b, min(a[1] - a[0], b[1] - b[0]), float(a == b))),
        Wrong("of_sum", "a share of both lengths added, in which the common part counts twice",
              lambda a, b: _ratio(a, b, a[1] - a[0] + b[1] - b[0], float(a == b))),
        Wrong("reach", "the ratio of the largest magnitudes, which does not see where they lie",
              lambda a, b: (lambda s: min(s) / max(s) if max(s) else 1.0)(
                  [max(map(abs, ends)) for ends in (a, b)])),
        Wrong("point", "0 for two ranges that are the same point",
              lambda a, b: _ratio(a, b, max(a[1], b[1]) - min(a[0], b[0]))),
    ),
)  # fmt: skip


def patch_cosines(context: Array, prefix: int) -> Array:
    """Return the cosine of every two patches of an image: float64 [M, M], M = N - prefix.

    `context` [H, N, d] is what attention gives for N tokens, head by head. First average the heads,
    then leave out the first `prefix` tokens, which are no patches. A patch that is all zero has the
    cosine 0 with every patch, itself included. The diagonal is kept.
    """
    patches = context.mean(0)[prefix:]
    length = np.sqrt((patches**2).sum(1, keepdims=True))
    unit = patches / np.where(length > 0, length, 1.0)
    return np.asarray(unit @ unit.T)


def _cosines(patches: Array, safe: bool = True) -> Array:
    length = np.sqrt((patches * patches).sum(-1, keepdims=True))
    unit = patches / np.where((length > 0) | (not safe), length, 1.0)
    return np.asarray(unit @ unit.swapaxes(-1, -2))


def _cosines_of_package(context: Array, prefix: int) -> Array:
    count = context.shape[1] - prefix
    return np.asarray(similarities(context[None], prefix, 1)).reshape(count, count)


def _contexts() -> st.SearchStrategy[Array]:
    def of(shape: tuple[int, int, int]) -> st.SearchStrategy[Array]:
        size = int(np.prod(shape))
        values = st.lists(st.integers(-2, 2), min_size=size, max_size=size)
        return values.map(lambda flat: np.array(flat, np.float64).reshape(shape))

    return st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(1, 3)).flatmap(of)


COSINES = Exercise(
    id="nb08.patch_cosines",
    title="how alike patches are",
    answer=patch_cosines,
    cases=st.tuples(_contexts(), st.integers(0, 1)),
    returns="cosines",
    truth=_cosines_of_package,
    judge=closely(1e-9),
    edges=((np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 3.0], [3.0, 0.0]]]), 0),),
    hints=(
        "context.mean(0) is [N, d]; [prefix:] takes what lies behind the class token.",
        "Divide each patch by its length; then unit @ unit.T has all the cosines.",
        "np.where(length > 0, length, 1.0) divides zeros by 1.",
    ),
    wrong=(
        Wrong("by_head", "cosines of each head, averaged after, where heads are averaged first",
              lambda context, prefix: _cosines(context[:, prefix:]).mean(0)),
        Wrong("prefix", "the class token among the patches",
              lambda context, prefix: _cosines(context.mean(0))),
        Wrong("end", "tokens left out at the end, where the class token comes first",
              lambda context, prefix: _cosines(
                  context.mean(0)[: context.shape[1] - prefix])),
        Wrong("products", "products of patches that were not brought to length 1",
              lambda context, prefix: (lambda p: p @ p.T)(context.mean(0)[prefix:])),
        Wrong("nan", "a division by the length of a patch that is all zero",
              lambda context, prefix: _cosines(context.mean(0)[prefix:], safe=False)),
        Wrong("columns", "cosines of channels, unit.T @ unit, where patches are the rows",
              lambda context, prefix: _cosines(context.mean(0)[prefix:].T)),
    ),
)  # fmt: skip


def histogram_entropy(values: Array, bins: int) -> float:
    """Return the entropy of a histogram of values [n] from -1 to 1: -sum p ln p, as a float.

    The histogram has `bins` equal bins from -1 to 1, as np.histogram makes them with
    range=(-1, 1); p is the share of the values in each, and empty bins add nothing.
    """
    counts, _ = np.histogram(values, bins, range=(-1, 1))
    p = counts[counts > 0] / len(values)
    return float(-np.sum(p * np.log(p)))


def _entropy_of(values: Array, bins: int, **options: Any) -> Array:
    counts, _ = np.histogram(values, bins, **({"range": (-1, 1)} | options))
    return np.asarray(counts, np.float64)


def _surprise(p: Array) -> float:
    return float(-np.sum(p[p > 0] * np.log(p[p > 0])))


def _slow_entropy(values: Array, bins: int) -> float:
    """ln n - (1/n) sum_i ln(how many share the bin of value i), one value after the other."""
    places = [min(bins - 1, int((Fraction(v) + 1) * bins / 2)) for v in values.tolist()]
    shared = [np.log(places.count(place)) for place in places]
    return float(np.log(len(places)) - sum(shared) / len(places))


def _nearly(found: Any, expected: Any, *arguments: Any) -> str:
    """Within 1e-6, so that a small number inside the logarithm does no harm."""
    near = not equal(found, float(expected), within=1e-6) or (
        isinstance(found, float | np.floating) and abs(found - expected) < 1e-6
    )
    return "" if near else equal(found, expected)


COSINE = st.integers(-8, 8).map(lambda k: k / 8)
HISTOGRAM = Exercise(
    id="nb08.histogram_entropy",
    title="entropy of a histogram",
    answer=histogram_entropy,
    cases=st.tuples(draw.vectors(elements=COSINE), st.integers(1, 8)),
    returns="entropy",
    truth=_slow_entropy,
    judge=_nearly,
    hints=(
        "np.histogram(values, bins, range=(-1, 1)) gives counts and edges.",
        "0 ln 0 counts as 0: keep counts[counts > 0] only.",
    ),
    wrong=(
        Wrong("bits", "a logarithm to base 2, which counts in bits where ln was meant",
              lambda values, bins: _surprise(_entropy_of(values, bins) / len(values)) / np.log(2)),
        Wrong("sign", "the sum of p ln p without its minus",
              lambda values, bins: -_surprise(_entropy_of(values, bins) / len(values))),
        Wrong("counts", "counts where shares were meant: divide by len(values)",
              lambda values, bins: _surprise(_entropy_of(values, bins))),
        Wrong("density", "a density, shares over the width of a bin, where shares were meant",
              lambda values, bins: _surprise(_entropy_of(values, bins, density=True))),
        Wrong("own_range", "bins from the least value to the greatest, where they go from -1 to 1",
              lambda values, bins: _surprise(
                  _entropy_of(values, bins, range=None) / len(values))),
        Wrong("nan", "0 ln 0 of an empty bin, which is nan in NumPy",
              lambda values, bins: (lambda p: float(-np.sum(p * np.log(p))))(
                  _entropy_of(values, bins) / len(values))),
    ),
)  # fmt: skip

EXERCISES = (NOISE_REACH, OVERLAP, COSINES, HISTOGRAM, EVEN, VARIATION, REPRODUCIBLE)
