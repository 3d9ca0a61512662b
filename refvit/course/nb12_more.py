"""More exercises of notebook 12: the Pareto front, and a choice within a budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.sweep import pareto
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def pareto_front(costs: Array) -> Array:
    """Return which points are on the Pareto front: bool [n] for costs [n, k], less being better.

    A point is dominated if another is at most as costly in every column and less costly in at least
    one. The front has all points that none dominates. Points with the same costs do not dominate
    each other: they stay or go together.
    """
    as_good = (costs[:, None] <= costs[None]).all(2)  # [i, j]: i nowhere worse than j
    better = (costs[:, None] < costs[None]).any(2)
    return np.asarray(~(as_good & better).any(0))


def _compared(costs: Array, good: Any, better: Any) -> Array:
    n = range(len(costs))
    beaten = [any(good(costs[i], costs[j]) and better(costs[i], costs[j]) for i in n) for j in n]
    return ~np.array(beaten, bool)


def _all_below(a: Array, b: Array) -> bool:
    return bool((a < b).all())


def _nowhere_worse(a: Array, b: Array) -> bool:
    return bool((a <= b).all())


def _anywhere_less(a: Array, b: Array) -> bool:
    return bool((a < b).any())


def first_of_equals(costs: Array) -> Array:
    """Return the front with the first of points that cost the same only."""
    firsts = np.zeros(len(costs), bool)
    firsts[np.unique(costs, axis=0, return_index=True)[1]] = True
    return pareto(costs) & firsts


def best_of_each(costs: Array) -> Array:
    """Return the points that are the best in one column: some of the front, and some not."""
    return np.asarray((costs == costs.min(0)).any(1))


def _tables() -> st.SearchStrategy[Array]:
    def of(shape: tuple[int, int]) -> st.SearchStrategy[Array]:
        rows = st.lists(st.integers(0, 4), min_size=shape[0] * shape[1],
                        max_size=shape[0] * shape[1])  # fmt: skip
        return rows.map(lambda flat: np.array(flat, np.float64).reshape(shape))

    return st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(of)


FRONT = Exercise(
    id="nb12.pareto_front",
    title="the points that none dominates",
    answer=pareto_front,
    cases=st.tuples(_tables()),
    returns="front",
    truth=pareto,
    hints=(
        "Compare every pair at once: costs[:, None] <= costs[None] is [n, n, k].",
        "Point i dominates j if (c[i] <= c[j]).all() and (c[i] < c[j]).any().",
        "j is on the front if no i dominates it: ~dominates.any(0).",
    ),
    wrong=(
        Wrong("strict", "a domination that has to be less costly in every column",
              lambda costs: _compared(costs, _all_below, _all_below)),
        Wrong("equals", "points of the same costs that dominate each other",
              lambda costs: np.array([not any(_nowhere_worse(costs[i], costs[j]) and i != j
                                              for i in range(len(costs)))
                                      for j in range(len(costs))], bool)),
        Wrong("first", "only the first of points that cost the same", first_of_equals),
        Wrong("extremes", "the best of each column only, without what lies between", best_of_each),
        Wrong("mean", "the least sum, which is one point of the front",
              lambda costs: np.asarray(costs.sum(1) == costs.sum(1).min())),
        Wrong("inverted", "the dominated points, where the others were asked for",
              lambda costs: ~_compared(costs, _nowhere_worse, _anywhere_less)),
        Wrong("anywhere", "a domination by being less costly in any one column",
              lambda costs: _compared(costs, _anywhere_less, _anywhere_less)),
        Wrong("more", "more taken for better, where less is",
              lambda costs: pareto(-costs)),
    ),
)  # fmt: skip


def front_holds(front: Any, costs: Array) -> bool:
    """Return whether front(costs), a bool array [n], is a Pareto front of costs [n, k].

    This is a property of two halves: no point that is on the front is dominated by any point, and
    every point that is left out is dominated by one that is on it. (a dominates b if it is at most
    as costly in every column and less costly in one.) It is true of every right function, and false
    of a faulty one for some costs.
    """
    on = front(costs)
    as_good = (costs[:, None] <= costs[None]).all(2)  # [i, j]: i nowhere worse than j
    dominates = np.asarray(as_good & (costs[:, None] < costs[None]).any(2))
    return not dominates[:, on].any() and bool(dominates[on][:, ~on].any(0).all())


def _dominates(costs: Array) -> Array:
    as_good = (costs[:, None] <= costs[None]).all(2)
    return np.asarray(as_good & (costs[:, None] < costs[None]).any(2))


def _no_worse(front: Any, costs: Array) -> bool:
    """With domination as at most as costly: a point dominates itself."""
    on, as_good = front(costs), np.asarray((costs[:, None] <= costs[None]).all(2))
    return not as_good[:, on].any() and bool(as_good[on][:, ~on].any(0).all())


HOLDS = Exercise(
    id="nb12.front_holds",
    title="a property: no point of the front is dominated",
    answer=front_holds,
    cases=st.tuples(_tables()),
    returns="property",
    hints=(
        "Make dominates[i, j] for all pairs first; then on = front(costs) picks rows and columns.",
        "First half: dominates[:, on] has no True. Second: each column of dominates[on][:, ~on] "
        "has one.",
    ),
    tried=Tried(
        right=(pareto, pareto_front),
        faulty=(
            Wrong("everything", "every point on it", lambda costs: np.ones(len(costs), bool)),
            Wrong("nothing", "no point on it", lambda costs: np.zeros(len(costs), bool)),
            Wrong("first_of_equals", "one of several equal points", first_of_equals),
            Wrong("best_of_each", "the best of each column only", best_of_each),
            Wrong("strict", "points that are beaten in all columns but one",
                  lambda costs: _compared(costs, _all_below, _all_below)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda front, costs: True),
        Wrong("sound", "the first half alone: an empty front passes",
              lambda front, costs: not _dominates(costs)[:, front(costs)].any()),
        Wrong("complete", "the second half alone: a front of everything passes",
              lambda front, costs: (lambda on: bool(
                  _dominates(costs)[on][:, ~on].any(0).all()))(front(costs))),
        Wrong("itself", "a domination without `less in one`: every point dominates itself",
              _no_worse),
        Wrong("some", "a front that is not empty", lambda front, costs: bool(front(costs).any())),
    ),
)  # fmt: skip


def cheapest_within(us: Array, uj: Array, top1: Array, most_us: float, least_top1: float) -> int:
    """Return the index of the point of least energy among those that meet two demands, as an int.

    us, uj and top1 are [n], one entry for each point. A point meets the demands if its time is at
    most most_us and its top-1 at least least_top1. Of equal energies the first wins; -1 stands for
    no point at all.
    """
    allowed = (us <= most_us) & (top1 >= least_top1)
    return int(np.argmin(np.where(allowed, uj, np.inf))) if allowed.any() else -1


def _slow_pick(us: Array, uj: Array, top1: Array, most_us: float, least_top1: float) -> int:
    best = -1
    for k in range(len(us)):
        if us[k] <= most_us and top1[k] >= least_top1 and (best < 0 or uj[k] < uj[best]):
            best = k
    return best


def _least(uj: Array, allowed: Array, none: int = -1) -> int:
    return int(np.argmin(np.where(allowed, uj, np.inf))) if allowed.any() else none


def _points() -> st.SearchStrategy[tuple[Any, ...]]:
    small = st.integers(1, 4).map(float)
    point = st.tuples(small, small, small.map(lambda k: k / 4))

    def arrays(drawn: Any) -> tuple[Any, ...]:
        points, most, least = drawn
        return (*(np.array(column) for column in zip(*points, strict=True)), most, least)

    demands = small, small.map(lambda k: k / 4)
    return st.tuples(st.lists(point, min_size=1, max_size=5), *demands).map(arrays)


PICK = Exercise(
    id="nb12.cheapest_within",
    title="the least energy within a budget",
    answer=cheapest_within,
    cases=_points(),
    returns="index",
    truth=_slow_pick,
    hints=(
        "A mask first: (us <= most_us) & (top1 >= least_top1).",
        "np.where(mask, uj, np.inf) keeps the places; uj[mask] would count anew.",
    ),
    wrong=(
        Wrong("filtered", "a place among the points that were kept, not among all",
              lambda us, uj, top1, most, least: (lambda ok: int(np.argmin(uj[ok])) if ok.any()
              else -1)((us <= most) & (top1 >= least))),
        Wrong("no_accuracy", "a choice that does not ask for accuracy",
              lambda us, uj, top1, most, least: _least(uj, us <= most)),
        Wrong("no_time", "a choice that does not ask for time",
              lambda us, uj, top1, most, least: _least(uj, top1 >= least)),
        Wrong("strict", "demands met only with something to spare: at most and at least meet them",
              lambda us, uj, top1, most, least: _least(uj, (us < most) & (top1 > least))),
        Wrong("none", "0, the first point, where no point meets the demands",
              lambda us, uj, top1, most, least: _least(uj, (us <= most) & (top1 >= least), 0)),
        Wrong("last", "the last of equal energies, where the first was asked for",
              lambda us, uj, top1, most, least: (lambda ok: len(ok) - 1 - int(np.argmin(
                  np.where(ok, uj, np.inf)[::-1])) if ok.any() else -1)(
                  (us <= most) & (top1 >= least))),
        Wrong("fastest", "the least time, where the least energy was asked for",
              lambda us, uj, top1, most, least: _least(us, (us <= most) & (top1 >= least))),
    ),
)  # fmt: skip
