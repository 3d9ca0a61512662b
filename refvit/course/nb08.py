"""The exercises of notebook 08: images out of the model itself (PSAQ-ViT, Li et al. 2022)."""

from __future__ import annotations

from fractions import Fraction
from statistics import NormalDist

import numpy as np

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb08_more import EVEN, REPRODUCIBLE, VARIATION
from refvit.course.nb08_patches import COSINES, HISTOGRAM
from refvit.testing.extra import st

Range = tuple[float, float]
DRAWS = 32 * 3 * 32 * 32  # values of 32 images


def noise_reach() -> float:
    """Return how large you expect the largest magnitude of 98,304 draws from N(0, 1) to be.

    So many values are in 32 noise images of 3 x 32 x 32. The pixels of an image end at 1, so this
    is how many times wider noise makes the range of the input. It differs from draw to draw: within
    12 % of its median counts.
    """
    n = 2 * 98_304  # either sign counts
    return float(np.sqrt(2 * np.log(n) - np.log(4 * np.pi * np.log(n))))


def _median() -> float:
    """The reach that half of all such draws stay within, each value with a chance of 2**(-1/n)."""
    return NormalDist().inv_cdf((1 + 0.5 ** (1 / DRAWS)) / 2)


NOISE_REACH = Exercise(
    id="nb08.noise_reach",
    title="predict how far noise reaches",
    answer=noise_reach,
    cases=st.just(()),
    returns="reach",
    truth=_median,
    judge=closely(0.12),
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
        Wrong("logarithm", "the logarithm of the number of draws, of which the reach is near the "
              "root of the double", lambda: float(np.log(98_304))),
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


def _undivided(a: Range, b: Range) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0]))


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
        "The same point twice has a whole of length 0: answer 1.0 before you divide.",
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
        Wrong("division", "a division by 0 where both ranges are the same point", _undivided),
        Wrong("point", "0 for two ranges that are the same point",
              lambda a, b: _ratio(a, b, max(a[1], b[1]) - min(a[0], b[0]))),
    ),
)  # fmt: skip


EXERCISES = (NOISE_REACH, OVERLAP, COSINES, HISTOGRAM, EVEN, VARIATION, REPRODUCIBLE)
