"""Pictures of tokens: patches by number, what they attend to, and the windows of Swin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, axes
from refvit.plot.pictures import patches

Pair = tuple[int, int]
KINDS = ("white", "#f6d9a5", "#bfe0f5", "#d9d9d9")  # not moved round, from the left, top, both
HATCHES = ("", "///", "...", "xxx")


def token_grid(image: NDArray[np.uint8], patch: Pair, first: int = 1, ax: Any = None) -> Any:
    """Draw an image [H, W, 3] cut into patches, each with the number of its token, from `first`."""
    ax = patches(image, patch, ax)
    (height, width), (i, j) = image.shape[:2], patch
    corners = [(y, x) for y in range(0, height - i + 1, i) for x in range(0, width - j + 1, j)]
    for number, (y, x) in enumerate(corners, first):
        centre = (x + j / 2 - 0.5, y + i / 2 - 0.5)
        box = {"facecolor": "white", "alpha": 0.65, "edgecolor": "none", "pad": 1.2}
        ax.text(*centre, str(number), ha="center", va="center", fontsize=9, bbox=box)
    return ax


def windows(grid: Pair, window: int, shift: int, first: int = 1, ax: Any = None) -> Any:
    """Draw tokens [rows, cols] behind a cyclic shift up and left, numbered as they were before it,
    from `first`, and the borders of the windows they are cut into.

    Tokens that came round an edge are coloured, and hatched, by the edge: the top, the left, both.
    """
    ax = axes(ax)
    y, x = np.indices(grid)
    back = (-shift, -shift)
    kinds = np.roll(2 * (y < shift) + (x < shift), back, (0, 1))
    numbers = np.roll(first + np.arange(y.size).reshape(grid), back, (0, 1))
    for (i, j), kind in np.ndenumerate(kinds):
        look = {"facecolor": KINDS[kind], "hatch": HATCHES[kind], "edgecolor": "#bbbbbb"}
        ax.bar(j, 1, width=1, bottom=i - 0.5, linewidth=0.6, **look)
        box = {"facecolor": KINDS[kind], "edgecolor": "none", "pad": 1.0}
        ax.text(j, i, str(numbers[i, j]), ha="center", va="center", fontsize=9, bbox=box)
    rows, cols = grid
    ax.hlines(np.arange(0, rows + 1, window) - 0.5, -0.5, cols - 0.5, color=BLUE, linewidth=3)
    ax.vlines(np.arange(0, cols + 1, window) - 0.5, -0.5, rows - 0.5, color=BLUE, linewidth=3)
    ax.set(xlim=(-0.6, cols - 0.4), ylim=(rows - 0.4, -0.6), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return ax


def pairs(mask: NDArray[np.bool_], ax: Any = None) -> Any:
    """Draw which tokens of a window may meet, mask [N, N]: light, and dark where it is true."""
    ax = axes(ax)
    ax.imshow(mask, cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
    ax.set(xticks=[], yticks=[], xlabel="key", ylabel="query")
    return ax
