"""The exercises of notebook 01, a ViT by hand: an image as tokens (Dosovitskiy et al. 2021).

Those of attention are in `nb01_attention`, of rollout and DeiT in `nb01_more`, of Swin in
`nb01_swin`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.compare import equal
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb01_attention import ALONG, HEAD
from refvit.course.nb01_more import DEIT, ROLLOUT
from refvit.course.nb01_swin import APART, MACS, MASK
from refvit.testing.extra import st

Array = NDArray[Any]


def patchify(image: Array, patch: int) -> Array:
    """Return the tokens [N, D] of an image [C, H, W] cut into squares of patch x patch pixels.

    H and W are multiples of patch, N = H/patch * W/patch, D = C * patch * patch. Tokens go row by
    row, as one reads; a token lists its first channel row by row, then its second, and so on. The
    dtype stays.
    """
    C, H, W = image.shape
    cut = image.reshape(C, H // patch, patch, W // patch, patch)  # c y i x j
    return cut.transpose(1, 3, 0, 2, 4).reshape(-1, C * patch * patch)


def _cut(image: Array, patch: int, order: tuple[int, ...]) -> Array:
    C, H, W = image.shape
    cut = image.reshape(C, H // patch, patch, W // patch, patch)
    return cut.transpose(order).reshape(-1, C * patch * patch)


def _far_apart(image: Array, patch: int) -> Array:
    C, H, W = image.shape
    cut = image.reshape(C, patch, H // patch, patch, W // patch)  # c i y j x
    return cut.transpose(2, 4, 0, 1, 3).reshape(-1, C * patch * patch)


def slow_tokens(image: Array, patch: int) -> Array:
    """Return what `patchify` has to, one patch after the other."""
    _, H, W = image.shape
    corners = [(y, x) for y in range(0, H, patch) for x in range(0, W, patch)]
    return np.array([image[:, y : y + patch, x : x + patch].ravel() for y, x in corners])


def _same_dtype(found: Any, expected: Array, *arguments: Any) -> str:
    """The judge of both ways: the dtype first, which is that of the argument."""
    dtype = getattr(found, "dtype", expected.dtype)
    if dtype != expected.dtype:
        return f"its dtype is {dtype}; that of the argument, {expected.dtype}, stays"
    return equal(found, expected)


HALVES = np.array([[[0.5, 1.5], [2.5, 3.5]]], np.float32)


def numbered_images() -> st.SearchStrategy[tuple[Array, int]]:
    """Draw an image whose pixels are all different, counted from 0, and a patch that fits."""

    def image(channels: int, down: int, across: int, patch: int) -> tuple[Array, int]:
        shape = (channels, down * patch, across * patch)
        return np.arange(int(np.prod(shape))).reshape(shape), patch

    small = st.integers(1, 3)
    return st.builds(image, small, small, small, small)


PATCHIFY = Exercise(
    id="nb01.patchify",
    title="an image as tokens",
    answer=patchify,
    truth=slow_tokens,
    judge=_same_dtype,
    cases=numbered_images(),
    edges=[(HALVES, 2)],
    returns="tokens",
    hints=(
        "A reshape splits an axis: H becomes H/patch rows of patches by patch rows of pixels.",
        "Split to [C, H/patch, patch, W/patch, patch], then transpose so that the two counts of "
        "patches come first.",
        "cut.transpose(1, 3, 0, 2, 4), and a last reshape to (-1, C * patch * patch).",
    ),
    wrong=(
        Wrong("reshape_only", "a reshape alone, whose tokens are strips of rows, not squares",
              lambda image, patch: image.reshape(-1, image.shape[0] * patch * patch)),
        Wrong("channels_last", "channels last within a token, where each channel is listed whole",
              lambda image, patch: _cut(image, patch, (1, 3, 2, 4, 0))),
        Wrong("by_column", "patches column by column, where they go row by row",
              lambda image, patch: _cut(image, patch, (3, 1, 0, 2, 4))),
        Wrong("lying", "patches that are transposed: their columns are listed first",
              lambda image, patch: _cut(image, patch, (1, 3, 0, 4, 2))),
        Wrong("channels_first", "a channel's patches after the other's, where a token has them all",
              lambda image, patch: _cut(image, patch, (0, 1, 3, 2, 4))),
        Wrong("swapped", "the offset within a patch taken for the number of the patch",
              lambda image, patch: _cut(image, patch, (2, 4, 0, 1, 3))),
        Wrong("inside_out", "H split as patch by H/patch: a patch of pixels that lie far apart",
              lambda image, patch: _far_apart(image, patch)),
        Wrong("as_reals", "a dtype of its own: np.zeros, for one, is float64 unless told another",
              lambda image, patch: slow_tokens(image, patch).astype(float)),
    ),
)  # fmt: skip


def unpatchify(tokens: Array, grid: tuple[int, int], patch: int) -> Array:
    """Return the image [C, H, W] whose tokens [N, D] `patchify` made with the same patch.

    grid is (H/patch, W/patch), so N = grid[0] * grid[1], and C follows from D = C * patch * patch.
    The dtype stays.
    """
    rows, cols = grid
    cut = tokens.reshape(rows, cols, -1, patch, patch)  # y x c i j
    return cut.transpose(2, 0, 3, 1, 4).reshape(-1, rows * patch, cols * patch)


def _back(tokens: Array, grid: tuple[int, int], patch: int, order: tuple[int, ...]) -> Array:
    cut = tokens.reshape(*grid, -1, patch, patch).transpose(order)
    return cut.reshape(-1, grid[0] * patch, grid[1] * patch)


def _cut_up(case: tuple[Array, int]) -> tuple[Array, tuple[int, int], int]:
    image, patch = case
    return slow_tokens(image, patch), (image.shape[1] // patch, image.shape[2] // patch), patch


def slow_image(tokens: Array, grid: tuple[int, int], patch: int) -> Array:
    """Return the image of `tokens`, one patch put down after the other."""
    channels = tokens.shape[1] // patch**2
    image = np.empty((channels, grid[0] * patch, grid[1] * patch), tokens.dtype)
    for token, (y, x) in zip(tokens, np.ndindex(*grid), strict=True):
        place = np.s_[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
        image[place] = token.reshape(channels, patch, patch)
    return image


UNPATCHIFY = Exercise(
    id="nb01.unpatchify",
    title="tokens as the image they came from",
    answer=unpatchify,
    truth=slow_image,
    judge=_same_dtype,
    cases=numbered_images().map(_cut_up),
    edges=[(HALVES.reshape(1, 4), (1, 1), 2)],
    returns="image",
    hints=(
        "Walk back: split what was merged last, undo the transpose, merge what was split first.",
        "Split to [rows, cols, C, patch, patch]; the image wants C, then rows with its patch rows.",
        "The axes y x c i j become c y i x j: transpose(2, 0, 3, 1, 4).",
    ),
    wrong=(
        Wrong("reshape_only", "a reshape alone, which lays the tokens down as strips",
              lambda tokens, grid, patch: tokens.reshape(-1, grid[0] * patch, grid[1] * patch)),
        Wrong("same_again", "the transpose of the way there, which is not its own inverse",
              lambda tokens, grid, patch: _back(tokens, grid, patch, (1, 3, 0, 2, 4))),
        Wrong("side_by_side", "rows of patches before rows of pixels are woven in: c y x i j",
              lambda tokens, grid, patch: _back(tokens, grid, patch, (2, 0, 1, 3, 4))),
        Wrong("channels_last", "channels last within a token, where each channel is listed whole",
              lambda tokens, grid, patch: _back(
                  tokens.reshape(len(tokens), patch**2, -1).swapaxes(1, 2), grid, patch,
                  (2, 0, 3, 1, 4))),
        Wrong("lying", "patches put down transposed",
              lambda tokens, grid, patch: _back(tokens, grid, patch, (2, 0, 4, 1, 3))),
        Wrong("grid_swapped", "grid read as (columns, rows)",
              lambda tokens, grid, patch: unpatchify(tokens, grid[::-1], patch)),
        Wrong("as_reals", "a dtype of its own: np.zeros, for one, is float64 unless told another",
              lambda tokens, grid, patch: slow_image(tokens, grid, patch).astype(float)),
    ),
)  # fmt: skip


EXERCISES = (PATCHIFY, UNPATCHIFY, HEAD, ALONG, ROLLOUT, DEIT, MACS, MASK, APART)
