"""More exercises of notebook 08: two properties, and how unlike neighbouring pixels are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
CARRIED = np.random.default_rng(0)  # of a faulty function: it goes on from call to call


def even_is_greatest(entropy: Any, counts: Array) -> bool:
    """Return whether no histogram of as many bins has a greater entropy than the even one has.

    This is a property: `entropy(counts)` gives a float for counts [n] of at least one value, and
    `counts` is one histogram to try it on. Compare it with the histogram of n bins that all hold
    the same, and leave 1e-9 for rounding. It is true of every entropy, in nats or otherwise, and
    false of a faulty one for some counts.
    """
    even = np.ones(len(counts), dtype=np.int64)
    return bool(entropy(counts) <= entropy(even) + 1e-9)


def shannon(counts: Array) -> float:
    """Return -sum p ln p."""
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log(p)))


def gini(counts: Array) -> float:
    """Return the chance that two values lie in different bins: an entropy too."""
    return float(1 - np.sum((counts / counts.sum()) ** 2))


def _spike(counts: Array) -> Array:
    return np.asarray(np.eye(1, len(counts), dtype=np.int64)[0])


HISTOGRAMS = st.lists(st.integers(0, 9), min_size=1, max_size=6).map(
    lambda counts: np.array(counts if any(counts) else [1] * len(counts), np.int64)
)
EVEN = Exercise(
    id="nb08.even_is_greatest",
    title="a property: an even spread has the greatest entropy",
    answer=even_is_greatest,
    cases=st.tuples(HISTOGRAMS),
    returns="property",
    hints=(
        "np.ones(len(counts)) is an even histogram: an entropy reads shares, not counts.",
        "Not counts against a formula: entropy(counts) against entropy(even).",
    ),
    tried=Tried(
        right=(shannon, gini),
        faulty=(
            Wrong("signless", "the minus forgotten", lambda counts: -shannon(counts)),
            Wrong("unweighted", "the mean of -ln p, each bin for the same",
                  lambda counts: float(-np.log(counts[counts > 0] / counts.sum()).mean())),
            Wrong("deviation", "the deviation of the counts, which is least where they are even",
                  lambda counts: float(np.std(counts / counts.sum()))),
            Wrong("favourite", "a first bin that counts for twice as much",
                  lambda counts: shannon(counts) + float(counts[0] / counts.sum())),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda entropy, counts: True),
        Wrong("strict", "less where at most was meant: an even histogram is as good as itself",
              lambda entropy, counts: bool(
                  entropy(counts) < entropy(np.ones(len(counts), np.int64)))),
        Wrong("spike", "a comparison with all values in one bin, the least entropy",
              lambda entropy, counts: bool(entropy(counts) >= entropy(_spike(counts)) - 1e-9)),
        Wrong("bound", "a comparison with ln n: not all entropies are in nats",
              lambda entropy, counts: bool(entropy(counts) <= np.log(len(counts)) + 1e-9)),
        Wrong("order", "a look at whether the order of the bins matters",
              lambda entropy, counts: bool(
                  abs(entropy(counts) - entropy(np.sort(counts))) <= 1e-9)),
        Wrong("converse", "the even histogram at most where at least was meant",
              lambda entropy, counts: bool(
                  entropy(np.ones(len(counts), np.int64)) <= entropy(counts) + 1e-9)),
    ),
)  # fmt: skip


def four_variations(x: Array) -> float:
    """Return how unlike neighbouring pixels of x [n, C, H, W] are, H and W at least 2.

    For each of four directions (right, down, and the two diagonals down-right and down-left) take
    the differences of all pixels that have a neighbour there, over all images and channels
    together, and of these the Euclidean norm: the root of the sum of squares. Return the sum of the
    four norms. The image does not wrap around at its ends.
    """
    right, down = x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]
    falling = x[..., 1:, 1:] - x[..., :-1, :-1]
    rising = x[..., 1:, :-1] - x[..., :-1, 1:]
    return float(sum(np.sqrt(np.sum(d**2)) for d in (right, down, falling, rising)))


def _slow_variation(x: Array) -> float:
    total, (height, width) = 0.0, x.shape[2:]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = 0.0
        for n, c, i, j in np.ndindex(*x.shape):
            if i + down < height and 0 <= j + across < width:
                squares += (x[n, c, i, j] - x[n, c, i + down, j + across]) ** 2
        total += squares**0.5
    return float(total)


def _differences(x: Array, wraps: bool = False) -> list[Array]:
    if wraps:
        return [x - np.roll(x, move, (2, 3)) for move in ((0, 1), (1, 0), (1, 1), (1, -1))]
    return [x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :],
            x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]]  # fmt: skip


def _norms(parts: list[Array], axis: tuple[int, ...] | None = None) -> float:
    return float(sum(np.sqrt(np.sum(d**2, axis=axis)).sum() for d in parts))


def _images() -> st.SearchStrategy[Array]:
    def of(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
        size = int(np.prod(shape))
        values = st.lists(st.integers(-2, 2), min_size=size, max_size=size)
        return values.map(lambda flat: np.array(flat, np.float64).reshape(shape))

    sizes = (st.integers(1, 2), st.integers(1, 2), st.integers(2, 3), st.integers(2, 3))
    return st.tuples(*sizes).flatmap(of)


VARIATION = Exercise(
    id="nb08.four_variations",
    title="how unlike neighbours are",
    answer=four_variations,
    cases=st.tuples(_images()),
    returns="variation",
    truth=_slow_variation,
    judge=closely(1e-9),
    edges=((np.zeros((1, 1, 2, 2)),),),
    hints=(
        "x[..., :, 1:] - x[..., :, :-1] are all differences to the right.",
        "A diagonal is a slice in both axes: x[..., 1:, :-1] - x[..., :-1, 1:] goes down-left.",
    ),
    wrong=(
        Wrong("two", "differences to the right and down, without the diagonals",
              lambda x: _norms(_differences(x)[:2])),
        Wrong("absolute", "sums of magnitudes where norms were meant: square, add, take the root",
              lambda x: float(sum(np.abs(d).sum() for d in _differences(x)))),
        Wrong("squares", "sums of squares without the root",
              lambda x: float(sum((d**2).sum() for d in _differences(x)))),
        Wrong("one_root", "one root of all four sums, where each direction has its own",
              lambda x: float(np.sqrt(sum((d**2).sum() for d in _differences(x))))),
        Wrong("each_image", "a norm for each image, where all images share one",
              lambda x: _norms(_differences(x), (1, 2, 3))),
        Wrong("each_channel", "a norm for each image and channel, where all share one",
              lambda x: _norms(_differences(x), (2, 3))),
        Wrong("wraps", "an image that goes on at its other end, as np.roll has it",
              lambda x: _norms(_differences(x, wraps=True))),
        Wrong("one_diagonal", "one diagonal twice, where there are two",
              lambda x: _norms([*_differences(x)[:3], _differences(x)[2]])),
    ),
)  # fmt: skip


def is_reproducible(make: Any, seed: int, count: int) -> bool:
    """Return whether make(seed, count), which returns images [count, 2, 2], is reproducible.

    This is a property: with the same seed it gives the same values to the last bit, every time, and
    with seed + 1 at least one other value. It is true of every generator that is a function of its
    arguments and uses them, and false of a faulty one.
    """
    first, other, again = make(seed, count), make(seed + 1, count), make(seed, count)
    return bool(np.array_equal(first, again) and not np.array_equal(first, other))


def by_seed(seed: int, count: int) -> Array:
    """Return noise of one generator."""
    return np.random.default_rng(seed).standard_normal((count, 2, 2))


def by_image(seed: int, count: int) -> Array:
    """Return noise of a generator for each image, so that fewer are the first of more."""
    return np.stack([np.random.default_rng([seed, k]).random((2, 2)) for k in range(count)])


def framed(seed: int, count: int) -> Array:
    """Return noise with a black row above, whatever the seed."""
    return np.asarray(by_seed(seed, count) * np.array([[0.0], [1.0]]))


def _nearly(seed: int, count: int) -> Array:
    images = by_seed(seed, count)
    images[-1, -1, -1] += 1e-12 * CARRIED.random()
    return images


def _later(seed: int, count: int) -> Array:
    images = by_seed(seed, count)
    images[1:] += CARRIED.random()
    return images


def _same(make: Any, seed: int, count: int) -> bool:
    return bool(np.array_equal(make(seed, count), make(seed, count)))


REPRODUCIBLE = Exercise(
    id="nb08.is_reproducible",
    title="a property: the same seed makes the same images",
    answer=is_reproducible,
    cases=st.tuples(st.integers(0, 99), st.integers(1, 3)),
    returns="property",
    hints=(
        "Two calls with the same seed, and one with another.",
        "np.array_equal compares every bit of every value; np.allclose forgives small errors.",
    ),
    tried=Tried(
        right=(by_seed, by_image, framed),
        faulty=(
            Wrong("unseeded", "a generator that takes no seed",
                  lambda seed, count: np.random.default_rng().random((count, 2, 2))),
            Wrong("carried", "one generator that goes on from call to call",
                  lambda seed, count: CARRIED.random((count, 2, 2))),
            Wrong("deaf", "a seed of its own: yours changes nothing",
                  lambda seed, count: by_seed(7, count)),
            Wrong("nearly", "an error of 1e-12 in one value that differs from call to call",
                  _nearly),
            Wrong("later", "images behind the first that differ from call to call", _later),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda make, seed, count: True),
        Wrong("close", "np.allclose, which forgives small errors, where equal bits were meant",
              lambda make, seed, count: bool(np.allclose(make(seed, count), make(seed, count))
              and not np.allclose(make(seed, count), make(seed + 1, count)))),
        Wrong("same_only", "a look at one seed only: a function that ignores it passes", _same),
        Wrong("differ_only", "a look at two seeds only: what is never the same passes",
              lambda make, seed, count: not np.array_equal(
                  make(seed, count), make(seed + 1, count))),
        Wrong("all_other", "every value different for another seed, where one is enough",
              lambda make, seed, count: _same(make, seed, count) and bool(
                  (make(seed, count) != make(seed + 1, count)).all())),
        Wrong("identity", "`is`, which asks for one array in memory, where equal values are meant",
              lambda make, seed, count: make(seed, count) is make(seed, count)),
    ),
)  # fmt: skip
