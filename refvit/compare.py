"""A grid of methods and widths on one model, as a table that can be resumed.

What travels to a worker is the model, the source and two names (`refvit.cells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from refvit.cells import filled, grid_table, identity
from refvit.evaluate import CALIBRATION, evaluate
from refvit.methods import METHODS, method
from refvit.model import Model
from refvit.quant import QParams, QuantizedModel, packed_bytes
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Source, pixels_of

RECIPES = ("w8a8", "w6a6", "w4a8", "w4a4")
SIGNAL = 50  # test images whose logits are compared with the float ones


@dataclass(frozen=True)
class Cell:
    """What one method does at one recipe: shares of `count` images, bytes, and decibels.

    `bytes` are those of weights packed at their widths and of their scales as float32; `sqnr` is
    the signal-to-noise ratio of the logits, 10 log10(sum y**2 / sum (y - y')**2).
    """

    method: str
    recipe: str
    count: int
    top1: float
    agreement: float
    bytes: int
    sqnr: float


def compare_cell(
    model: Model, source: Source, name: str, recipe: str, count: int | None, images: int
) -> Cell:
    """Return one cell: quantize `model` on `images` calibration images of `source`, test others."""
    pixels = pixels_of(model.preprocess, source.calibration(images))
    quantized = method(name)(model, pixels, find_recipe(recipe))
    found = evaluate(quantized, source, count, exact=model)
    shown = pixels_of(model.preprocess, source.test(0, SIGNAL)[0])
    exact = model(shown).astype(np.float64)
    noise = float(np.square(quantized(shown) - exact).sum())
    sqnr = 10 * float(np.log10(np.square(exact).sum() / max(noise, 1e-30)))
    agreed = found.agreement or 0.0
    return Cell(name, recipe, found.count, found.top1, agreed, weight_bytes(quantized), sqnr)


def weight_bytes(quantized: QuantizedModel) -> int:
    """Return the bytes of all weights, packed, of one float32 for each of their scales, and of a
    code for each zero point."""
    total = 0
    for name, tensor in quantized.params.items():
        grid = quantized.qparams.get(name)
        if name.endswith(".weight") and isinstance(grid, QParams):
            per_scale = 4 if grid.symmetric else 4 + grid.dtype.itemsize
            total += packed_bytes(tensor.size, grid.bits) + per_scale * grid.scale.size
    return total


def compare(
    model: Model,
    source: Source,
    methods: Sequence[str] = tuple(METHODS),
    recipes: Sequence[str] = RECIPES,
    count: int | None = 1000,
    executor: Executor | None = None,
    kept: Path | None = None,
    images: int = CALIBRATION,
) -> list[Cell]:
    """Return the cells of a grid, method by method; cells in the file `kept` are not done again.

    `count` test images, all if None, after calibration on `images` others.

    The file is written when a cell finishes, in whatever order `executor` finishes them. If one
    fails, those that have not begun are cancelled and its error is raised; what is finished stays
    in the file. Raises ValueError for an unknown method or recipe, or for a file that belongs to
    another model, source, count or number of calibration images, or other lines of a recipe.
    """
    for name in methods:
        method(name)
    for recipe in recipes:
        find_recipe(recipe)
    about = identity(model, source, recipes) | {"count": count, "calibration": images}
    wanted = [(name, recipe) for name in methods for recipe in recipes]
    cell = partial(partial(compare_cell, count=count, images=images), model, source)
    return filled("compare", Cell, cell, wanted, about, executor, kept)


def table(cells: Sequence[Cell]) -> str:
    """Return a row for each method, and for each recipe top-1 and the logits' decibels; a dash
    where there is no cell."""

    def shown(cell: Cell | None) -> str:
        return f"{cell.top1:>9.2%}{cell.sqnr:>6.1f} dB" if cell else f"{'-':>9}{'':>9}"

    return grid_table(
        cells, f"{'method':<13}", "{:>18}".format, shown, f"{'weights':<13}",
        "{:>12,} bytes".format,
    )  # fmt: skip
