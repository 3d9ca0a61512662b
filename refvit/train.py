"""Training in NumPy: the float forward on `Var`s, a NumPy loss, AdamW, and a state on disk.

Images and what is done to them are drawn by index, so a training run is a pure function of its
recipe: stopped after any step and resumed from its state, it goes on with the same images and ends
at the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit.ahead import in_order
from refvit.augment import augment, parse
from refvit.autodiff import value_and_gradients
from refvit.files import digest
from refvit.images import Preprocess
from refvit.losses import DISTILLATIONS, cross_entropy
from refvit.models import Config, forward, random_params
from refvit.ops import FloatOps, Tap, compose
from refvit.ops.taps import untouched
from refvit.optim import AdamW, TrainState, clip_by_global_norm, warmup_cosine
from refvit.params import Params
from refvit.progress import Progress
from refvit.sources import Source
from refvit.train_recipe import TrainRecipe
from refvit.train_state import restored, save, seconds_in

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Teacher:
    """What is learned from: logits [n, classes] of images [n, H, W, C] uint8, and a digest of the
    model that gives them."""

    logits: Callable[[NDArray[np.uint8]], NDArray[Any]]
    digest: str = ""


class Batch(NamedTuple):
    """Pixels [n, C, H, W], targets [n, classes], and the teacher's logits where there is one."""

    pixels: NDArray[Any]
    targets: NDArray[Any]
    taught: NDArray[Any] | None = None

    def shard(self, k: int, shards: int) -> Batch:
        return Batch(*(None if part is None else part[k::shards] for part in self))  # type: ignore[arg-type]


def student_loss(recipe: TrainRecipe, heads: dict[str, Any], batch: Batch) -> Any:
    """Return the loss of a student's logits by site: against targets, and against its teacher.

    Of two heads, `head` learns from the labels and `head_dist` from the teacher (Touvron et al.
    2021, section 4); a model with one learns from both. The shares are 1 - alpha and alpha.
    """
    first, second = heads["head"], heads.get("head_dist", heads["head"])
    kind = first.dtype.type
    if batch.taught is None:
        loss = cross_entropy(first, batch.targets, recipe.smoothing)
        if second is first:
            return loss
        return (loss + cross_entropy(second, batch.targets, recipe.smoothing)) * kind(0.5)
    distance = DISTILLATIONS[recipe.distill](second, batch.taught, recipe.temperature)
    own = cross_entropy(first, batch.targets, recipe.smoothing)
    return own * kind(1 - recipe.alpha) + distance * kind(recipe.alpha)


@dataclass(frozen=True)
class Student:
    """What learns: a configuration, what its tensors are at first, and the tap that its forward
    has, made of them as they are now; how it wants its images, if not as all that is trained here
    does; what its tensors cost besides the loss of their logits, given their tap and the share of
    the training, 0 to 1, that is over; and the recipe of the grids that it learns on, in words, as
    those that learn nothing are no tensors."""

    config: Config
    tensors: Arrays
    tap: Callable[[Mapping[str, Any]], Tap] = lambda leaves: untouched
    preprocess: Preprocess | None = None
    penalty: Callable[[Mapping[str, Any], Any, float], Any] | None = None
    grids: str = ""


def gradients(
    recipe: TrainRecipe, student: Student, tensors: Arrays, batch: Batch, done: float = 0.0
) -> tuple[Arrays, float, float]:
    """Return (gradient by tensor name, loss, share of the batch classified rightly) when the share
    `done` of the training is over."""
    heads: dict[str, Any] = {}

    def keep(site: str, value: Any) -> Any:
        if site in ("head", "head_dist"):
            heads[site] = value
        return value

    def loss(leaves: Mapping[str, Any]) -> Any:
        tap = student.tap(leaves)
        ops = FloatOps(compose(tap, keep), batch.pixels.dtype)
        heads["logits"] = forward(ops, batch.pixels, Params(leaves), student.config)
        found = student_loss(recipe, heads, batch)
        return found if student.penalty is None else found + student.penalty(leaves, tap, done)

    value, grads = value_and_gradients(loss, tensors)
    right = np.mean(heads["logits"].value.argmax(1) == batch.targets.argmax(1))
    return grads, value, float(right)


def sharded_gradients(
    recipe: TrainRecipe,
    student: Student,
    tensors: Arrays,
    batch: Batch,
    pool: Executor,
    done: float = 0.0,
) -> tuple[Arrays, float, float]:
    """Return what `gradients` does for the batch, as the mean over its shards."""
    shards = recipe.shards

    def one(k: int) -> tuple[Arrays, float, float]:
        return gradients(recipe, student, tensors, batch.shard(k, shards), done)

    parts = list(pool.map(one, range(shards)))
    mean = {name: np.mean([part[0][name] for part in parts], axis=0) for name in parts[0][0]}
    return mean, sum(p[1] for p in parts) / shards, sum(p[2] for p in parts) / shards


def batches(
    recipe: TrainRecipe, source: Source, preprocess: Preprocess, teacher: Teacher | None, first: int
) -> Iterator[Batch]:
    """Yield the batches of step `first` and on; the next is drawn while one is used."""
    asked, classes = parse(recipe.augment), len(source.labels)

    def draw(step: int) -> Batch:
        images, labels = source.train(step * recipe.batch, recipe.batch, recipe.seed)
        images, targets = augment(images, labels, classes, asked, [recipe.seed, step])
        taught = None if teacher is None else teacher.logits(images)
        return Batch(preprocess.normalise(images), targets, taught)

    with ThreadPoolExecutor(1) as pool:
        yield from in_order(draw, range(first, recipe.steps), pool, ahead=2)


def train(
    recipe: TrainRecipe,
    path: Path | None,
    source: Source,
    teacher: Teacher | None = None,
    save_every: float = 10.0,
    student: Student | None = None,
) -> Params:
    """Train as `recipe` says, keeping the state in `path` (safetensors, None for nowhere); return
    the weights.

    `student` is what learns and from where, by default the recipe's model from random weights.

    If `path` exists the run goes on from it; ValueError if it belongs to another recipe, other
    images or what began otherwise, or if the loss stops being finite. The file is replaced
    atomically every `save_every` seconds and when interrupted, always with a whole step.
    """
    student = student or initial_student(recipe)
    begins = begins_with(source, student, teacher)
    state = kept = restored(recipe, student.tensors, path, begins)
    saved = time.monotonic()
    began = saved - seconds_in(path)
    try:
        with closing(steps_of(recipe, student, source, teacher, state)) as steps:
            for after, loss in steps:
                if not math.isfinite(loss):
                    state = kept  # what led here is not worth resuming
                    raise ValueError(f"the loss is {loss} after step {kept.step}; lower the rate")
                state = after
                if time.monotonic() - saved >= save_every:
                    save(recipe, state, path, begins, time.monotonic() - began)
                    kept, saved = state, time.monotonic()
    finally:
        if state is not kept:
            save(recipe, state, path, begins, time.monotonic() - began)
    return Params(state.average or state.params)


def begins_with(source: Source, student: Student, teacher: Teacher | None) -> str:
    """Return a digest of what a run begins with besides its recipe: where its images are from, what
    learns, on which grids, and from whom."""
    words = "\0".join((source.name, student.grids, teacher.digest if teacher else ""))
    return digest(words.encode(), *(tensor.tobytes() for tensor in student.tensors.values()))


def steps_of(
    recipe: TrainRecipe,
    student: Student,
    source: Source,
    teacher: Teacher | None,
    state: TrainState,
) -> Generator[tuple[TrainState, float], None, None]:
    """Yield the state after each step from `state` on, and the loss that led to it."""
    ready, means = student.preprocess or preprocess_of(student.config), None
    pool = ThreadPoolExecutor(recipe.shards)
    name = f"train {recipe.start or recipe.model}"
    bar = Progress(name, recipe.images, done=state.step * recipe.batch)
    try:
        for batch in batches(recipe, source, ready, teacher, state.step):
            state, now, hit = advanced(recipe, student, state, batch, pool)
            loss, right = means = running(means, (now, hit))
            bar.advance(recipe.batch, f"loss {loss:.3f}  accuracy {right:.1%}")
            yield state, now
    finally:
        pool.shutdown()
        bar.close()


def running(before: tuple[float, float] | None, now: tuple[float, float]) -> tuple[float, float]:
    """Return running means of a loss and an accuracy, which begin at those of the first batch."""
    loss, right = before or now
    return 0.98 * loss + 0.02 * now[0], 0.98 * right + 0.02 * now[1]


def advanced(
    recipe: TrainRecipe, student: Student, state: TrainState, batch: Batch, pool: Executor
) -> tuple[TrainState, float, float]:
    """Return the state after one more step, the loss that led to it, which is no number where its
    gradients are none, and the share of the batch that was classified rightly."""
    done = state.step / recipe.steps
    grads, loss, right = sharded_gradients(recipe, student, state.params, batch, pool, done)
    grads, norm = clip_by_global_norm(grads, recipe.clip)
    loss = loss if math.isfinite(norm) else math.nan
    rate = warmup_cosine(state.step, recipe.steps, recipe.warmup, recipe.rate)
    optimiser = AdamW(decay=recipe.decay, ema=recipe.ema)
    return optimiser.update(state, grads, rate), loss, right


def initial_student(recipe: TrainRecipe) -> Student:
    """Return the recipe's model at random weights."""
    return Student(recipe.config, dict(random_params(recipe.config, recipe.seed).items()))


def preprocess_of(cfg: Config) -> Preprocess:
    """Return how a model that refvit trains wants its images: its size, mean and deviation half."""
    return Preprocess(cfg.image, (0.5,) * cfg.channels, (0.5,) * cfg.channels)
