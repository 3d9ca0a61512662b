"""Training in NumPy: the float forward on `Var`s, a NumPy loss, AdamW, and a state on disk.

Images and what is done to them are drawn by index, so a training run is a pure function of its
recipe: stopped after any step and resumed from its state, it goes on with the same images and ends
at the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit.augment import augment, parse
from refvit.autodiff import value_and_gradients
from refvit.files import digest, read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.losses import DISTILLATIONS, cross_entropy
from refvit.models import Config, forward, random_params
from refvit.ops import FloatOps, Tap, compose
from refvit.ops.taps import untouched
from refvit.optim import AdamW, TrainState, clip_by_global_norm, fresh, warmup_cosine
from refvit.params import Params
from refvit.progress import Progress
from refvit.sources import Source
from refvit.train_recipe import TrainRecipe

Arrays = dict[str, NDArray[Any]]
Teacher = Callable[[NDArray[np.uint8]], NDArray[Any]]  # images [n, H, W, C] -> logits
PARTS = ("param", "first", "second", "average")  # of a stored state, by the start of its names


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
    does; and what its tensors cost besides the loss of their logits."""

    config: Config
    tensors: Arrays
    tap: Callable[[Mapping[str, Any]], Tap] = lambda leaves: untouched
    preprocess: Preprocess | None = None
    penalty: Callable[[Mapping[str, Any]], Any] | None = None  # of its tensors, added to the loss


def gradients(
    recipe: TrainRecipe, student: Student, tensors: Arrays, batch: Batch
) -> tuple[Arrays, float, float]:
    """Return (gradient by tensor name, loss, share of the batch classified rightly)."""
    heads: dict[str, Any] = {}

    def keep(site: str, value: Any) -> Any:
        if site in ("head", "head_dist"):
            heads[site] = value
        return value

    def loss(leaves: Mapping[str, Any]) -> Any:
        ops = FloatOps(compose(student.tap(leaves), keep), batch.pixels.dtype)
        heads["logits"] = forward(ops, batch.pixels, Params(leaves), student.config)
        found = student_loss(recipe, heads, batch)
        return found if student.penalty is None else found + student.penalty(leaves)

    value, grads = value_and_gradients(loss, tensors)
    right = np.mean(heads["logits"].value.argmax(1) == batch.targets.argmax(1))
    return grads, value, float(right)


def sharded_gradients(
    recipe: TrainRecipe, student: Student, tensors: Arrays, batch: Batch, pool: Executor
) -> tuple[Arrays, float, float]:
    """Return what `gradients` does for the batch, as the mean over its shards."""
    shards = recipe.shards

    def one(k: int) -> tuple[Arrays, float, float]:
        return gradients(recipe, student, tensors, batch.shard(k, shards))

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
        taught = None if teacher is None else teacher(images)
        return Batch(preprocess.normalise(images), targets, taught)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, first)
        for step in range(first, recipe.steps):
            ready, coming = coming, pool.submit(draw, step + 1)
            yield ready.result()


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
    student = student or newborn(recipe)
    cfg = student.config
    ready = student.preprocess or preprocess_of(cfg)
    begins = digest(source.name.encode(), *(t.tobytes() for t in student.tensors.values()))
    state = kept = _restore(recipe, student.tensors, path, begins)
    pool = ThreadPoolExecutor(recipe.shards)
    bar = Progress(f"train {recipe.model}", recipe.images, done=state.step * recipe.batch)
    loss, right = math.log(cfg.classes), 1 / cfg.classes
    saved = time.monotonic()
    try:
        for batch in batches(recipe, source, ready, teacher, state.step):
            after, now, hit = advanced(recipe, student, state, batch, pool)
            if not math.isfinite(now):
                state = kept  # what led here is not worth resuming
                raise ValueError(f"the loss is {now} after step {kept.step}; lower the rate")
            state = after
            loss, right = 0.98 * loss + 0.02 * now, 0.98 * right + 0.02 * hit
            bar.advance(recipe.batch, f"loss {loss:.3f}  accuracy {right:.1%}")
            if time.monotonic() - saved >= save_every:
                _save(recipe, state, path, begins)
                kept, saved = state, time.monotonic()
    finally:
        pool.shutdown()
        bar.close()
        if state is not kept:
            _save(recipe, state, path, begins)
    return Params(state.average or state.params)


def advanced(
    recipe: TrainRecipe, student: Student, state: TrainState, batch: Batch, pool: Executor
) -> tuple[TrainState, float, float]:
    """Return the state after one more step, the loss that led to it, and the share of the batch
    that was classified rightly."""
    grads, loss, right = sharded_gradients(recipe, student, state.params, batch, pool)
    grads, _ = clip_by_global_norm(grads, recipe.clip)
    rate = warmup_cosine(state.step, recipe.steps, recipe.warmup, recipe.rate)
    optimiser = AdamW(decay=recipe.decay, ema=recipe.ema)
    return optimiser.update(state, grads, rate), loss, right


def newborn(recipe: TrainRecipe) -> Student:
    """Return the recipe's model at random weights."""
    return Student(recipe.config, dict(random_params(recipe.config, recipe.seed).items()))


def preprocess_of(cfg: Config) -> Preprocess:
    """Return how a model that refvit trains wants its images: its size, mean and deviation half."""
    return Preprocess(cfg.image, (0.5,) * cfg.channels, (0.5,) * cfg.channels)


def _restore(recipe: TrainRecipe, tensors: Arrays, path: Path | None, begins: str) -> TrainState:
    start = fresh(tensors, recipe.ema > 0)
    if path is None or not path.exists():
        return start
    stored, meta = read_tensors(path)
    if not _is_of(recipe, meta.get("recipe", "")):
        raise ValueError(f"{path} belongs to another run ({meta.get('recipe')}); name a new file")
    if meta.get("begins", begins) != begins:
        raise ValueError(
            f"{path} belongs to another run: its images, or the weights and grids it began with, "
            "were others; name a new file"
        )
    kinds = PARTS if recipe.ema else PARTS[:3]
    wanted = {f"{kind}/{name}" for kind in kinds for name in start.params}
    if set(stored) != wanted or not meta.get("step", "").isdigit():
        raise ValueError(f"{path} is not a whole training state; delete it to begin anew")
    parts = [{name: stored[f"{kind}/{name}"] for name in start.params} for kind in kinds]
    return TrainState(int(meta["step"]), *parts, *([] if recipe.ema else [{}]))


def _is_of(recipe: TrainRecipe, said: str) -> bool:
    """Whether a state whose file says `said` is of this recipe; what it does not say is what a run
    does that asks for nothing else."""
    try:
        return bool(asdict(TrainRecipe()) | json.loads(said) == asdict(recipe))
    except (json.JSONDecodeError, TypeError):
        return False


def _save(recipe: TrainRecipe, state: TrainState, path: Path | None, begins: str) -> None:
    if path is None:
        return
    kept = (state.params, state.first, state.second, state.average)
    parts = zip(PARTS, kept, strict=True)
    flat = {f"{kind}/{name}": tensor for kind, part in parts for name, tensor in part.items()}
    said = {"recipe": json.dumps(asdict(recipe)), "step": str(state.step), "begins": begins}
    write_tensors(path, flat, said)
