"""What the exercises draw: numbers and arrays where wrong answers differ from right ones.

Random floats meet no tie, no zero and no constant row, so half of all wrong quantizers pass on
them. These draw ties `(k + 1/2) 2**e`, zeros, constants, single elements and plain numbers often,
and shrink to small ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.testing.extra import st

Array = NDArray[Any]


def bits(least: int = 2, most: int = 8) -> st.SearchStrategy[int]:
    """Draw a width in bits."""
    return st.integers(least, most)


def reals(most: int = 8) -> st.SearchStrategy[float]:
    """Draw reals: halves and quarters up to `most`, either sign, zero, and those scaled by powers
    of two from 1/8 to 8."""
    quarters = st.integers(-4 * most, 4 * most).map(lambda k: k / 4)
    halves = st.integers(-2 * most, 2 * most).map(lambda k: k / 2)
    exponents = st.sampled_from([0, 0, 0, 1, -1, 2, -2, 3, -3])
    return halves | quarters | st.builds(lambda x, e: x * 2.0**e, halves, exponents)


def vectors(
    least: int = 1, most: int = 8, elements: Any = None, dtype: Any = np.float64
) -> st.SearchStrategy[Array]:
    """Draw arrays [n], least <= n <= most; now and then all elements are the same."""
    elements = reals() if elements is None else elements
    lists = st.lists(elements, min_size=least, max_size=most)
    same = st.builds(lambda x, n: [x] * n, elements, st.integers(least, most))
    return (lists | lists | lists | same).map(lambda values: np.array(values, dtype))


def matrices(
    rows: tuple[int, int] = (1, 4),
    cols: tuple[int, int] = (1, 4),
    elements: Any = None,
    dtype: Any = np.float64,
) -> st.SearchStrategy[Array]:
    """Draw arrays [R, C] whose sizes are in the ranges `rows` and `cols`, ends included; a row is
    now and then zero."""
    elements = reals() if elements is None else elements

    def of(shape: tuple[int, int]) -> st.SearchStrategy[Array]:
        row = st.lists(elements, min_size=shape[1], max_size=shape[1])
        zero = st.just([0.0] * shape[1])
        many = st.lists(row | row | row | zero, min_size=shape[0], max_size=shape[0])
        return many.map(lambda values: np.array(values, dtype).reshape(shape))

    return st.tuples(st.integers(*rows), st.integers(*cols)).flatmap(of)


def scales(least: int = -4, most: int = 2) -> st.SearchStrategy[float]:
    """Draw scales: powers of two, on which ties are exact, and others between."""
    powers = st.integers(least, most).map(lambda e: 2.0**e)
    return powers | st.builds(lambda s, k: s * (1 + k / 8), powers, st.integers(1, 7))


def seeded(make: Any, most: int = 99) -> st.SearchStrategy[Any]:
    """Draw what `make(rng)` returns for generators of different seeds: arrays that are too large
    to be drawn element by element, and that do not shrink."""
    return st.integers(0, most).map(lambda seed: make(np.random.default_rng(seed)))
