"""`Model`: a configuration, its parameters, and what belongs to them; callable on pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.images import Preprocess
from refvit.matching import laid_out
from refvit.models import Config, forward, random_params, variant
from refvit.ops import FloatOps, Record, Tap
from refvit.ops.taps import untouched
from refvit.params import Params
from refvit.progress import track
from refvit.resize import resized


@dataclass(frozen=True)
class Model:
    """A float model: `model(pixels)` are its logits, `model.preprocess(image)` makes pixels.

    `labels` are the class names in order; without a classifier there are none, and the features
    come out. `source` says where the weights come from, `notes` what a reader of them assumed.
    `any_size` lets every call interpolate positions to the size of its pixels.
    """

    config: Config
    params: Params
    preprocess: Preprocess
    labels: tuple[str, ...]
    source: str = ""
    notes: tuple[str, ...] = ()
    any_size: bool = False

    def __call__(
        self,
        pixels: NDArray[Any],
        tap: Tap = untouched,
        *,
        interpolate_pos_encoding: bool | None = None,
    ) -> NDArray[Any]:
        """Return logits [B, classes] of normalised pixels [B, C, H, W], in the dtype of `pixels`.

        float32 computes in float32 and float64 in float64. `tap(site, value)` sees every value.
        With `interpolate_pos_encoding` (None: as `any_size` says) pixels of another size run on
        `self.at(H, W)`. Raises ValueError or TypeError for pixels of another shape or dtype, or not
        finite.
        """
        if interpolate_pos_encoding is None:
            interpolate_pos_encoding = self.any_size
        size = np.shape(pixels)[2:]
        if interpolate_pos_encoding and len(size) == 2 and size != self.config.image:
            return self.at(*size)(pixels, tap)
        x = self.checked(pixels)
        params = self.params.map(lambda t: t.astype(x.dtype, copy=False))
        return np.asarray(forward(FloatOps(tap, x.dtype), x, params, self.config))

    def at(self, height: int, width: int) -> Model:
        """Return this model for images of another size, its positions interpolated as Hugging
        Face does it: bicubic, without the antialiasing that timm adds.

        Raises ValueError for an image smaller than a patch.
        """
        params, config = resized(self.params, self.config, (height, width))
        ready = self.preprocess.at((height, width))
        return replace(self, config=config, params=params, preprocess=ready)

    def trace(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return every value of one forward by its site, in order: hidden states and each head.

        A ViT's hidden states are `embed` and `blocks.<i>.add2`, a Swin's `patch_norm` (or `embed`)
        and `stages.<i>.blocks.<j>.add2`; the heads of a distilled DeiT are `head` and `head_dist`.
        Parameters are among the values, under their names.
        """
        record = Record()
        self(pixels, tap=record)
        return record.values

    def checked(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return `pixels` if they are what this model reads, else raise one clear line."""
        return check_pixels(pixels, self.config)


def check_pixels(
    pixels: NDArray[Any], config: Config, mend: str = "for that size take model.at({}, {})"
) -> NDArray[Any]:
    """Return `pixels` as an array if they are finite floats [B, C, H, W] of the model's size;
    `mend` says what to do about another height and width."""
    x = np.asarray(pixels)
    wanted = (config.channels, *config.image)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"pixels are normalised float32 or float64, got {x.dtype}; "
            "make them with model.preprocess(image)"
        )
    if x.ndim != 4 or x.shape[1:] != wanted:
        sized = x.ndim == 4 and x.shape[1] == config.channels
        hint = f"; {mend.format(*x.shape[2:])}" if sized else ""
        raise ValueError(
            f"pixels have shape [B, {', '.join(map(str, wanted))}], got {list(x.shape)}{hint}"
        )
    if len(x) == 0:
        raise ValueError("there are no pixels: B is 0, and at least one image is needed")
    if not np.isfinite(x).all():
        raise ValueError("pixels are not finite: there is a NaN or an infinity among them")
    return x


def batched(pixels: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Yield consecutive batches of at most `size` images."""
    return (pixels[i : i + size] for i in range(0, len(pixels), size))


def top_classes(
    forward: Callable[[NDArray[Any]], NDArray[Any]], pixels: NDArray[Any], size: int, label: str
) -> NDArray[np.int64]:
    """Return the index of the greatest logit of every image, `size` at a time, with progress."""
    batches = track(batched(pixels, size), label, len(pixels), size)
    return np.concatenate([forward(batch).argmax(1) for batch in batches])


def random(name: str, seed: int = 0) -> Model:
    """Return the variant `name` with seeded random weights: for benchmarks, lessons and tests.

    >>> random("nano_vit").config.tokens
    65
    """
    config = variant(name)
    labels = tuple(f"class {k}" for k in range(config.classes))
    params = laid_out(dict(random_params(config, seed).items()))
    return Model(config, params, Preprocess(config.image), labels, f"random, seed {seed}")
