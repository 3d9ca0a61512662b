"""Training in NumPy: the float forward on `Var`s, a NumPy loss, AdamW, and a state on disk.

The data are drawn by index, so a training run is a pure function of its recipe: stopped after any
step and resumed from its state, it goes on with the same images and ends at the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import data
from refvit.autodiff import Var, backward, value_of
from refvit.files import read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.models import Config, forward, random_params, variant
from refvit.ops import FloatOps
from refvit.optim import AdamW, TrainState, clip_by_global_norm, fresh, warmup_cosine
from refvit.params import Params
from refvit.progress import Progress

Arrays = dict[str, NDArray[Any]]
PARTS = ("param", "first", "second")  # of a stored state, by the start of its names


@dataclass(frozen=True)
class TrainRecipe:
    """Everything a run depends on; `images` is how many fresh images are seen in all.

    A batch is cut into `shards`, whose gradients are computed in a thread each and added in
    order. With as many cores and one BLAS thread (OPENBLAS_NUM_THREADS=1) that is the fastest
    way for a small model.
    """

    model: str = "nano_vit"
    images: int = 900_000
    batch: int = 128
    shards: int = 2
    rate: float = 2e-3
    warmup: int = 300
    decay: float = 0.03
    smoothing: float = 0.1
    clip: float = 1.0
    difficulty: float = data.DIFFICULTY
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = variant(self.model)
        if wanted.image != (data.SIZE, data.SIZE) or wanted.classes != len(data.LABELS):
            raise ValueError(
                f"shapes10 has 10 classes of 32 x 32 images, {self.model!r} reads other; "
                "nano_vit is made for them"
            )
        if self.shards < 1 or self.batch % self.shards:
            raise ValueError(f"a batch of {self.batch} cannot be cut into {self.shards} shards")
        if self.batch < 1 or self.images < self.batch:
            raise ValueError(
                f"a run sees at least one batch; got {self.images} images in {self.batch}s"
            )
        if not (
            0 < self.rate < math.inf
            and 0 < self.clip < math.inf
            and 0 <= self.decay < 1
            and self.warmup >= 0
        ):
            raise ValueError(f"rate and clip are above 0, decay and warmup not below; got {self}")
        if not (0 <= self.difficulty <= 1 and 0 <= self.smoothing < 1 and self.seed >= 0):
            raise ValueError(
                f"difficulty and smoothing lie in [0, 1], seed is not below 0; got {self}"
            )

    @property
    def steps(self) -> int:
        return self.images // self.batch


def cross_entropy(logits: Any, labels: NDArray[Any], smoothing: float = 0.0) -> Any:
    """Return the mean of -sum(target * log softmax(logits)): [B, classes], [B] -> one number.

    `target` is one-hot, mixed with `smoothing` of the uniform distribution (Szegedy et al. 2016).
    """
    batch, classes = logits.shape
    target = np.full((batch, classes), smoothing / classes, logits.dtype)
    target[np.arange(batch), labels] += 1 - smoothing
    shifted = logits - value_of(logits).max(-1, keepdims=True)
    log_total = np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return np.sum(target * (log_total - shifted)) / logits.dtype.type(batch)


def gradients(
    cfg: Config, tensors: Arrays, pixels: NDArray[Any], labels: NDArray[Any], smoothing: float
) -> tuple[Arrays, float, float]:
    """Return (gradient by parameter name, loss, share of the batch classified rightly)."""
    leaves = {name: Var(tensor) for name, tensor in tensors.items()}
    logits = forward(FloatOps(dtype=pixels.dtype), pixels, Params(leaves), cfg)
    loss = cross_entropy(logits, labels, smoothing)
    right = float(np.mean(logits.value.argmax(1) == labels))
    backward(loss)
    grads = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return grads, float(loss.value), right


def sharded_gradients(
    recipe: TrainRecipe,
    cfg: Config,
    tensors: Arrays,
    pixels: NDArray[Any],
    labels: NDArray[Any],
    pool: Executor,
) -> tuple[Arrays, float, float]:
    """Return what `gradients` does for the batch, as the mean over its shards."""
    shards = recipe.shards

    def one(k: int) -> tuple[Arrays, float, float]:
        return gradients(cfg, tensors, pixels[k::shards], labels[k::shards], recipe.smoothing)

    parts = list(pool.map(one, range(shards)))
    mean = {name: np.mean([part[0][name] for part in parts], axis=0) for name in parts[0][0]}
    return mean, sum(p[1] for p in parts) / shards, sum(p[2] for p in parts) / shards


def batches(recipe: TrainRecipe, preprocess: Preprocess, first: int) -> Iterator[tuple[Any, Any]]:
    """Yield (pixels, labels) of step `first` and on; the next batch is drawn while one is used."""

    def draw(step: int) -> tuple[Any, Any]:
        images, labels = data.shapes10(
            "train",
            recipe.batch,
            recipe.seed,
            start=step * recipe.batch,
            difficulty=recipe.difficulty,
        )
        return preprocess.normalise(images), labels

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, first)
        for step in range(first, recipe.steps):
            ready, coming = coming, pool.submit(draw, step + 1)
            yield ready.result()


def train(recipe: TrainRecipe, path: Path, save_every: float = 10.0) -> Params:
    """Train as `recipe` says, keeping the state in `path` (safetensors); return the weights.

    If `path` exists the run goes on from it; ValueError if it belongs to another recipe, or if
    the loss stops being finite. The file is replaced atomically every `save_every` seconds and
    when interrupted, always with a whole step.
    """
    cfg, optimiser = variant(recipe.model), AdamW(decay=recipe.decay)
    state = kept = _restore(recipe, cfg, path)
    pool = ThreadPoolExecutor(recipe.shards)
    bar = Progress(f"train {recipe.model}", recipe.images, done=state.step * recipe.batch)
    loss, right = math.log(cfg.classes), 1 / cfg.classes
    saved = time.monotonic()
    try:
        for pixels, labels in batches(recipe, Preprocess(size=cfg.image), state.step):
            grads, now, hit = sharded_gradients(recipe, cfg, state.params, pixels, labels, pool)
            if not math.isfinite(now):
                state = kept  # what led here is not worth resuming
                raise ValueError(f"the loss is {now} after step {kept.step}; lower the rate")
            grads, _ = clip_by_global_norm(grads, recipe.clip)
            rate = warmup_cosine(state.step, recipe.steps, recipe.warmup, recipe.rate)
            state = optimiser.update(state, grads, rate)
            loss, right = 0.98 * loss + 0.02 * now, 0.98 * right + 0.02 * hit
            bar.advance(recipe.batch, f"loss {loss:.3f}  accuracy {right:.1%}")
            if time.monotonic() - saved >= save_every:
                _save(recipe, state, path)
                kept, saved = state, time.monotonic()
    finally:
        pool.shutdown()
        bar.close()
        if state is not kept:
            _save(recipe, state, path)
    return Params(state.params)


def _restore(recipe: TrainRecipe, cfg: Config, path: Path) -> TrainState:
    start = fresh(dict(random_params(cfg, recipe.seed).items()))
    if not path.exists():
        return start
    stored, meta = read_tensors(path)
    if meta.get("recipe") != json.dumps(asdict(recipe)):
        raise ValueError(f"{path} belongs to another run ({meta.get('recipe')}); name a new file")
    wanted = {f"{kind}/{name}" for kind in PARTS for name in start.params}
    if set(stored) != wanted or not meta.get("step", "").isdigit():
        raise ValueError(f"{path} is not a whole training state; delete it to begin anew")
    parts = [{name: stored[f"{kind}/{name}"] for name in start.params} for kind in PARTS]
    return TrainState(int(meta["step"]), *parts)


def _save(recipe: TrainRecipe, state: TrainState, path: Path) -> None:
    parts = zip(PARTS, (state.params, state.first, state.second), strict=True)
    flat = {f"{kind}/{name}": tensor for kind, part in parts for name, tensor in part.items()}
    write_tensors(path, flat, {"recipe": json.dumps(asdict(recipe)), "step": str(state.step)})
