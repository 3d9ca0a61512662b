"""Reconstruction: what a quantized model can learn from a few images without labels.

After calibration every block of the model is a little wrong, and the errors add up. Steps, weights,
norms and biases are learned together, by the gradients of quantization-aware training, so that the
residual stream behind every block, and the logits, come to what they are in the float model. BRECQ
(Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang and Gu 2021) introduced it block by block, with rounding
alone learned; QDrop and, for vision transformers, I&S-ViT (Zhong, Hu, Lin, Chen and Ji 2023,
which also learns from 1,024 images) follow it. Here one pass holds all blocks, so that a block
learns in front of the errors that are left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import value_and_gradients
from refvit.matching import expects
from refvit.model import Model
from refvit.models import forward
from refvit.ops import FloatOps, compose
from refvit.optim import AdamW, fresh, global_norm, warmup_cosine
from refvit.params import Params
from refvit.progress import Progress
from refvit.quant.ptq import QuantizedModel
from refvit.quant.qat import Learnable

Array = NDArray[Any]
STREAM = "*.add2"  # the sites behind every block
KEEP = 0.98  # of the running average of what is learned, each step


def reconstruct(
    quantized: QuantizedModel,
    exact: Model,
    pixels: Array,
    steps: int = 1000,
    batch: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
) -> QuantizedModel:
    """Return `quantized` after `steps` steps of Adam on batches of `pixels` [n, C, H, W].

    What is least is `distance` to the float model `exact`, whose parameters may be others than
    those of `quantized` (folded, rounded) as long as its function is the one that is wanted. A
    thousand steps of 32 images cost about what simulating 160,000 images does. Few images are
    learned by heart: measure on others. Raises ValueError for pixels the models do not read, or
    for fewer than one step or image a batch.
    """
    _check(quantized, exact, steps, batch, rate)
    pixels = quantized.model.checked(pixels)
    learnable, rng = Learnable(quantized), np.random.default_rng(seed)
    state, optimiser = fresh(learnable.tensors, averaged=True), AdamW(decay=0.0, ema=KEEP)
    bar = Progress("reconstruct", steps, "steps")
    try:
        for step in range(steps):
            some = pixels[rng.choice(len(pixels), min(batch, len(pixels)), replace=False)]
            wanted = stream_of(exact.config, exact.params, some)
            found, grads = value_and_gradients(_loss(learnable, some, wanted), state.params)
            if not np.isfinite([found, global_norm(grads)]).all():
                raise ValueError(f"the distance is {found} after step {step}; lower the rate")
            state = optimiser.update(state, grads, warmup_cosine(step, steps, steps // 10, rate))
            bar.advance(1, f"distance {found:.4f}")
    finally:
        bar.close()
    return learnable.settled(state.average)


def _check(quantized: Any, exact: Any, steps: int, batch: int, rate: float) -> None:
    expects(quantized, QuantizedModel, "reconstruct")
    expects(exact, Model, "reconstruct, as its target,")
    if exact.config != quantized.config:
        raise ValueError(
            f"the target {exact.config} is another architecture than {quantized.config}"
        )
    if min(steps, batch) < 1 or not 0 < rate < np.inf:
        raise ValueError(
            f"steps and batch are at least 1, a rate is above 0; got {steps}, {batch} and {rate}"
        )


def _loss(
    learnable: Learnable, pixels: Array, wanted: Mapping[str, Array]
) -> Callable[[Mapping[str, Any]], Any]:
    """Return, as a function of tensors, the distance of what they make to what is `wanted`."""

    def loss(leaves: Mapping[str, Any]) -> Any:
        config, tap = learnable.start.config, learnable.tap(leaves)
        return distance(stream_of(config, Params(leaves), pixels, tap), wanted)

    return loss


def stream_of(config: Any, params: Params, pixels: Array, tap: Any = None) -> dict[str, Any]:
    """Return the residual stream behind every block, and the logits, by site."""
    found: dict[str, Any] = {}

    def keep(site: str, value: Any) -> Any:
        if fnmatchcase(site, STREAM):
            found[site] = value
        return value

    ops = FloatOps(compose(tap, keep) if tap else keep, pixels.dtype)
    found["output"] = forward(ops, pixels, params, config)
    return found


def distance(found: Mapping[str, Any], wanted: Mapping[str, Array]) -> Any:
    """Return the sum over sites of mean (y' - y)^2 / mean y^2: each counts for its own size."""
    total: Any = 0
    for site, y in wanted.items():
        error = found[site] - y
        size = np.mean(np.square(y)) + np.finfo(y.dtype).tiny
        total = total + np.mean(error * error) * (1 / size)
    return total
