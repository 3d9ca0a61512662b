"""Machines times recipes: what each costs and how right it is, and which no other is better than.

Costs are those of `simulate` (`refvit.accel.sweep`). Accuracy is measured: the model is quantized
by a recipe, compiled to integers and run on test images, once a recipe. Both are cells of a table
that any executor may compute and that goes on where it was stopped (`refvit.cells`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import refvit
from refvit.accel import Machine
from refvit.accel.grid import Grid
from refvit.accel.sweep import totals
from refvit.accel.workload import name_of
from refvit.cells import filled, identity
from refvit.code_digest import ACCURACY as ALL
from refvit.code_digest import COSTS, code_digest
from refvit.evaluate import CALIBRATION, evaluate
from refvit.exploration import OBJECTIVES, Exploration, Point, marked
from refvit.files import digest
from refvit.integer import compile
from refvit.matching import one_of
from refvit.methods import method as find_method
from refvit.model import Model
from refvit.quant.recipe import recipe as find_recipe
from refvit.site_bits import site_bits
from refvit.sources import Source, pixels_of

ACCURACY = "accuracy"
CHUNK = 200  # machines of a cell at most: a second or so of one core
FEW, CELLS = 10, 50  # machines of a cell of a small grid, and cells that a larger one has
FIGURES = ("cycles", "us", "uj_low", "uj_high", "dram_bytes", "utilization")


@dataclass(frozen=True)
class Part:
    """A cell: what it is of (accuracy, or machines `first:last` of the grid), a recipe, and its
    figures: top-1, agreement with the float model and the number of images; or `FIGURES` for each
    machine, none for an impossible one."""

    part: str
    recipe: str
    figures: list[list[float]]


@dataclass(frozen=True)
class Task:
    """What an exploration is of: all that travels to a worker, besides the names of a cell.

    `code` is the digest of what computes it; a worker that has other code says so.
    """

    model: Any
    grid: Grid
    batch: int
    source: Source | None
    count: int | None
    method: str
    images: int
    code: str

    def __call__(self, part: str, recipe: str) -> Part:
        """Return one cell."""
        if self.code != code_of(self.source):
            raise ValueError("a worker has other code of refvit than this; install the same there")
        if part == ACCURACY:
            return Part(part, recipe, [measured(self, recipe)])
        numbers, bits = range(*map(int, part.split(":"))), site_bits(self.model, recipe)
        return Part(part, recipe, [figures(self, bits, number) for number in numbers])


def code_of(source: Source | None) -> str:
    """Return the digest of the code that decides costs, and with a source accuracy."""
    return code_digest(COSTS if source is None else ALL)


def figures(task: Task, bits: Mapping[str, int], number: int) -> list[float]:
    """Return the figures of one machine of the grid; none if it is impossible, or if it has no
    codes as wide as the recipe's."""
    try:
        machine = task.grid.machine(number)
        machine.stored_bits(max(bits.values()))
    except ValueError:
        return []
    found = totals(task.model, machine, 8, task.batch, bits, **task.grid.options(number))
    return [found[key] for key in FIGURES]


def measured(task: Task, recipe: str) -> list[float]:
    """Return top-1, agreement and the number of images of the integer engine of a recipe."""
    assert task.source is not None
    model: Model = task.model
    pixels = pixels_of(model.preprocess, task.source.calibration(task.images))
    try:
        engine = compile(find_method(task.method)(model, pixels, find_recipe(recipe)))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"recipe {recipe!r} does not compile to integers: {error}") from None
    found = evaluate(engine, task.source, task.count, exact=model)
    return [found.top1, found.agreement or 0.0, found.count]


def explore(
    model: Any,
    machines: Grid | Sequence[Machine],
    recipes: Sequence[str] = ("w8a8",),
    source: Source | None = None,
    count: int | None = 1000,
    method: str = "minmax",
    batch: int = 1,
    objectives: Sequence[str] = ("us", "uj_high", "top1"),
    executor: Executor | None = None,
    kept: Path | None = None,
    images: int = CALIBRATION,
) -> Exploration:
    """Return every machine with every recipe, and which points are on the Pareto front.

    `model` is a `Model`, whose accuracy is measured on `count` test images of `source` (all if
    None) after calibration on `images` others; or a configuration, or a model without a source,
    of which only costs are found. `machines` are those of `parse_grid`, or any. `objectives` are
    names of `OBJECTIVES`. Cells in the file `kept` are not computed again; `executor` computes the
    others. Impossible machines of a grid are left out and counted.

    Raises ValueError for an unknown recipe, method or objective, a grid with no possible machine,
    a recipe that does not compile, or a file that belongs to another exploration.
    """
    grid = machines if isinstance(machines, Grid) else Grid(tuple(machines))
    for name in objectives:
        one_of(name, OBJECTIVES, "objective")
    find_method(method)
    task = Task(model, grid, batch, source, count, method, images, code_of(source))
    wanted = [(part, recipe) for recipe in recipes for part in parts_of(task, recipe)]
    cells = filled("explore", Part, task, wanted, about(task, recipes), executor, kept,
                   "machines", lambda key: machines_in(key[0]))  # fmt: skip
    points = marked(list(points_of(grid, cells)), objectives)
    left_out = len(grid) * len(recipes) - len(points)
    return Exploration(str(grid), tuple(points), tuple(objectives), batch, left_out,
                       *said_of(source, cells), name_of(model))  # fmt: skip


def parts_of(task: Task, recipe: str) -> list[str]:
    """Return the parts of a recipe's cells: its accuracy, if it is measured, and the machines.

    Raises ValueError if no machine of the grid is possible with it: what is wrong with the first.
    """
    grid, widest = task.grid, max(site_bits(task.model, recipe).values())
    if not any(stores(grid, number, widest) for number in range(len(grid))):
        grid.machine(0).stored_bits(widest)  # says why
    size = min(CHUNK, max(FEW, -(-len(grid) // CELLS)))
    parts = [f"{i}:{min(i + size, len(grid))}" for i in range(0, len(grid), size)]
    return [ACCURACY, *parts] if task.source else parts


def machines_in(part: str) -> int:
    """Return how many machines a part is of, 0 for accuracy.

    >>> machines_in("200:350"), machines_in("accuracy")
    (150, 0)
    """
    return 0 if part == ACCURACY else len(range(*map(int, part.split(":"))))


def stores(grid: Grid, number: int, bits: int) -> bool:
    """Say whether a machine of the grid is possible and has codes of so many bits."""
    try:
        return grid.machine(number).stored_bits(bits) > 0
    except ValueError:
        return False


def said_of(source: Source | None, cells: Sequence[Part]) -> tuple[str, int]:
    """Return where accuracy was measured and on how many images; "" and 0 if it was not."""
    counts = [int(cell.figures[0][2]) for cell in cells if cell.part == ACCURACY]
    return (source.name, counts[0]) if source and counts else ("", 0)


def about(task: Task, recipes: Sequence[str]) -> dict[str, Any]:
    """Return what the cells belong to, as `filled` wants it."""
    grid = {
        "machines": str(task.grid),
        "hardware": digest(repr((task.grid.bases, task.grid.axes)).encode()),
        "batch": task.batch,
        "code": task.code,
        "version": refvit.__version__,
    }
    if task.source is not None:
        told = {"count": task.count, "calibration": task.images, "method": task.method}
        return identity(task.model, task.source, recipes) | grid | told
    config = getattr(task.model, "config", task.model)
    return {
        "model": type(config).__name__,
        "digest": digest(repr(config).encode()),
        "source": "none",
        "recipes": {name: digest(find_recipe(name).to_toml().encode()) for name in recipes},
    } | grid


def points_of(grid: Grid, cells: Sequence[Part]) -> Iterator[Point]:
    """Yield a point for every possible machine and recipe, in the order of the cells."""
    right = {cell.recipe: cell.figures[0][0] for cell in cells if cell.part == ACCURACY}
    for cell in cells:
        if cell.part == ACCURACY:
            continue
        for number, found in enumerate(cell.figures, int(cell.part.split(":")[0])):
            if found:
                hw = grid.machine(number)
                sram = hw.sram_a_bytes + hw.sram_b_bytes + hw.sram_o_bytes + hw.accumulator_bytes
                said: dict[str, Any] = dict(zip(FIGURES, found, strict=True))
                yield Point(hw.name, cell.recipe, right.get(cell.recipe), **said,
                            pes=hw.rows * hw.cols, sram_bytes=sram)  # fmt: skip
