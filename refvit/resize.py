"""A model at another resolution: its learned positions interpolated, as Hugging Face does it.

Bicubic with a = -0.75 (Keys 1981), half-pixel centres (align_corners False), edges repeated, no
antialiasing. The tokens before the patches keep their positions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.models import Config, SwinConfig
from refvit.params import Params

KEYS = -0.75


def resized(params: Params, config: Config, image: tuple[int, int]) -> tuple[Params, Config]:
    """Return parameters and configuration for images of (height, width).

    Positions come out in float64. Raises ValueError for an image smaller than a patch. A Swin of
    timm's rule keeps the windows its tables were made for, and smaller ones their middle.
    """
    if isinstance(config, SwinConfig):
        windows = tuple(stage.table for stage in config.stages)
        new: Config = replace(config, image=image, windows=windows)
    else:
        new = replace(config, image=image)
    tensors = dict(params.items())
    if "pos_embed" in tensors:
        tensors["pos_embed"] = positions(tensors["pos_embed"], config.grid, new.grid)
    if isinstance(config, SwinConfig) and isinstance(new, SwinConfig):
        for i, (old, stage) in enumerate(zip(config.stages, new.stages, strict=True)):
            for j in range(stage.depth):
                name = f"stages.{i}.blocks.{j}.attn.bias_table"
                tensors[name] = middle(tensors[name], old.table, stage.table)
    return Params(tensors), new


def positions(
    learned: NDArray[Any], old: tuple[int, int], new: tuple[int, int]
) -> NDArray[np.float64]:
    """Return positions [1, prefix + y x, D] of an `old` grid, for a `new` one, in float64."""
    patches = old[0] * old[1]
    exact = learned.astype(np.float64)
    prefix, rest = np.split(exact, [learned.shape[1] - patches], axis=1)
    grid = einops.rearrange(rest, "1 (y x) d -> y x d", y=old[0])
    down, across = bicubic(old[0], new[0]), bicubic(old[1], new[1])
    moved = np.einsum("ty,yxd,sx->tsd", down, grid, across, optimize=True)
    return np.concatenate([prefix, einops.rearrange(moved, "t s d -> 1 (t s) d")], axis=1)


def bicubic(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix [new, old] that interpolates `old` samples at `new` places.

    >>> bicubic(2, 2)
    array([[1., 0.],
           [0., 1.]])
    >>> bicubic(4, 2)[0]
    array([ 0.5    ,  0.59375, -0.09375,  0.     ])
    """
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(place)
    matrix = np.zeros((new, old))
    for tap in (-1, 0, 1, 2):
        distance = np.abs(place - first - tap)
        near = ((KEYS + 2) * distance - (KEYS + 3)) * distance * distance + 1
        far = ((KEYS * distance - 5 * KEYS) * distance + 8 * KEYS) * distance - 4 * KEYS
        column = np.clip(first + tap, 0, old - 1).astype(np.intp)
        np.add.at(matrix, (np.arange(new), column), np.where(distance <= 1, near, far))
    return matrix


def middle(table: NDArray[Any], old: tuple[int, int], new: tuple[int, int]) -> NDArray[Any]:
    """Return the rows of a table of relative positions that a smaller window still has."""
    if old == new:
        return table
    grid = table.reshape(2 * old[0] - 1, 2 * old[1] - 1, -1)
    y, x = old[0] - new[0], old[1] - new[1]
    kept = grid[y : y + 2 * new[0] - 1, x : x + 2 * new[1] - 1]
    return kept.reshape(-1, table.shape[-1])
