"""Training in NumPy: the float forward on `Var`s, a NumPy loss, AdamW, and a state on disk.

The data are drawn by index, so a training run is a pure function of its recipe: stopped after any
step and resumed from its state, it goes on with the same images and ends at the same weights.
"""

from __future__ import annotations

import json
import math
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
from refvit.optim import AdamW, clip_by_global_norm, warmup_cosine
from refvit.params import Params
from refvit.progress import Progress

Arrays = dict[str, NDArray[Any]]


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
        if self.shards < 1 or self.batch % self.shards:
            raise ValueError(f"a batch of {self.batch} cannot be cut into {self.shards} shards")
        if self.batch < 1 or self.images < self.batch:
            raise ValueError(
                f"a run sees at least one batch; got {self.images} images in {self.batch}s"
            )
        if not (
            0 < self.rate < math.inf and 0 < self.clip and 0 <= self.decay and self.warmup >= 0
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


def train(recipe: TrainRecipe, state: Path, save_every: int = 200) -> Params:
    """Train as `recipe` says, keeping `state` (a safetensors file) up to date; return the weights.

    If `state` exists the run goes on from it; ValueError if it belongs to another recipe. The
    file is replaced atomically every `save_every` steps and when interrupted.
    """
    cfg = variant(recipe.model)
    preprocess = Preprocess(size=cfg.image)
    tensors, optimiser = _restore(recipe, cfg, state)
    pool = ThreadPoolExecutor(recipe.shards)
    bar = Progress(f"train {recipe.model}", recipe.images, done=optimiser.step * recipe.batch)
    loss, right, kept = float(np.log(cfg.classes)), 1 / cfg.classes, optimiser.step
    try:
        for pixels, labels in batches(recipe, preprocess, optimiser.step):
            grads, now, hit = sharded_gradients(recipe, cfg, tensors, pixels, labels, pool)
            grads, _ = clip_by_global_norm(grads, recipe.clip)
            rate = warmup_cosine(optimiser.step, recipe.steps, recipe.warmup, recipe.rate)
            optimiser.update(tensors, grads, rate)
            loss, right = 0.98 * loss + 0.02 * now, 0.98 * right + 0.02 * hit
            bar.advance(recipe.batch, f"loss {loss:.3f}  accuracy {right:.1%}")
            if optimiser.step % save_every == 0:
                _save(recipe, tensors, optimiser, state)
                kept = optimiser.step
    finally:
        pool.shutdown()
        bar.close()
        if optimiser.step > kept:
            _save(recipe, tensors, optimiser, state)
    return Params(tensors)


def _restore(recipe: TrainRecipe, cfg: Config, state: Path) -> tuple[Arrays, AdamW]:
    optimiser = AdamW(decay=recipe.decay)
    if not state.exists():
        return dict(random_params(cfg, recipe.seed).items()), optimiser
    stored, meta = read_tensors(state)
    if meta.get("recipe") != json.dumps(asdict(recipe)):
        raise ValueError(f"{state} belongs to another run ({meta.get('recipe')}); name a new file")
    optimiser.step = int(meta["step"])
    parts: dict[str, Arrays] = {"param": {}, "first": {}, "second": {}}
    for name, tensor in stored.items():
        kind, _, rest = name.partition("/")
        parts[kind][rest] = tensor.copy()
    optimiser.first, optimiser.second = parts["first"], parts["second"]
    return parts["param"], optimiser


def _save(recipe: TrainRecipe, tensors: Arrays, optimiser: AdamW, state: Path) -> None:
    parts = {"param": tensors, "first": optimiser.first, "second": optimiser.second}
    flat = {f"{kind}/{name}": t for kind, part in parts.items() for name, t in part.items()}
    write_tensors(state, flat, {"recipe": json.dumps(asdict(recipe)), "step": str(optimiser.step)})
