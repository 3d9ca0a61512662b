"""More exercises of notebook 08: how alike patches are, and the entropy of that."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely, equal
from refvit.course.exercise import Exercise, Wrong
from refvit.quant.datafree import similarities
from refvit.testing.extra import st

Array = NDArray[Any]


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
    judge=closely(1e-5),  # so that a small number added to a length does no harm
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
    edges=((np.array([1.0, 0.875]), 4), (np.array([-1.0, 1.0, 1.0]), 1)),
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
