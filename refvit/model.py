"""`Model`: a configuration, its parameters, and what belongs to them; callable on pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.images import Preprocess
from refvit.models import Config, forward, parameter_shapes, random_params, variant
from refvit.ops import FloatOps, Tap
from refvit.ops.taps import untouched
from refvit.params import Params
from refvit.progress import track


@dataclass(frozen=True)
class Model:
    """A float model: `model(pixels)` are its logits, `model.preprocess(image)` makes pixels.

    `labels` are the class names in order. `source` says where the weights come from.
    """

    config: Config
    params: Params
    preprocess: Preprocess
    labels: tuple[str, ...]
    source: str = ""

    def __call__(self, pixels: NDArray[Any], tap: Tap = untouched) -> NDArray[Any]:
        """Return logits [B, classes] of normalised pixels [B, C, H, W], in the dtype of `pixels`.

        float32 computes in float32 and float64 in float64. `tap(site, value)` sees every value.
        Raises ValueError or TypeError for pixels of another shape or dtype, or not finite.
        """
        x = self.checked(pixels)
        params = (
            self.params if x.dtype == np.float32 else self.params.map(lambda t: t.astype(x.dtype))
        )
        return np.asarray(forward(FloatOps(tap, x.dtype), x, params, self.config))

    def checked(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return `pixels` if they are what this model reads, else raise one clear line."""
        return check_pixels(pixels, self.config)


def check_pixels(pixels: NDArray[Any], config: Config) -> NDArray[Any]:
    """Return `pixels` as an array if they are finite floats [B, C, H, W] of the model's size."""
    x = np.asarray(pixels)
    wanted = (config.channels, *config.image)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"pixels are normalised float32 or float64, got {x.dtype}; "
            "make them with model.preprocess(image)"
        )
    if x.ndim != 4 or x.shape[1:] != wanted:
        raise ValueError(
            f"pixels have shape [B, {', '.join(map(str, wanted))}], got {list(x.shape)}"
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
    params = random_params(config, seed)
    return Model(config, params, Preprocess(config.image), labels, f"random, seed {seed}")


def check_params(params: dict[str, NDArray[Any]], config: Config, where: str) -> Params:
    """Return `params` in the model's order if they are exactly what `config` needs.

    Raises ValueError that names the first tensor that is missing, unknown, of another shape, not
    of floats, or not finite.
    """
    wanted = parameter_shapes(config)
    missing = [name for name in wanted if name not in params]
    extra = [name for name in params if name not in wanted]
    if missing or extra:
        raise ValueError(
            f"{where}: tensors missing {missing[:3]}, unexpected {extra[:3]} "
            f"({len(missing)} and {len(extra)} in all)"
        )
    for name, shape in wanted.items():
        tensor = params[name]
        if tensor.shape != shape:
            raise ValueError(
                f"{where}: {name} has shape {list(tensor.shape)}, wanted {list(shape)}"
            )
        if tensor.dtype not in (np.float32, np.float64, np.float16):
            raise ValueError(f"{where}: {name} has dtype {tensor.dtype}, wanted floats")
        if not np.isfinite(tensor).all():
            raise ValueError(f"{where}: {name} is not finite: it holds NaN or infinity")
    return Params({name: params[name].astype(np.float32) for name in wanted})
