"""An exercise of notebook 06: the widths of all layers under one budget (Cai et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import equal
from refvit.course.exercise import Exercise, Wrong
from refvit.quant import allocate, greedy
from refvit.testing.extra import st

Array = NDArray[Any]
Case = tuple[Any, ...]


def fit_budget(sizes: Array, costs: Array, budget: int) -> Array:
    """Return the choice for each layer whose costs have the least sum of all that fit the budget.

    Choice k of layer l takes sizes[l, k] bytes (int64, at least 1) and costs costs[l, k] (float64).
    The answer is int64 [layers], an index k for each, and the bytes that it takes are at most
    `budget` together. Some choice always fits; of several with the same least cost any will do.
    Fourteen layers of four choices are among the cases: there is no time to try them all.
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}  # by the bytes used so far
    for options in zip(sizes.tolist(), costs.tolist(), strict=True):
        grown: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (spent, picked) in best.items():
            for k, (size, cost) in enumerate(zip(*options, strict=True)):
                state = (spent + cost, (*picked, k))
                if used + size <= budget and state < grown.get(used + size, (np.inf, ())):
                    grown[used + size] = state
        best = grown
    return np.array(min(best.values())[1])


def _fits(found: Any, expected: Any, sizes: Array, costs: Array, budget: int) -> str:
    """Return what is wrong with choices: their form, their bytes, their cost."""
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu":
        return equal(found, expected)
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, expected {expected.shape}"
    if np.any((found < 0) | (found >= sizes.shape[1])):
        return f"a choice is an index from 0 to {sizes.shape[1] - 1}"
    layers = np.arange(len(sizes))
    used = int(sizes[layers, found].sum())
    if used > budget:
        return f"it takes {used} bytes, the budget is {budget}"
    paid, least = costs[layers, found].sum(), costs[layers, expected].sum()
    return "" if paid == least else f"it costs {paid:g}, others that fit cost {least:g}"


def _uniform(sizes: Array, costs: Array, budget: int) -> Array:
    fit = np.flatnonzero(sizes.sum(0) <= budget)
    choice = fit[costs[:, fit].sum(0).argmin()] if len(fit) else 0
    return np.full(len(sizes), choice)


def _one_down(sizes: Array, costs: Array, budget: int) -> Array:
    """From the last choices on, always the step to the one before with the least cost a byte."""
    layers, at = np.arange(len(sizes)), np.full(len(sizes), sizes.shape[1] - 1)
    while sizes[layers, at].sum() > budget:
        less = np.maximum(at - 1, 0)
        saved = sizes[layers, at] - sizes[layers, less]
        extra = costs[layers, less] - costs[layers, at]
        at[np.where(saved > 0, extra / np.maximum(saved, 1), np.inf).argmin()] -= 1
    return at


def _one_up(sizes: Array, costs: Array, budget: int) -> Array:
    """From the smallest choices on, always the change that fits and saves most cost a byte."""
    layers, at = np.arange(len(sizes)), sizes.argmin(1)
    while True:
        more = sizes - sizes[layers, at][:, None]
        saved = costs[layers, at][:, None] - costs
        fits = (saved > 0) & (sizes[layers, at].sum() + more <= budget)
        if not fits.any():
            return np.asarray(at)
        rate = np.where(fits, saved / np.maximum(more, 1e-9), -np.inf)
        layer, choice = np.unravel_index(rate.argmax(), rate.shape)
        at[layer] = choice


def _packed(sizes: Array, costs: Array, budget: int) -> Array:
    return np.array(allocate(sizes, -sizes.astype(float), budget))


def _under(sizes: Array, costs: Array, budget: int) -> Array:
    return np.array(allocate(sizes, costs, max(budget - 1, int(sizes.min(1).sum()))))


@st.composite
def _budgets(pick: Callable[..., Any]) -> Case:
    """Draw sizes that grow and costs that mostly fall, as widths do, and a budget between."""
    layers, choices = pick(st.integers(1, 3)), pick(st.integers(1, 3))
    grow = pick(draw.matrices((layers, layers), (choices, choices), st.integers(1, 4), np.int64))
    sizes = np.cumsum(np.maximum(grow, 1), axis=1)
    costs = draw.matrices((layers, layers), (choices, choices), st.integers(0, 9).map(float))
    least, most = int(sizes.min(1).sum()), int(sizes.max(1).sum())
    return sizes, pick(costs), pick(st.integers(least, most))


def _large(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, (14, 1)) * np.array([3, 4, 6, 8])
    costs = rng.integers(1, 40, (14, 1)) * np.array([16.0, 4.0, 1.0, 0.0])
    return sizes, costs, int(sizes[:, 1].sum()) + 5


BUDGET = Exercise(
    id="nb06.fit_budget",
    title="widths that meet a budget",
    answer=fit_budget,
    cases=_budgets(),
    returns="choices",
    truth=lambda sizes, costs, budget: np.array(allocate(sizes, costs, budget)),
    judge=_fits,
    edges=(
        (np.array([[1, 3], [1, 4]]), np.array([[3.0, 0.0], [4.0, 0.0]]), 5),
        (np.array([[1, 4], [1, 2], [1, 2]]), np.array([[4.0, 0.0], [3.0, 0.0], [3.0, 0.0]]), 6),
        (np.array([[1, 2], [1, 4]]), np.array([[5.0, 4.0], [9.0, 1.0]]), 4),
        _large(0),
        _large(1),
    ),
    hints=(
        "Take the layers one after another. Of two ways to choose for the layers so far that have "
        "used the same bytes, only the cheaper one can be the beginning of the best.",
        "Keep a dict: bytes used so far -> (cost so far, the choices so far). For the next layer "
        "make a new one from every entry and every choice that still fits.",
        "At the end the entry with the least cost is the answer: min(best.values()).",
    ),
    wrong=(
        Wrong("greedy", "a greedy descent, always the best bargain: it leaves bytes unused that "
              "another choice makes something of",
              lambda sizes, costs, budget: np.array(greedy(sizes, costs, budget))),
        Wrong("one_down", "a greedy descent, always the best bargain: it leaves bytes unused that "
              "another choice makes something of", _one_down),
        Wrong("no_budget", "the cheapest choice of every layer, whatever it takes",
              lambda sizes, costs, budget: costs.argmin(1)),
        Wrong("smallest", "the smallest choice of every layer, whatever it costs",
              lambda sizes, costs, budget: sizes.argmin(1)),
        Wrong("one_for_all", "one choice for all layers, where each has its own", _uniform),
        Wrong("one_up", "a greedy ascent, always the best bargain that fits: a smaller bargain may "
              "make more of the bytes", _one_up),
        Wrong("fullest", "the choice that uses most of the budget, where the least cost was meant",
              _packed),
        Wrong("below", "bytes below the budget, where exactly the budget fits as well", _under),
    ),
)  # fmt: skip
