"""Images out of the model itself, where there are none to calibrate on: PSAQ-ViT.

A vision transformer tells a picture from noise: the outputs of attention at different patches are
alike within an object and unlike across its edge, while for noise they are all alike. PSAQ-ViT (Li,
Ma, Chen, Xiao and Gu 2022, "Patch Similarity Aware Data-Free Quantization for Vision Transformers")
starts from noise and lets the pixels learn what makes the similarities diverse, a class sure, and
neighbouring pixels no more unlike than in photographs. The forward is the model's own, on `Var`s.

As the released code does it: the similarities include those of a patch with itself, the densities
of a batch share their points, and the gradient passes through the similarities alone. Unlike it, no
token of a Swin's windows is left out, as none of them is a class token; classes are drawn without
replacement, so that a batch has them all alike; and jitter and total variation, which it states for
224 pixels, are brought to the size of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import value_and_gradients, value_of
from refvit.images import Preprocess
from refvit.losses import cross_entropy
from refvit.model import Model, batched
from refvit.models import SwinConfig, family, forward
from refvit.ops import FloatOps
from refvit.ops import functional as F
from refvit.optim import AdamW, fresh, warmup_cosine
from refvit.progress import Progress
from refvit.quant.density import spread
from refvit.sources import epoch_order

Array = NDArray[Any]
CONTEXT = ".attn.context"  # the end of the sites of A V
BATCH = 32  # images that are made together
STEPS = 1000  # twice 500, as in the released code
RATES = {"vit": 0.20, "swin": 0.25}
VARIATION = 0.05  # weight of smoothness in the loss
# The paper's total variation is for 32 images of 224 x 224, normalised by ImageNet's deviation. Its
# norms run over all values, so each grows with the root of their number: 2500 to 3000 says that two
# neighbours differ by 0.28 to 0.34, root mean square, which is 0.064 to 0.077 of the way from black
# to white. Photographs look alike at all scales (Ruderman 1994): smaller ones have the same
# differences, only fewer.
SMOOTH, SMOOTH_VALUES, SMOOTH_STD = (2500.0, 3000.0), 32 * 3 * 224 * 224, 0.226
JITTERS, JITTER_SIDE = (15, 30), 224  # the furthest roll of each half of the steps


def synthesize(
    model: Model,
    count: int = 32,
    seed: int = 0,
    steps: int = STEPS,
    batch: int = BATCH,
    entropy: float = 1.0,
) -> Array:
    """Return `count` images that `model` finds lifelike: float32 pixels [count, C, H, W], which
    are those of 8-bit images.

    What they are images of is `prior_labels(model, count, seed)`. Each `batch` of them is made in
    `steps` steps of Adam, one batch after the other, so fewer images are the first of more if they
    are whole batches; a small batch saves memory, which is that of training. `entropy` is the
    weight of that of patch similarity in the loss; at 0 the class and smoothness decide alone. A
    pure function of its arguments on one machine. Raises TypeError for a model that is not a float
    one, ValueError for one without classes, a seed or an entropy below 0, and fewer than one image,
    one image a batch or two steps.
    """
    labels = prior_labels(model, count, seed)
    check(steps, batch, entropy)
    batches = list(batched(labels, batch))
    bar = Progress("synthesize", steps * len(batches), "steps")
    try:
        made = [
            optimised(model, part, np.random.default_rng([seed, k]), steps, entropy, bar.advance)
            for k, part in enumerate(batches)
        ]
    finally:
        bar.close()
    return model.preprocess.normalise(model.preprocess.images(np.concatenate(made)))


def prior_labels(model: Model, count: int, seed: int) -> NDArray[np.int64]:
    """Return the classes [count] that images are made for: drawn without replacement until all
    have been, again and again."""
    if not isinstance(model, Model):
        raise TypeError(f"a float model makes images, as refvit.load gives; got {model!r:.60}")
    if not model.labels or not model.config.classes:
        raise ValueError(
            "images are made for the classes of a model; this one has none, it gives features"
        )
    if count < 1:
        raise ValueError(f"the count of images is at least 1; got {count}")
    if seed < 0:
        raise ValueError(f"a seed is at least 0; got {seed}")
    return epoch_order(0, count, model.config.classes, seed)


def check(steps: int, batch: int, entropy: float) -> None:
    """Raise ValueError for settings that make no images."""
    if steps < len(JITTERS) or batch < 1:
        raise ValueError(
            f"images take at least {len(JITTERS)} steps, in batches of at least 1; got {steps} "
            f"steps and batches of {batch}"
        )
    if not 0 <= entropy < np.inf:
        raise ValueError(f"the weight of the entropy is at least 0 and finite; got {entropy}")


def optimised(
    model: Model,
    labels: NDArray[np.int64],
    rng: np.random.Generator,
    steps: int,
    entropy: float = 1.0,
    advance: Callable[[int, str], None] = lambda done, note: None,
) -> Array:
    """Return pixels [n, C, H, W] of one batch: Adam from N(0, 1), in two rounds of cosine rates."""
    shape = (len(labels), model.config.channels, *model.config.image)
    wanted = rng.uniform(*SMOOTH) * smooth_scale(model.preprocess, shape)
    state = fresh({"pixels": rng.standard_normal(shape, np.float32)})
    adam = AdamW(decay=0.0, beta1=0.5, beta2=0.9)
    for half, reach in enumerate(JITTERS):
        length = (steps + half) // len(JITTERS)
        for step in range(length):
            move = drawn_move(rng, shape, reach)
            loss = partial(_loss, model, labels, wanted, entropy, move)
            found, grads = value_and_gradients(loss, state.params)
            if not np.isfinite(found):
                raise ValueError(f"the model makes no image: its loss is {found} at step {step}")
            rate = warmup_cosine(step, length, length // 5, RATES[family(model.config)])
            state = adam.update(state, grads, rate)
            state = replace(
                state, params={"pixels": valid(model.preprocess, state.params["pixels"])}
            )
            advance(1, f"loss {found:.3f}")
    return state.params["pixels"]


def _loss(
    model: Model,
    labels: NDArray[np.int64],
    wanted: float,
    entropy_weight: float,
    move: tuple[int, bool],
    leaf: Mapping[str, Any],
) -> Any:
    """Return the objective of the pixels in `leaf` after a move."""
    return objective(model, moved(leaf["pixels"], *move), labels, wanted, entropy_weight)


def objective(
    model: Model, pixels: Any, labels: NDArray[np.int64], wanted: float, entropy_weight: float = 1.0
) -> Any:
    """Return what is made small: minus `entropy_weight` times the patch entropy, plus the
    cross-entropy of `labels` [n], plus 0.05 |total variation - wanted|, for arrays and `Var`."""
    entropy, logits = patch_entropy(model, pixels)
    kind = logits.dtype.type
    apart = total_variation(pixels) - kind(wanted)
    apart = apart * kind(VARIATION * np.sign(value_of(apart)))
    return cross_entropy(logits, labels) + apart - entropy * kind(entropy_weight)


def patch_entropy(model: Model, pixels: Any) -> tuple[Any, Any]:
    """Return the entropy of patch similarity, summed over blocks and averaged over images, and the
    logits [n, classes], of pixels [n, C, H, W]."""
    found: list[Any] = []

    def watch(site: str, value: Any) -> Any:
        if site.endswith(CONTEXT):
            found.append(np.mean(spread(similarities(value, prefix, len(value_of(pixels))))))
        return value

    prefix = 0 if isinstance(model.config, SwinConfig) else model.config.prefix_tokens
    logits = forward(FloatOps(watch, pixels.dtype), pixels, model.params, model.config)
    return sum(found[1:], start=found[0]), logits


def similarities(context: Any, prefix: int, count: int) -> Any:
    """Return the cosine of every two patches of an image, or of a window: [B W, H, N, d] -> [B, M].

    The heads are averaged; the first `prefix` tokens are no patches and are left out.
    """
    patches = np.mean(context, axis=1)[:, prefix:]
    length = np.sum(patches * patches, axis=-1, keepdims=True)
    unit = patches / np.sqrt(length + np.finfo(patches.dtype).tiny)
    cosine = np.matmul(unit, F.rearrange(unit, "b n d -> b d n"))
    return np.reshape(cosine, (count, -1))


def total_variation(pixels: Any) -> Any:
    """Return the sum of the norms of differences to the right, down, and along both diagonals, each
    over the whole batch [n, C, H, W]."""
    pairs = (
        (pixels[..., :, :-1], pixels[..., :, 1:]),
        (pixels[..., :-1, :], pixels[..., 1:, :]),
        (pixels[..., 1:, :-1], pixels[..., :-1, 1:]),
        (pixels[..., :-1, :-1], pixels[..., 1:, 1:]),
    )
    norms = [np.sqrt(np.sum((a - b) * (a - b)) + np.finfo(a.dtype).tiny) for a, b in pairs]
    return sum(norms[1:], start=norms[0])


def smooth_scale(preprocess: Preprocess, shape: tuple[int, ...]) -> float:
    """Return what the paper's total variation is multiplied by for pixels of this shape and these
    deviations."""
    contrast = SMOOTH_STD / float(np.mean(preprocess.std))
    return contrast * float(np.sqrt(np.prod(shape) / SMOOTH_VALUES))


def drawn_move(rng: np.random.Generator, shape: tuple[int, ...], reach: int) -> tuple[int, bool]:
    """Return how far images are rolled, at most `reach` in 224 of their shorter side and one pixel
    in any case, and whether they are flipped."""
    most = max(1, round(reach * min(shape[2:]) / JITTER_SIDE))
    return int(rng.integers(-most, most, endpoint=True)), bool(rng.random() < 0.5)


def moved(pixels: Any, offset: int, flip: bool) -> Any:
    """Return pixels [n, C, H, W] rolled down and to the right by `offset`, then mirrored if `flip`.

    A flip undoes itself, and the roll of -offset undoes that of offset.
    """
    rolled = F.roll(pixels, (offset, offset), (2, 3))
    return rolled[..., ::-1] if flip else rolled


def valid(preprocess: Preprocess, pixels: Array) -> Array:
    """Return `pixels` [n, C, H, W] no darker than black and no brighter than white."""
    mean, std = (np.array(part)[:, None, None] for part in (preprocess.mean, preprocess.std))
    return np.asarray(pixels.clip(-mean / std, (1 - mean) / std), pixels.dtype)
