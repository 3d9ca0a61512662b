"""Post-training quantization: calibrate ranges on images, then put every value on a grid.

The graph of the model (which site feeds which) comes from `ShapeOps`, so nothing here knows a
model: a linear's bias gets the product of its input's scale and its weights' scales, which is the
unit of the accumulator it is added to (Jacob et al. 2018, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from refvit.quant.affine import QParams, asymmetric, grouped, symmetric
from refvit.quant.dynamic import DynamicGrid
from refvit.quant.grid import Grid
from refvit.quant.histogram import Histogram
from refvit.quant.log2 import Log2Grid
from refvit.quant.log_sqrt2 import log_sqrt2
from refvit.quant.observers import (
    Calibration,
    Entropy,
    MeanSquare,
    Observer,
    Percentile,
    observer,
)
from refvit.quant.ptf import Channels, power_of_two_factor
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import Recipe, Spec
from refvit.quant.recipe import recipe as find_recipe
from refvit.quant.shift_log2 import shift_log2
from refvit.quant.twin import twin_gelu, twin_softmax

CALIBRATION_BATCH = 32
SEARCHES: Mapping[tuple[str, bool], Callable[[Histogram, int], Grid]] = {  # by quantizer, signed
    ("log_sqrt2", False): log_sqrt2,
    ("log_sqrt2", True): log_sqrt2,
    ("shift_log2", False): shift_log2,
    ("shift_log2", True): shift_log2,
    ("twin", False): twin_softmax,
    ("twin", True): twin_gelu,
}
BIAS_BITS = 24  # a bias is at most 2**24 of its accumulator's steps, whatever its weights


@dataclass(frozen=True, repr=False)
class QuantizedModel:
    """A float model and a grid for every value: `(pixels) -> float logits`, simulated.

    `qparams` maps sites and full parameter names to grids. `params` are the original floats;
    calling rounds them once and keeps the result.
    """

    model: Model
    qparams: Mapping[str, Grid]
    recipe: str

    def __repr__(self) -> str:
        count = sum(tensor.size for _, tensor in self.params.items())
        return f"QuantizedModel({self.recipe}, {count:,} parameters, {len(self.qparams)} grids)"

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
    """Calibrate `model` on pixels [n, C, H, W] and return it simulated.

    `recipe` is a preset's name, a TOML file or a `Recipe`; its observers find the ranges. Raises
    ValueError for an unknown recipe, for a pattern of one that no site of the model matches, for
    no calibration images, or for pixels that are not finite.
    """
    if not isinstance(model, Model):
        raise TypeError(f"quantize takes a float model, as refvit.load gives; got {model!r:.60}")
    chosen = find_recipe(recipe)
    pixels = model.checked(calibration)
    seen = Calibration(lambda site: chosen.spec(site).observer)
    for batch in track(
        batched(pixels, CALIBRATION_BATCH), "calibrate", len(pixels), CALIBRATION_BATCH
    ):
        model(batch, tap=seen)
    return QuantizedModel(model, make_grids(model, seen, chosen), chosen.name)


def make_grids(model: Model, seen: Calibration, chosen: Recipe) -> dict[str, Grid]:
    """Return the grid of every activation, weight and bias, from the observed ranges."""
    grids: dict[str, Grid] = {}
    chosen.check(sites_of(model))
    for record in workload_records(model.config)[:-1]:
        spec, watched = chosen.spec(record.site), seen.seen[record.site]
        before = grids.get(record.inputs[0]) if record.inputs else None
        try:
            grids[record.site] = activation_grid(spec, watched, largest_of(before))
            if record.op == "linear":
                grids |= linear_grids(model.params[record.site], grids[record.inputs[0]], chosen)
        except ValueError as error:
            raise ValueError(f"{record.site}: {error}") from None
    return grids


def sites_of(model: Model) -> list[str]:
    """Return the sites that a recipe decides: of all values, and of the weights of linears."""
    records = workload_records(model.config)[:-1]  # the last is the output, no value of its own
    return [r.site for r in records] + [f"{r.site}.weight" for r in records if r.op == "linear"]


def largest_of(grid: Grid | None) -> float:
    """Return the largest value that a static grid holds; 1 of none."""
    return float(grid.scale * grid.hi) if isinstance(grid, QParams) else 1.0


def activation_grid(spec: Spec, seen: Observer, otherwise: float = 1.0) -> Grid:
    """Return the grid of an activation that `seen` has watched.

    One that was always zero (a residual branch whose LayerScale is) gets a grid up to `otherwise`,
    which is that of its input: then it is as fine as what it is added to. Raises ValueError for
    channels or groups, and for values below 0 where the grid has no codes.
    """
    check_activation(spec, seen)
    if spec.quantizer == "log2":
        return Log2Grid(spec.bits)
    if spec.quantizer == "ptf":
        assert isinstance(seen, Channels)
        return power_of_two_factor(seen, spec.bits, signed=spec.signed, symmetric=spec.symmetric)
    if (spec.quantizer, spec.signed) in SEARCHES:
        assert isinstance(seen, Percentile | MeanSquare | Entropy)
        return SEARCHES[spec.quantizer, spec.signed](seen.seen, spec.bits)
    if spec.dynamic:
        return DynamicGrid(spec.bits, spec.signed, spec.symmetric, spec.dynamic == "token")
    lo, hi = seen.range(spec.bits, spec.symmetric, spec.signed)
    if not spec.symmetric:
        return asymmetric(lo, hi, spec.bits, signed=spec.signed)
    largest, restricted = max(-lo, hi) or otherwise, spec.restricted
    return symmetric(largest, spec.bits, signed=spec.signed, restricted=restricted)


def linear_grids(p: Params, x: Grid, chosen: Recipe) -> dict[str, Grid]:
    """Return the grids of a linear's weight, and of its bias: s_x * s_w, in which it is added.

    A channel whose weights are nearly or wholly zero takes its scale from its bias, which would
    otherwise have no grid of its own to lie on; one scale for all takes the largest such. Where the
    accumulator has no one scale (groups, dynamic inputs) the bias stays a real number.
    """
    spec, weight = chosen.spec(p.at("weight")), p.weight.astype(np.float64)
    one_scale = isinstance(x, QParams) and not spec.group
    least = np.zeros(len(weight))
    if one_scale and p.get("bias") is not None:
        step = np.abs(p.bias.astype(np.float64)) / x.scale / 2**BIAS_BITS
        least = step * ((1 << (spec.bits - 1)) - 1)
    grids: dict[str, Grid] = {p.at("weight"): (grid := weight_grid(weight, least, spec))}
    if one_scale and p.get("bias") is not None:
        scale = np.broadcast_to(grid.scale * x.scale, p.bias.shape)
        grids[p.at("bias")] = QParams(scale, 32, axis=0)
    return grids


def weight_grid(weight: NDArray[Any], least: NDArray[Any], spec: Spec) -> QParams:
    """Return the grid of weights [out, in] as `spec` says; `least` [out] bounds max|w| from below.

    Observers other than min-max are asked channel by channel.
    """
    if not spec.signed or spec.quantizer != "linear" or spec.dynamic:
        raise ValueError(
            "weights have both signs and linear, static grids; write signed = true, quantizer = "
            '"linear" and dynamic = "" in the line of "*.weight"'
        )
    if spec.group:
        return symmetric(grouped(weight, spec.group), spec.bits, axis=0, group=spec.group,
                         restricted=spec.restricted)  # fmt: skip
    rows = [weight] if spec.axis is None else list(weight)
    ends = np.array([ends_of(row, spec) for row in rows])
    least = least if spec.axis is not None else least.max(keepdims=True)
    lo, hi = np.minimum(ends[:, 0], -least), np.maximum(ends[:, 1], least)
    if spec.axis is None:
        lo, hi = lo[0], hi[0]
    if not spec.symmetric:
        return asymmetric(lo, hi, spec.bits, signed=True, axis=spec.axis)
    largest = np.maximum(-lo, hi)
    return symmetric(largest, spec.bits, axis=spec.axis, restricted=spec.restricted)


def ends_of(values: NDArray[Any], spec: Spec) -> tuple[float, float]:
    """Return the range of a whole array, as the observer of `spec` finds it."""
    seen = observer(spec.observer)
    seen.update(values)
    return seen.range(spec.bits, spec.symmetric, spec.signed)


def check_activation(spec: Spec, seen: Observer) -> None:
    """Raise ValueError for what `spec` says of weights only, or for values it has no codes for."""
    if spec.group or spec.axis is not None:
        raise ValueError("axis and group are of weights; an activation has one scale, or is ptf")
    kept = getattr(seen, "seen", seen)  # a histogram, or the observer itself
    least = float(kept.lo) if hasattr(kept, "lo") else seen.range(8, False, True)[0]
    powers = spec.quantizer in ("log2", "log_sqrt2", "shift_log2")
    positive = powers or (spec.quantizer == "linear" and spec.symmetric and not spec.signed)
    if least < 0 and positive and not spec.dynamic:
        kind = "powers have" if powers else "an unsigned symmetric grid has"
        mend = (
            "give it a linear quantizer" if powers else "write signed = true or symmetric = false"
        )
        raise ValueError(f"{kind} no code below 0, the values go down to {least:.3g}; {mend}")
