"""Exercises of notebook 01 on Swin: windows, their work and their mask (Liu et al. 2021)."""

from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
Pair = tuple[int, int]


def window_macs(rows: int, cols: int, window: int, width: int) -> int:
    """Return the multiply-accumulates of attention in windows, for one image.

    There are rows * cols tokens of `width` numbers; window divides rows and cols, and a token meets
    those of its window of window * window tokens only. Six products count: the projections to q, k
    and v and of the result, all width to width; scores q k^T; scores times v. The heads share the
    width, so their number does not matter. Biases and the softmax do not count.
    """
    tokens = rows * cols
    projections = 4 * tokens * width**2
    met = window**2
    return projections + 2 * tokens * met * width


def counted_macs(rows: int, cols: int, window: int, width: int) -> int:
    """Count them in the workload of a Swin of one block."""
    from refvit.models import SwinConfig, workload_records

    size = {"image": (rows, cols), "patch": (1, 1), "windows": ((window, window),)}
    config = SwinConfig(width, (1,), (1,), (4 * width,), classes=0, **size)  # type: ignore[arg-type]
    return sum(record.macs for record in workload_records(config) if ".attn." in record.site)


def windowed_sizes() -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Draw rows, cols, window and width."""
    sizes = st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(1, 9)
    return st.builds(lambda y, x, window, width: (y * window, x * window, window, width), *sizes)


MACS = Exercise(
    id="nb01.window_macs",
    title="predict the work of attention in windows",
    answer=window_macs,
    truth=counted_macs,
    cases=windowed_sizes(),
    returns="MACs",
    hints=(
        "A product of [M, K] by [K, N] takes M * K * N multiply-accumulates.",
        "A projection takes every token's `width` numbers to `width` others: tokens * width * "
        "width.",
        "Every token meets window * window tokens, at `width` multiply-accumulates for its scores, "
        "and again as many to gather the values.",
    ),
    wrong=(
        Wrong("global", "attention to all tokens, where a token meets those of its window",
              lambda r, c, m, d: 4 * r * c * d * d + 2 * (r * c) ** 2 * d),
        Wrong("three", "three projections; the result has one too",
              lambda r, c, m, d: 3 * r * c * d * d + 2 * r * c * m * m * d),
        Wrong("one_product", "scores counted and the product with v not",
              lambda r, c, m, d: 4 * r * c * d * d + r * c * m * m * d),
        Wrong("side", "a window taken for as many tokens as its side is long",
              lambda r, c, m, d: 4 * r * c * d * d + 2 * r * c * m * d),
        Wrong("one_window", "the scores of one window; the image has many",
              lambda r, c, m, d: 4 * r * c * d * d + 2 * m**4 * d),
        Wrong("scores_only", "the projections left out",
              lambda r, c, m, d: 2 * r * c * m * m * d),
        Wrong("with_mlp", "an MLP counted in, 8 more products of width by width a token",
              lambda r, c, m, d: 12 * r * c * d * d + 2 * r * c * m * m * d),
    ),
)  # fmt: skip


def window_mask(grid: tuple[int, int], window: int, shift: int) -> Any:
    """Return mask [W, N, N], bool: which tokens of each window must not meet after a shift.

    The tokens [rows, cols] of grid were moved up and left by `shift`, cyclically: np.roll(tokens,
    (-shift, -shift), axis=(0, 1)). So the last `shift` rows came round from the top, and the last
    `shift` columns from the left. Then they are cut into windows of window x window tokens, W
    windows row by row, N = window**2 tokens row by row within each. The mask is True for two tokens
    if one came round from the top and the other did not, or one from the left and the other did
    not. window divides rows and cols, and 0 <= shift < window.
    """
    rows, cols = grid
    y, x = np.indices(grid)
    side = 2 * (y >= rows - shift) + (x >= cols - shift)
    side = side.reshape(rows // window, window, cols // window, window)
    side = side.transpose(0, 2, 1, 3).reshape(-1, window**2)
    return side[:, :, None] != side[:, None, :]


def _apart(side: Array, window: int, order: tuple[int, ...] = (0, 2, 1, 3)) -> Array:
    rows, cols = side.shape
    cut = side.reshape(rows // window, window, cols // window, window).transpose(order)
    flat = cut.reshape(-1, window**2)
    return np.asarray(flat[:, :, None] != flat[:, None, :])


def _sides(grid: Pair, shift: int) -> tuple[Array, Array]:
    y, x = np.indices(grid)
    return y >= grid[0] - shift, x >= grid[1] - shift


def slow_mask(grid: Pair, window: int, shift: int) -> Array:
    """Return the same pair by pair."""
    (rows, cols), found = grid, []
    for top in range(0, rows, window):
        for left in range(0, cols, window):
            places = [(top + i, left + j) for i in range(window) for j in range(window)]
            came = [(y + shift >= rows, x + shift >= cols) for y, x in places]
            found.append([[mine != other for other in came] for mine in came])
    return np.array(found)


def shifted_grids() -> st.SearchStrategy[tuple[Pair, int, int]]:
    """Draw grid, window and shift."""

    def of(window: int) -> st.SearchStrategy[tuple[Pair, int, int]]:
        side = st.integers(1, 3).map(lambda count: count * window)
        shift = st.integers(0, window - 1)
        return st.tuples(st.tuples(side, side), st.just(window), shift)

    return st.integers(1, 4).flatmap(of)


MASK = Exercise(
    id="nb01.window_mask",
    title="who may meet in a shifted window",
    answer=window_mask,
    truth=slow_mask,
    cases=shifted_grids(),
    edges=[((4, 4), 4, 1), ((8, 4), 4, 3)],
    returns="mask",
    hints=(
        "Give every place of the grid a number that says from where it came: not moved round, from "
        "the left, from the top, or both.",
        "y, x = np.indices(grid); y >= rows - shift came from the top. Two such answers make one "
        "number: 2 * one + other.",
        "Cut the numbers into windows [W, N] as in patchify, then compare [:, :, None] with "
        "[:, None, :].",
    ),
    wrong=(
        Wrong("may_meet", "True for those that may meet: the mask marks who must not",
              lambda grid, window, shift: ~slow_mask(grid, window, shift)),
        Wrong("top_only", "rows that came round, and columns that did not count",
              lambda grid, window, shift: _apart(_sides(grid, shift)[0], window)),
        Wrong("summed", "from the top and from the left taken for the same: number them 2 and 1",
              lambda grid, window, shift: _apart(
                  _sides(grid, shift)[0] * 1 + _sides(grid, shift)[1], window)),
        Wrong("either", "only whether a token came round, from wherever: there are four kinds",
              lambda grid, window, shift: _apart(
                  _sides(grid, shift)[0] | _sides(grid, shift)[1], window)),
        Wrong("strict", "a border one too far: y > rows - shift, where >= was meant",
              lambda grid, window, shift: _apart(
                  2 * _sides(grid, shift - 1)[0] + _sides(grid, shift - 1)[1], window)),
        Wrong("other_way", "tokens moved down and right: the first rows and columns came round",
              lambda grid, window, shift: slow_mask(grid, window, shift)[::-1, ::-1, ::-1]),
        Wrong("no_windows", "strips of the grid where squares were meant",
              lambda grid, window, shift: _apart(
                  2 * _sides(grid, shift)[0] + _sides(grid, shift)[1], window, (0, 1, 2, 3))),
        Wrong("transposed", "windows column by column, where they go row by row",
              lambda grid, window, shift: _apart(
                  2 * _sides(grid, shift)[0] + _sides(grid, shift)[1], window, (2, 0, 1, 3))),
    ),
)  # fmt: skip


def pairs_apart() -> int:
    """Predict how many pairs of tokens the mask of nano_swin's second block keeps apart.

    Its grid has 16 x 16 tokens, its windows 4 x 4, and the shift is 2. Pairs are ordered: (a, b)
    and (b, a) are two. There are 16 windows with 16 * 16 pairs each.
    """
    edge = 2 * 8 * 8
    corner = 16 * 16 - 4 * 4 * 4
    return 2 * 3 * edge + corner


@functools.cache
def counted_pairs() -> int:
    """Count the weights that are exactly 0 in that block, for one head and one image."""
    import refvit

    model: Any = refvit.load("nano_swin")
    image = refvit.data.shapes10("test", 1)[0]
    weights = model.trace(model.preprocess.normalise(image))["stages.0.blocks.1.attn.softmax"]
    return int(prod(weights[:, 0].shape) - np.count_nonzero(weights[:, 0]))


APART = Exercise(
    id="nb01.pairs_apart",
    title="predict how many pairs a mask keeps apart",
    answer=pairs_apart,
    truth=counted_pairs,
    cases=st.just(()),
    returns="pairs",
    hints=(
        "Only windows at the bottom and at the right hold tokens that came round: 7 of 16.",
        "Six of the seven are halves of 8 tokens that do not see each other; the corner has four "
        "parts of 4.",
    ),
    wrong=(
        Wrong("unordered", "pairs counted once, where (a, b) and (b, a) are two", lambda: 480),
        Wrong("one_side", "one side of the image; bottom and right both have cut windows",
              lambda: 4 * 128),
        Wrong("no_corner", "a corner like the other windows: it has four parts, not two",
              lambda: 7 * 128),
        Wrong("corner_twice", "the corner counted with the bottom and with the right",
              lambda: 8 * 128),
        Wrong("all_of_seven", "every pair of the cut windows, in which halves still meet",
              lambda: 7 * 256),
        Wrong("meeting", "the pairs that do meet", lambda: 4096 - 960),
    ),
)  # fmt: skip
