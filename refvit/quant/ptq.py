"""Post-training quantization: calibrate ranges on images, then put every value on a grid.

The graph of the model (which site feeds which) comes from `ShapeOps`, so nothing here knows a
model: a linear's bias gets the product of its input's scale and its weights' scales, which is the
unit of the accumulator it is added to (Jacob et al. 2018, section 2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.images import Preprocess
from refvit.model import Model, batched
from refvit.models import Config, workload_records
from refvit.params import Params
from refvit.progress import track
from refvit.quant.affine import QParams, symmetric
from refvit.quant.observers import MinMax
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import Recipe
from refvit.quant.recipe import recipe as find_recipe

CALIBRATION_BATCH = 32
BIAS_BITS = 24  # a bias is at most 2**24 of its accumulator's steps, whatever its weights


@dataclass(frozen=True)
class QuantizedModel:
    """A float model and a grid for every value: `(pixels) -> float logits`, simulated.

    `qparams` maps sites and full parameter names to grids. `params` are the original floats;
    calling rounds them once and keeps the result.
    """

    model: Model
    qparams: Mapping[str, QParams]
    recipe: str

    @property
    def config(self) -> Config:
        return self.model.config

    @property
    def params(self) -> Params:
        return self.model.params

    @property
    def preprocess(self) -> Preprocess:
        return self.model.preprocess

    @property
    def labels(self) -> tuple[str, ...]:
        return self.model.labels

    @cached_property
    def rounded(self) -> Model:
        """The model with every weight and bias on its grid."""
        tap = FakeQuantize(self.qparams)
        tensors = {name: tap(name, tensor) for name, tensor in self.params.items()}
        return replace(self.model, params=Params(tensors), any_size=False)  # its grids are for one

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the float logits [B, classes] of the simulated quantized model."""
        activations = {site: q for site, q in self.qparams.items() if site not in self._names}
        return self.rounded(pixels, tap=FakeQuantize(activations))

    @cached_property
    def _names(self) -> frozenset[str]:
        """Parameters that are rounded beforehand; those of the stream are tapped as values."""
        return frozenset(name for name, _ in self.params.items())


def quantize(
    model: Model, calibration: NDArray[Any], recipe: str | Recipe = "w8a8"
) -> QuantizedModel:
    """Calibrate `model` on pixels [n, C, H, W] by min-max and return it simulated.

    `recipe` is a preset's name or a `Recipe`. Raises ValueError for an unknown recipe, for no
    calibration images, or for pixels that are not finite.
    """
    if not isinstance(model, Model):
        raise TypeError(f"quantize takes a float model, as refvit.load gives; got {model!r:.60}")
    chosen = find_recipe(recipe)
    pixels = model.checked(calibration)
    seen = MinMax()
    for batch in track(
        batched(pixels, CALIBRATION_BATCH), "calibrate", len(pixels), CALIBRATION_BATCH
    ):
        model(batch, tap=seen)
    return QuantizedModel(model, make_grids(model, seen, chosen), chosen.name)


def make_grids(model: Model, seen: MinMax, chosen: Recipe) -> dict[str, QParams]:
    """Return the grid of every activation, weight and bias, from the observed ranges."""
    grids: dict[str, QParams] = {}
    for record in workload_records(model.config):
        if record.op == "output":
            continue
        spec = chosen.spec(record.site)
        grids[record.site] = symmetric(seen.largest(record.site), spec.bits, signed=spec.signed)
        if record.op == "linear":
            grids |= linear_grids(model.params[record.site], grids[record.inputs[0]], chosen)
    return grids


def linear_grids(p: Params, x: QParams, chosen: Recipe) -> dict[str, QParams]:
    """Return the grids of a linear's weight, by output channel, and of its bias: s_x * s_w.

    A channel whose weights are nearly or wholly zero takes its scale from its bias, which would
    otherwise have no grid of its own to lie on.
    """
    spec = chosen.spec(p.at("weight"))
    largest = np.abs(p.weight.astype(np.float64)).max(axis=1)
    if p.get("bias") is not None:
        step = np.abs(p.bias.astype(np.float64)) / x.scale / 2**BIAS_BITS
        largest = np.maximum(largest, step * ((1 << (spec.bits - 1)) - 1))
    weight = symmetric(
        largest if spec.axis is not None else largest.max(), spec.bits, axis=spec.axis
    )
    if p.get("bias") is None:
        return {p.at("weight"): weight}
    scale = np.broadcast_to(weight.scale * x.scale, p.bias.shape)
    return {p.at("weight"): weight, p.at("bias"): QParams(scale, 32, axis=0)}
