"""The exercises of notebook 04: what is kept of values that come batch by batch (Jacob et al. 2018,
section 3.1; Du, Gong and Chu 2024, section III-A)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.course.nb04_dynamic import EQUIVARIANT, RUN_TIME_SCALES, TOKEN_CODES
from refvit.course.nb04_more import BEST_CLIP, CHANCE, RELATIVE_ENTROPY
from refvit.quant import Histogram
from refvit.testing.extra import st

Array = NDArray[Any]
Chunks = list[Array]
BINS = 8  # of the histograms that are drawn


def moving_ends(batches: Chunks, momentum: float) -> tuple[float, float]:
    """Return (lo, hi), the exponential average of the least and greatest values of `batches`, a
    list of one or more arrays [n].

    The first batch gives its own ends; every later one moves them to
    momentum * old + (1 - momentum) * new, with 0 <= momentum < 1.
    """
    lo, hi = batches[0].min(), batches[0].max()
    for batch in batches[1:]:
        lo = momentum * lo + (1 - momentum) * batch.min()
        hi = momentum * hi + (1 - momentum) * batch.max()
    return float(lo), float(hi)


def _moved(batches: Chunks, momentum: float, start: int = 1) -> tuple[float, float]:
    return moving_ends(([batches[0] * 0] if not start else []) + batches, momentum)


MOVING_ENDS = Exercise(
    id="nb04.moving_ends",
    title="ends that forget: the exponential average",
    answer=moving_ends,
    cases=st.tuples(
        st.lists(draw.vectors(1, 3), min_size=1, max_size=3),
        st.sampled_from([0.0, 0.5, 0.75, 0.875]),
    ),
    returns="ends",
    judge=closely(1e-9),
    edges=(
        ([np.array([0.0]), np.array([0.5])], 0.5),
        ([np.array([0.0]), np.array([-0.5])], 0.5),
        ([np.array([1.0]), np.array([-1.0]), np.array([2.0])], 0.5),
    ),
    hints=(
        "Two numbers are all that is kept. Take them from batches[0], then loop over batches[1:].",
        "lo = momentum * lo + (1 - momentum) * batch.min(), and hi likewise.",
    ),
    wrong=(
        Wrong("swapped", "a momentum on the new batch: it belongs to what is remembered",
              lambda batches, momentum: moving_ends(batches, 1 - momentum)),
        Wrong("from_zero", "an average that starts at 0 where the first batch gives its ends",
              lambda batches, momentum: _moved(batches, momentum, 0)),
        Wrong("minmax", "plain min-max, which forgets nothing",
              lambda batches, momentum: (float(min(map(np.min, batches))),
                                         float(max(map(np.max, batches))))),
        Wrong("mean", "the plain mean of all ends",
              lambda batches, momentum: (float(np.mean([b.min() for b in batches])),
                                         float(np.mean([b.max() for b in batches])))),
        Wrong("of_elements", "an average of elements where ends were meant",
              lambda batches, momentum: moving_ends(
                  [x[None] for b in batches for x in b], momentum)),
        Wrong("last", "the ends of the last batch alone",
              lambda batches, momentum: moving_ends(batches[-1:], momentum)),
    ),
)  # fmt: skip


def merge_bins(counts: Array) -> Array:
    """Return the counts of a histogram at twice its reach, int64 [n], n as before.

    `counts` [n], n a multiple of 4, are those of n bins of one width over [-reach, reach). The bins
    returned have twice that width, over [-2 reach, 2 reach); no value is seen again.
    """
    half = counts[0::2] + counts[1::2]
    return np.pad(half, len(half) // 2)


def _counted_again(counts: Array) -> Array:
    """The same by putting a value into the middle of every bin, and counting it anew."""
    n = len(counts)
    middles = np.repeat(np.arange(-n // 2, n // 2) + 0.5, counts)
    return np.histogram(middles, n, (-n, n))[0]


def _padded(half: Array) -> Array:
    return np.pad(half, len(half) // 2)


MERGE_BINS = Exercise(
    id="nb04.merge_bins",
    title="a histogram that doubles its reach",
    answer=merge_bins,
    cases=st.tuples(
        draw.vectors(1, 3, st.integers(0, 9), np.int64).flatmap(
            lambda x: st.sampled_from([4, 8, 12]).map(lambda n: np.resize(x, n))
        )
        | draw.vectors(8, 8, st.integers(0, 9), np.int64)
    ),
    truth=_counted_again,
    returns="counts",
    hints=(
        "A bin of twice the width holds what two neighbours held: counts[0::2] + counts[1::2].",
        "That leaves n / 2 bins, which lie in the middle of the new reach: zeros on both sides, "
        "n / 4 each.",
    ),
    wrong=(
        Wrong("thinned", "every second bin dropped where neighbours are added",
              lambda counts: _padded(counts[0::2])),
        Wrong("at_the_start", "merged bins put at the least end where they lie in the middle",
              lambda counts: np.pad(counts[0::2] + counts[1::2], (0, len(counts) // 2))),
        Wrong("phase", "pairs that begin with the second bin, across the edges of the new bins",
              lambda counts: _padded(counts[1::2] + np.roll(counts, -2)[0::2])),
        Wrong("mean", "the mean of two neighbours where their sum was meant",
              lambda counts: _padded((counts[0::2] + counts[1::2]) // 2)),
        Wrong("halves", "halves folded onto each other where neighbours are added",
              lambda counts: _padded(counts[: len(counts) // 2] + counts[len(counts) // 2 :])),
        Wrong("not_merged", "the inner bins kept as they are, the outer ones lost",
              lambda counts: _padded(counts[len(counts) // 4 : -(len(counts) // 4)])),
    ),
)  # fmt: skip


def streams_like_whole(histogram: Any, chunks: Chunks) -> bool:
    """Return whether a streaming histogram is that of the whole.

    histogram(chunks) takes a list of arrays [n], one after the other, and returns
    (reach, counts [8]). For one chunk that holds all values it shall return the same reach and the
    same counts. This is a property: true of every right streaming histogram, for all chunks.
    """
    reach, counts = histogram(chunks)
    whole_reach, whole_counts = histogram([np.concatenate(chunks)])
    return bool(reach == whole_reach and np.array_equal(counts, whole_counts))


def streaming(chunks: Chunks) -> tuple[float, Array]:
    """Return reach and counts as `refvit.quant.Histogram` keeps them."""
    seen = Histogram(BINS)
    for chunk in chunks:
        seen.update(chunk)
    return seen.reach, seen.counts


def two_pass(chunks: Chunks) -> tuple[float, Array]:
    """Return the same of values that are all kept, at a reach that need not be a power of two."""
    x = np.concatenate(chunks)
    reach = float(np.abs(x).max() + 1)
    return reach, np.histogram(x, BINS, (-reach, reach))[0]


def _stream(
    chunks: Chunks, widen: Callable[[Array], Array] = merge_bins, grows: bool = True, extra: int = 0
) -> tuple[float, Array]:
    reach, counts = 0.25, np.zeros(BINS, np.int64)
    for number, x in enumerate(chunks):
        while (grows or number == 0) and reach <= np.abs(x).max():
            reach, counts = 2 * reach, widen(counts)
        place = np.floor(x / (2 * reach / BINS)).astype(int) + BINS // 2
        counts += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
        counts[BINS // 2] += extra
    return reach, counts


WHOLE = Exercise(
    id="nb04.streams_like_whole",
    title="a property: a streaming histogram equals that of the whole",
    answer=streams_like_whole,
    cases=st.tuples(st.lists(draw.vectors(1, 3), min_size=1, max_size=3)),
    returns="property",
    hints=(
        "Call histogram twice: on chunks, and on a list with one array, np.concatenate(chunks).",
        "Two numbers by ==, two arrays by np.array_equal; both have to hold.",
    ),
    tried=Tried(
        right=(streaming, two_pass),
        faulty=(
            Wrong("first_reach", "a reach that the first chunk fixes for all",
                  lambda chunks: _stream(chunks, grows=False)),
            Wrong("forgets", "counts that start again where the reach grows",
                  lambda chunks: _stream(chunks, lambda counts: counts * 0)),
            Wrong("keeps_bins", "counts that stay in their bins where the reach grows",
                  lambda chunks: _stream(chunks, lambda counts: counts)),
            Wrong("mirrored", "bins that change sides where there is more than one chunk",
                  lambda chunks: (_stream(chunks)[0],
                                  _stream(chunks)[1][:: 1 if len(chunks) == 1 else -1])),
            Wrong("last_reach", "right counts, beside the reach of the last chunk alone",
                  lambda chunks: (_stream(chunks[-1:])[0], _stream(chunks)[1])),
            Wrong("two_at_most", "a third chunk that is not counted",
                  lambda chunks: _stream(chunks[:2])),
            Wrong("zero_a_chunk", "one zero too many for every chunk",
                  lambda chunks: _stream(chunks, extra=1)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda histogram, chunks: True),
        Wrong("reach_only", "a look at the reach, not at the counts",
              lambda histogram, chunks: bool(
                  histogram(chunks)[0] == histogram([np.concatenate(chunks)])[0])),
        Wrong("counts_only", "a look at the counts, not at the reach",
              lambda histogram, chunks: bool(np.array_equal(
                  histogram(chunks)[1], histogram([np.concatenate(chunks)])[1]))),
        Wrong("totals", "a comparison of totals: counts in wrong bins have the same total",
              lambda histogram, chunks: bool(
                  histogram(chunks)[1].sum() == sum(map(len, chunks)))),
        Wrong("sorted", "a comparison of sorted counts: right numbers in wrong bins",
              lambda histogram, chunks: bool(
                  sorted(histogram(chunks)[1]) == sorted(histogram([np.concatenate(chunks)])[1])
                  and histogram(chunks)[0] == histogram([np.concatenate(chunks)])[0])),
        Wrong("order", "the order of chunks, which does not matter to some wrong histograms either",
              lambda histogram, chunks: bool(
                  np.array_equal(histogram(chunks)[1], histogram(chunks[::-1])[1]))),
        Wrong("chunk_by_chunk", "sums of counts of different reaches, whose bins are not the same",
              lambda histogram, chunks: bool(np.array_equal(
                  histogram(chunks)[1], sum(histogram([c])[1] for c in chunks)))),
    ),
)  # fmt: skip


EXERCISES = (
    MOVING_ENDS, CHANCE, MERGE_BINS, WHOLE, BEST_CLIP, RELATIVE_ENTROPY, TOKEN_CODES, EQUIVARIANT,
    RUN_TIME_SCALES,
)  # fmt: skip
