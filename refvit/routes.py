"""The routes from a float model to few bits: on real images, by training, and with no data at all.

    ptq             calibrated and reconstructed on real images without labels (`methods.best`)
    qat             trained on, with labels and the float model as its teacher (`train_from.learn`)
    qat-long        the same, on four times the images
    data-free       calibrated on images that the model made (`methods.fitted`)
    data-free-tuned reconstructed on them as well (`methods.best`)

Each ends in a simulated model and in the engine that is compiled from it, and the table has the
accuracy of both, the bytes of its packed weights, and how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.cells import filled, grid_table, identity, recipe_digest
from refvit.compare import weight_bytes
from refvit.evaluate import evaluate
from refvit.files import digest
from refvit.integer import compile
from refvit.matching import one_of
from refvit.methods import best, fitted
from refvit.model import Model
from refvit.quant import QuantizedModel
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Folder, Source, pixels_of
from refvit.train_from import learn
from refvit.train_inputs import teacher_digest
from refvit.train_recipe import TrainRecipe
from refvit.train_state import seconds_in

RECIPES = ("w8a8", "w4a8", "w4a4", "w3a3")
LONGER = 4
TRAINED = ("qat", "qat-long")
DATA_FREE = ("data-free", "data-free-tuned")
USUAL = ("ptq", "qat", "data-free", "data-free-tuned")
DECIDED = ("model", "data", "pool", "labels", "difficulty", "start", "qat")  # by the table


@dataclass(frozen=True)
class Means:
    """What the routes may use: images to test on (None: all), real images to calibrate on, the
    fields of a `TrainRecipe` that say how to train, and pixels [n, C, H, W] that the model made,
    None where no route asks for them. Beside `state`, if it is given, every training keeps what it
    resumes from when it is stopped."""

    count: int | None
    calibration: int
    training: Mapping[str, Any]
    made: NDArray[Any] | None = None
    state: Path | None = None


@dataclass(frozen=True)
class Arrival:
    """Where a route ends: shares of `count` test images, bytes, and minutes from the float model,
    or from the images it made, to the simulated one."""

    route: str
    recipe: str
    count: int
    top1: float
    integer_top1: float
    bytes: int
    minutes: float


Route = Callable[[Model, Source, str, Means], QuantizedModel]


def ptq(model: Model, source: Source, recipe: str, means: Means) -> QuantizedModel:
    """Calibrated and reconstructed on real images, whose labels are not looked at."""
    return best(model, _real(model, source, means), find_recipe(recipe))


def qat(
    model: Model, source: Source, recipe: str, means: Means, route: str = "qat"
) -> QuantizedModel:
    """Trained on with labels, on grids that learn."""
    training = training_recipe(means, route, model.source or "a model in memory", recipe)
    state = cell_state(means, route, recipe)
    learned = learn(model, source, training, state)
    if state is not None:
        state.unlink(missing_ok=True)
    return learned


def qat_long(model: Model, source: Source, recipe: str, means: Means) -> QuantizedModel:
    """The same on four times the images: few bits need more of them."""
    return qat(model, source, recipe, means, "qat-long")


def training_recipe(means: Means, route: str, start: str, recipe: str) -> TrainRecipe:
    """Return how a route that trains does it."""
    training = TrainRecipe(**{**means.training, "start": start, "qat": recipe})
    longer = LONGER if route == "qat-long" else 1
    return replace(training, images=longer * training.images)


def cell_state(means: Means, route: str, recipe: str) -> Path | None:
    """Return where a training keeps what it resumes from, a file for each of the table's cells."""
    if means.state is None or route not in TRAINED:
        return None
    name = f"{route}.{Path(recipe).stem}.{recipe_digest(recipe)[:8]}"
    return means.state.with_name(f"{means.state.name}.{name}.state")


def data_free(model: Model, source: Source, recipe: str, means: Means) -> QuantizedModel:
    """Calibrated on images that the model made."""
    return fitted(model, _made(means), find_recipe(recipe))


def data_free_tuned(model: Model, source: Source, recipe: str, means: Means) -> QuantizedModel:
    """Calibrated and reconstructed on images that the model made."""
    return best(model, _made(means), find_recipe(recipe))


ROUTES: Mapping[str, Route] = {
    "ptq": ptq,
    "qat": qat,
    "qat-long": qat_long,
    "data-free": data_free,
    "data-free-tuned": data_free_tuned,
}


def _real(model: Model, source: Source, means: Means) -> NDArray[Any]:
    return pixels_of(model.preprocess, source.calibration(means.calibration))


def _made(means: Means) -> NDArray[Any]:
    if means.made is None:
        raise ValueError(
            "a data-free route calibrates on images that the model made; make them with refvit "
            "synthesize MODEL --out DIR and name them with --made DIR"
        )
    return means.made


def arrival(model: Model, source: Source, route: str, recipe: str, *, means: Means) -> Arrival:
    """Return one cell: take the route, then test what is simulated and what is compiled. Its
    minutes are those of a training that was stopped as well."""
    began = time.monotonic() - seconds_in(cell_state(means, route, recipe))
    quantized = ROUTES[route](model, source, recipe, means)
    minutes = (time.monotonic() - began) / 60
    found = evaluate(quantized, source, means.count)
    coded = evaluate(compile(quantized), source, means.count)
    return Arrival(
        route, recipe, found.count, found.top1, coded.top1, weight_bytes(quantized),
        round(minutes, 2),
    )  # fmt: skip


def arrivals(
    model: Model,
    source: Source,
    means: Means,
    routes: Sequence[str] = USUAL,
    recipes: Sequence[str] = RECIPES,
    executor: Executor | None = None,
    kept: Path | None = None,
    float_top1: float | None = None,
) -> list[Arrival]:
    """Return where every route ends for every recipe, route by route; what is in the file `kept`
    is not computed again (`cells.filled`). Who knows `float_top1`, the share of the float model on
    the same test images, spares that it is measured.

    Raises ValueError for an unknown route or recipe, a data-free route without images, and a file
    that belongs to another model, source or count, or holds a route that used other means. What
    this machine's processes shared is in no file: minutes are those of the run that made a cell.
    """
    check_routes(source, means, routes, recipes)
    top1 = evaluate(model, source, means.count).top1 if float_top1 is None else float_top1
    about = identity(model, source, recipes) | {
        "count": means.count, "float_top1": top1,
        "routes": {route: said_of(means, route) for route in routes},
    }  # fmt: skip
    wanted = [(route, recipe) for route in routes for recipe in recipes]
    cell = partial(partial(arrival, means=means), model, source)
    return filled("routes", Arrival, cell, wanted, about, executor, kept)


def check_routes(
    source: Source, means: Means, routes: Sequence[str], recipes: Sequence[str]
) -> None:
    """Raise ValueError for an unknown route or recipe, or one that lacks what it uses."""
    for route in routes:
        one_of(route, ROUTES, "route")
    for recipe in recipes:
        find_recipe(recipe)
    if set(routes) & set(DATA_FREE):
        _made(means)
    if set(routes) & set(TRAINED) and isinstance(source, Folder):
        raise ValueError(f"{source.name} has no images but those it is tested on; use idx:DIR")


def said_of(means: Means, route: str) -> dict[str, Any]:
    """Return what the cells of a route have used, as data for JSON."""
    if route == "ptq":
        return {"calibration": means.calibration}
    if route in TRAINED:
        training = training_recipe(means, route, "any", RECIPES[0])
        said = {key: value for key, value in asdict(training).items() if key not in DECIDED}
        return said | {"teacher_digest": teacher_digest(training)}
    made = _made(means)
    return {"made": digest(np.ascontiguousarray(made).tobytes()), "images": len(made)}


def table(found: Sequence[Arrival]) -> str:
    """Return a row for each route, and for each recipe the top-1 simulated and in integers, in
    points, and the minutes; a dash where there is no cell. Rows are in the order of `ROUTES`, the
    usual recipes in that of `RECIPES`, before any others."""
    order = {name: place for place, name in enumerate((*ROUTES, *RECIPES))}
    found = sorted(found, key=lambda a: (order[a.route], order.get(a.recipe, len(order))))

    wide = max(14, *(len(a.recipe) + 8 for a in found))

    def head(recipe: str) -> str:
        return f"{recipe + ': sim.':>{wide}}{'int.':>7}{'min':>6}"

    def shown(a: Arrival | None) -> str:
        if a is None:
            return f"{'-':>{wide}}{'-':>7}{'-':>6}"
        return f"{100 * a.top1:>{wide}.2f}{100 * a.integer_top1:>7.2f}{a.minutes:>6.1f}"

    return grid_table(
        found, f"{'route':<16}", head, shown, f"{'bytes, weights':<16}",
        lambda size: f"{size:>{wide + 7},}{'':>6}",
    )  # fmt: skip
