"""What every product of a model reads, and a quantized model with other grids or other weights.

Search methods look at one linear or matmul at a time: its operands, as they were in a forward, and
what its output is worth. The interpreter here shows the operands; no model is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit.model import Model, batched
from refvit.models import forward, workload_records
from refvit.ops import FloatOps, Tap
from refvit.ops import functional as F
from refvit.ops.taps import untouched
from refvit.params import Params
from refvit.quant.affine import QParams
from refvit.quant.grid import Grid
from refvit.quant.ptq import CALIBRATION_BATCH, QuantizedModel
from refvit.quant.quantizers import FakeQuantize

Array = NDArray[Any]


class Product(NamedTuple):
    """A linear, x [..., in] and weights [out, in], or a matmul, [..., M, K] and [..., K, N], as it
    ran: its result is `factor` (a scale, or gains [out]) times their product, plus a bias."""

    op: str
    site: str
    operands: tuple[Any, ...]
    factor: Any = 1.0

    def of(self, *operands: Array) -> Array:
        """Return the plain product of others in place of its operands."""
        return F.linear(*operands) if self.op == "linear" else np.matmul(*operands)


class Operands(FloatOps):
    """`FloatOps` that gives every `Product` to `show` before it is computed."""

    def __init__(self, show: Callable[[Product], None], tap: Tap, dtype: Any) -> None:
        super().__init__(tap, dtype)
        self.show = show

    def linear(self, x: Any, p: Params) -> Any:
        gain = p.get("gain")
        self.show(Product("linear", p.path, (x, p.weight), 1.0 if gain is None else gain))
        return super().linear(x, p)

    def matmul(self, a: Any, b: Any, *, site: str, scale: float = 1.0) -> Any:
        self.show(Product("matmul", site, (a, b), scale))
        return super().matmul(a, b, site=site, scale=scale)


def run(model: Model, batch: Array, show: Callable[[Product], None], tap: Tap = untouched) -> Any:
    """Return the logits of pixels [B, C, H, W], every product shown on the way."""
    params = model.params.map(lambda t: t.astype(batch.dtype, copy=False))
    return forward(Operands(show, tap, batch.dtype), batch, params, model.config)


def linears(model: Model) -> list[Any]:
    """Return the records of the linears, in the order of the forward."""
    return [record for record in workload_records(model.config) if record.op == "linear"]


class _Enough(Exception):
    """Everything that was asked of a forward has been seen."""


def input_moments(
    quantized: QuantizedModel, pixels: Array, sites: Sequence[str]
) -> dict[str, Array]:
    """Return the sum of x x^T [in, in], float64, over the inputs of the linears `sites`.

    The inputs are those of the simulated model: they, and all earlier weights, are on their grids.
    """
    sums: dict[str, Array] = {}
    for batch in batched(pixels, CALIBRATION_BATCH):
        for site, x in inputs(quantized, batch, sites).items():
            rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
            sums[site] = sums.get(site, 0.0) + rows.T @ rows
    return sums


def inputs(quantized: QuantizedModel, batch: Array, sites: Sequence[str]) -> dict[str, Array]:
    """Return what the products `sites` read first; the forward ends at the last of them."""
    found: dict[str, Array] = {}

    def show(product: Product) -> None:
        if product.site in sites:
            found[product.site] = product.operands[0]
            if len(found) == len(sites):
                raise _Enough

    with suppress(_Enough):
        run(quantized.model, batch, show, FakeQuantize(quantized.qparams))
    return found


def with_weights(quantized: QuantizedModel, tensors: Mapping[str, Array]) -> QuantizedModel:
    """Return the same grids on other parameters, given by their full names."""
    kept = dict(quantized.params.items())
    changed = {name: np.asarray(t, kept[name].dtype, order="F") for name, t in tensors.items()}
    params = Params(kept | changed)
    return replace(quantized, model=replace(quantized.model, params=params))


def with_grids(quantized: QuantizedModel, grids: Mapping[str, Grid]) -> QuantizedModel:
    """Return the same model on other grids; a bias that is on one follows its input and weights."""
    changed = {**quantized.qparams, **grids}
    for record in linears(quantized.model):
        name, x = f"{record.site}.bias", changed[record.inputs[0]]
        if name in changed:
            weight, old = changed[f"{record.site}.weight"], changed[name]
            scale = np.broadcast_to(weight.scale * x.scale, old.scale.shape)
            changed[name] = QParams(scale, 32, axis=0)
    return replace(quantized, qparams=changed)
