"""A grid of methods and widths on one model, as a table that can be resumed.

Every cell is a pure function of its name, so a grid may be shared by any
`concurrent.futures.Executor`, one of a cluster too, and goes on where a stopped one ended. What
travels to a worker is the model, the source and two names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from refvit.evaluate import CALIBRATION, evaluate
from refvit.files import read_json, write_text
from refvit.methods import METHODS, method
from refvit.model import Model
from refvit.progress import Progress
from refvit.quant import QParams, QuantizedModel, packed_bytes
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Source, pixels_of

SIGNAL = 50  # test images whose logits are compared with the float ones
Key = tuple[str, str]  # method, recipe


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
    recipes: Sequence[str] = ("w8a8", "w6a6", "w4a8", "w4a4"),
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
    done, about["recipes"] = restored(kept, about)
    wanted = [(name, recipe) for name in methods for recipe in recipes]
    left = [key for key in wanted if key not in done]
    bar = Progress("compare", len(wanted), "cells", done=len(wanted) - len(left))
    ask = partial(compare_cell, count=count, images=images)
    for key, cell in as_finished(partial(ask, model, source), left, executor):
        done[key] = cell
        bar.advance(1, " ".join(key))
        if kept is not None:
            cells = [asdict(cell) for cell in done.values()]
            write_text(kept, json.dumps(about | {"cells": cells}, indent=1) + "\n")
    bar.close()
    return [done[key] for key in wanted]


def as_finished(
    cell: Callable[[str, str], Cell], keys: Sequence[Key], executor: Executor | None
) -> Iterator[tuple[Key, Cell]]:
    """Yield cells as they finish: in turn, or in whatever order `executor` finishes them.

    When one fails, the others are cancelled; those that run on all the same, as the running ones
    of a pool do, are yielded before its error is raised.
    """
    if executor is None:
        yield from ((key, cell(*key)) for key in keys)
        return
    futures = {executor.submit(cell, *key): key for key in keys}
    waiting, error = set(futures), None
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                error = error or future.exception()
                if not future.exception():
                    yield futures[future], future.result()
            if error:
                waiting = {future for future in waiting if not future.cancel()}
        if error:
            raise error
    finally:
        for future in waiting:
            future.cancel()


def identity(model: Model, source: Source, recipes: Sequence[str]) -> dict[str, Any]:
    """Return what results belong to: the source, and digests of the model and of each recipe."""
    tensors = (name.encode() + np.asarray(t).tobytes() for name, t in model.params.items())
    return {
        "model": Path(model.source).name,
        "digest": digest(repr((model.config, model.preprocess)).encode() + b"".join(tensors)),
        "source": source.name,
        "recipes": {name: digest(find_recipe(name).to_toml().encode()) for name in recipes},
    }


def digest(content: bytes) -> str:
    """Return the first 16 digits of the sha256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]


def restored(kept: Path | None, about: dict[str, Any]) -> tuple[dict[Key, Cell], dict[str, str]]:
    """Return the cells in a file, by method and recipe, none if there is no file; and the recipes
    of the file and of the grid that is asked for."""
    asked = about["recipes"]
    if kept is None or not kept.exists():
        return {}, asked
    found = read_json(kept)
    for key, kind in {"recipes": dict, "cells": list}.items():
        if not isinstance(found.get(key), kind):
            raise ValueError(f"{str(kept)!r} is not a grid of cells: it has no {key}")
    other = difference(found, about)
    if other is not None:
        raise ValueError(f"{str(kept)!r} {other}; name a new file")
    try:
        cells = [cell_of(entry) for entry in found["cells"]]
    except ValueError as error:
        raise ValueError(f"{str(kept)!r} is not a grid of cells: {error}") from None
    return {(cell.method, cell.recipe): cell for cell in cells}, found["recipes"] | asked


def difference(found: dict[str, Any], about: dict[str, Any]) -> str | None:
    """Return the first thing in which a file differs from what is asked for; None if it is that."""
    for key in ("model", "source", "count", "calibration"):
        if found.get(key) != about[key]:
            return f"holds results of {key} {found.get(key)}, asked are {about[key]}"
    if found.get("digest") != about["digest"]:
        return f"holds results of another model {about['model']}: its weights or fields differ"
    for name, lines in about["recipes"].items():
        if found["recipes"].get(name, lines) != lines:
            return f"holds results of when recipe {name!r} said something else"
    return None


def cell_of(entry: Any) -> Cell:
    """Return the cell that an object of JSON says; ValueError for other fields or other types."""
    kinds = get_type_hints(Cell)
    if not isinstance(entry, dict):
        raise ValueError(f"a cell is {entry!r:.60}, wanted an object")
    for name in sorted(kinds.keys() ^ entry.keys()):
        raise ValueError(f"a cell {'has an unknown' if name in entry else 'lacks'} {name!r}")
    for name, kind in kinds.items():
        if type(entry[name]) not in ((int, float) if kind is float else (kind,)):
            raise ValueError(f"{name} of a cell is {entry[name]!r:.60}, wanted {kind.__name__}")
    return Cell(**entry)


def table(cells: Sequence[Cell]) -> str:
    """Return a row for each method, and for each recipe top-1 and the logits' decibels; a dash
    where there is no cell."""
    recipes = list(dict.fromkeys(cell.recipe for cell in cells))
    found = {(cell.method, cell.recipe): cell for cell in cells}
    lines = [f"{'method':<13}" + "".join(f"{recipe:>18}" for recipe in recipes)]
    for name in dict.fromkeys(cell.method for cell in cells):
        row = (found.get((name, recipe)) for recipe in recipes)
        shown = (f"{c.top1:>9.2%}{c.sqnr:>6.1f} dB" if c else f"{'-':>9}{'':>9}" for c in row)
        lines.append((f"{name:<13}" + "".join(shown)).rstrip())
    sizes = (next(c.bytes for c in cells if c.recipe == recipe) for recipe in recipes)
    lines.append(f"{'weights':<13}" + "".join(f"{size:>12,} bytes" for size in sizes))
    return "\n".join(lines)
