"""Evaluation: how often a model is right, in float, simulated or in integers, and on whose images.

Batches are independent and drawn by index, so any `concurrent.futures.Executor` may share them.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit.ahead import in_order
from refvit.integer import IntegerModel, compile
from refvit.matching import one_of
from refvit.model import Model
from refvit.progress import Progress
from refvit.quant import QuantizedModel, quantize_model
from refvit.sources import Shapes10, Source, parse_source, pixels_of

ENGINES = ("float", "simulated", "integer")
AnyModel = Model | QuantizedModel | IntegerModel
COUNT = 10_000  # images of a source that has no last one
BATCH = 50
CALIBRATION = 128
WAITING = 4  # batches handed out ahead, for each that is being waited for


@dataclass(frozen=True)
class Evaluation:
    """What was found on `count` images of `source`.

    `confusion[i, j]` counts images of class i taken for class j; `agreement` is the share whose
    class is the float model's, None where there was none to compare with.
    """

    source: str
    engine: str
    count: int
    top1: float
    top5: float
    agreement: float | None
    confusion: NDArray[np.int64]
    labels: tuple[str, ...]

    def table(self) -> str:
        """Return the figures and the confusion matrix as text: rows are true classes."""
        agree = "" if self.agreement is None else f", same class as float {self.agreement:.2%}"
        names = [label[:9] for label in self.labels]
        lines = [
            f"{self.engine}: top-1 {self.top1:.2%}, top-5 {self.top5:.2%} of {self.count:,} images "
            f"of {self.source}{agree}"
        ]
        if len(names) > 20:
            return lines[0]
        lines.append(f"{'true / taken for':<17}" + "".join(f"{n:>10}" for n in names) + "    right")
        for name, row in zip(self.labels, self.confusion, strict=True):
            cells = "".join(f"{n or '.':>10}" for n in row)
            share = row[self.labels.index(name)] / max(1, row.sum())
            lines.append(f"{name[:16]:<17}{cells}{share:>9.1%}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as data for JSON."""
        about = {key: getattr(self, key) for key in ("source", "engine", "count", "top1", "top5")}
        return about | {
            "agreement": self.agreement,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }


class Task(NamedTuple):
    """One batch: the model, the float model to agree with, and which images of which source."""

    model: AnyModel
    exact: Model | None
    source: Source
    first: int
    size: int


def evaluate(
    model: AnyModel,
    source: Source | str | None = None,
    count: int | None = None,
    engine: str = "float",
    recipe: str = "w8a8",
    executor: Executor | None = None,
    exact: Model | None = None,
) -> Evaluation:
    """Return how `model` does on the first `count` test images of `source` (None: all, or 10,000).

    A source is shapes10 unless one is given, or its name: "idx:DIR" or "folder:DIR".

    A float model is evaluated as `engine` says: "float", "simulated" or "integer", the latter two
    quantized by `recipe` with 128 calibration images of the source; a quantized or compiled model
    as it is, and compared with the float model `exact` if one is given. `executor` shares the
    batches; one of processes or of a cluster needs a source and model that can be sent there, as
    all of refvit's can. Raises ValueError for an unknown engine, or for classes of the source that
    are not the model's.
    """
    source = parse_source(source, model.labels) if isinstance(source, str) else source or Shapes10()
    ready, stem, engine = prepared(model, source, engine, recipe)
    exact = stem if exact is None else exact
    labels = ready.labels
    if len(labels) != len(source.labels):
        raise ValueError(f"the model has {len(labels)} classes, {source.name} {len(source.labels)}")
    confusion, high, agreed = counted(ready, exact, source, count, executor, engine)
    total = int(confusion.sum())
    if total == 0:
        raise ValueError(f"{source.name} has no test images")
    return Evaluation(
        source.name, engine, total, float(np.trace(confusion)) / total, high / total,
        None if exact is None else agreed / total, confusion, labels,
    )  # fmt: skip


def counted(
    model: AnyModel,
    exact: Model | None,
    source: Source,
    count: int | None,
    executor: Executor | None,
    engine: str,
) -> tuple[NDArray[np.int64], int, int]:
    """Return the confusion matrix [true, found] of the first `count` test images, how many of them
    are among the best five, and for how many `exact` finds the same class."""
    most = COUNT if count is None else count
    confusion, high, agreed = np.zeros((len(source.labels),) * 2, np.int64), 0, 0
    tasks = (Task(model, exact, source, at, min(BATCH, most - at)) for at in range(0, most, BATCH))
    bar = Progress(f"evaluate {engine}", most)
    ran: Iterable[Any] = map(run_task, tasks)
    if executor is not None:
        ran = in_order(run_task, tasks, executor, 2 * WAITING)
    for found, truth, among5, same in ran:
        np.add.at(confusion, (truth, found), 1)
        high, agreed = high + among5, agreed + same
        bar.advance(len(truth), f"{np.trace(confusion) / max(1, confusion.sum()):.2%} right")
    bar.close()
    return confusion, high, agreed


def prepared(
    model: AnyModel, source: Source, engine: str, recipe: str
) -> tuple[AnyModel, Model | None, str]:
    """Return the model to evaluate, the float model it stems from, and which engine it is."""
    one_of(engine, ENGINES, "engine")
    if isinstance(model, IntegerModel):
        return model, None, "integer"
    if isinstance(model, Model) and engine != "float":
        images = source.calibration(CALIBRATION)
        exact, model = model, quantize_model(model, pixels_of(model.preprocess, images), recipe)
        return (compile(model) if engine == "integer" else model), exact, engine
    if isinstance(model, QuantizedModel):
        return (compile(model) if engine == "integer" else model), model.model, engine
    return model, None, engine


def run_task(task: Task) -> tuple[NDArray[Any], NDArray[Any], int, int]:
    """Return the classes found, the true ones, how many of these were among the best five, and
    how often the float model agreed."""
    images, truth = task.source.test(task.first, task.size)
    if len(truth) == 0:
        return truth, truth, 0, 0
    pixels = pixels_of(task.model.preprocess, images)
    logits = task.model(pixels)
    best = np.argsort(-logits, axis=1, kind="stable")
    same = 0
    if task.exact is not None:
        same = int((task.exact(pixels).argmax(1) == best[:, 0]).sum())
    return best[:, 0], truth, int((best[:, :5] == truth[:, None]).any(1).sum()), same
