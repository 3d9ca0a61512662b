"""Scales searched for what the loss feels of them: PTQ4ViT's Hessian-guided metric.

Yuan, Xue, Chen, Wu and Sun 2022, section 3.3: for an error e of a product's output the loss rises
by about e^T H e / 2, and with the squared gradients as the diagonal of H, grids cost
sum (g (o - o_q))^2. The scales of weights and of activations are searched in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import Var, backward
from refvit.losses import cross_entropy, soft_distillation
from refvit.matching import expects, one_of
from refvit.model import batched
from refvit.models import workload_records
from refvit.progress import track
from refvit.quant.affine import QParams
from refvit.quant.grid import Grid, fake_quantize
from refvit.quant.lsq import straight_through
from refvit.quant.operands import Product, run, with_grids
from refvit.quant.ptq import BIAS_BITS, QuantizedModel
from refvit.quant.twin import TwinGrid, others

Array = NDArray[Any]
Searched = QParams | TwinGrid
BATCH = 8  # images whose values and gradients are in memory at a time
LEAST, MOST = 0.01, 1.2  # of the scale that calibration found: the ends of the candidates


def decision(logits: Any, exact: Array) -> Any:
    """Cross-entropy against the class that the float model decides for, at the float model."""
    return cross_entropy(logits, exact.argmax(-1))


def drawn(logits: Any, exact: Array) -> Any:
    """Cross-entropy against a class drawn from the float model's own probabilities: its squared
    gradients are, in the mean, the Fisher information, which is the Hessian of KL at its minimum.
    """
    chances = np.exp(exact - exact.max(-1, keepdims=True)).cumsum(-1)
    draw = np.random.default_rng(0).random((len(exact), 1)) * chances[:, -1:]
    return cross_entropy(logits, (chances < draw).sum(-1))


def divergence(logits: Any, exact: Array) -> Any:
    """KL(float || quantized), at the quantized model: at the float one its gradient is 0."""
    return soft_distillation(logits, exact, 1.0)


LOSSES: Mapping[str, Callable[[Any, Array], Any]] = {
    "decision": decision,
    "drawn": drawn,
    "divergence": divergence,
}


def search_scales(
    quantized: QuantizedModel,
    calibration: Array,
    rounds: int = 3,
    candidates: int = 100,
    loss: str = "decision",
) -> QuantizedModel:
    """Return the model with the scales of what linears and matmuls read chosen by the metric.

    A turn tries `candidates` factors from 0.01 to 1.2 on each scale that came in, and the scale of
    the turn before, so that the metric never rises: of weights, every channel by its own outputs;
    of first operands, of which twin grids are searched as in calibration; of second operands of
    matmuls; `rounds` times. `calibration` are pixels [n, C, H, W], of which 8 are in memory at a
    time. `loss` says where g comes from: "decision" or
    "drawn" (at the float model), or "divergence" (at the quantized one, straight through its
    roundings). Raises ValueError for another loss, or pixels the model does not read.

    The released code takes g from KL between the float model and itself: at its minimum, where g is
    rounding noise (issue 23 of PTQ4ViT). None of the three losses is.
    """
    expects(quantized, QuantizedModel, "search_scales")
    if min(rounds, candidates) < 1:
        raise ValueError(f"rounds and candidates are at least 1; got {rounds} and {candidates}")
    one_of(loss, LOSSES, "loss")
    pixels = quantized.model.checked(calibration)
    metric = Metric(quantized, loss)
    for names in metric.turns * rounds:
        options = {name: metric.options(quantized, name, candidates) for name in names}
        costs = metric.costs(quantized, pixels, options)
        best = {name: chosen(options[name], costs[name]) for name in names}
        quantized = with_grids(quantized, best)
    return quantized


@dataclass(frozen=True)
class Metric:
    """sum (g (o - o_q))^2 over products, with g of the quantized model that a search starts from.

    o_q is the product of the operands of the float model, each on its grid as it is when it comes
    to the product: what was moved on the way (heads apart) has other tokens for a dynamic grid.
    """

    start: QuantizedModel
    loss: str = "decision"

    @cached_property
    def reads(self) -> dict[str, tuple[str, str]]:
        """Of every product by its site, the names of the grids of its operands."""
        return {
            r.site: (r.inputs[0], f"{r.site}.weight" if r.op == "linear" else r.inputs[1])
            for r in workload_records(self.start.config)
            if r.op in ("linear", "matmul")
        }

    @cached_property
    def turns(self) -> list[list[str]]:
        """Weights, first operands, second operands: within each, no choice depends on another."""
        weights = {second for second in self.second if second.endswith(".weight")}
        names = [weights, {first for first, _ in self.reads.values()} - self.second]
        names.append(self.second - weights)
        grids = self.start.qparams
        return [[n for n in sorted(part) if isinstance(grids[n], Searched)] for part in names]

    @cached_property
    def second(self) -> set[str]:
        return {second for _, second in self.reads.values()}

    def options(self, now: QuantizedModel, name: str, candidates: int) -> list[Searched]:
        """Return the grid of `name` as it is now, then `candidates` scaled from how it started; of
        twin steps after softmax every split."""
        current, first = now.qparams[name], self.start.qparams[name]
        factors, least = np.linspace(LEAST, MOST, candidates), least_scale(now, name)
        if isinstance(current, TwinGrid) and isinstance(first, TwinGrid):
            return [current, *others(first, factors)]
        assert isinstance(current, QParams)
        assert isinstance(first, QParams)
        scaled = [np.maximum(first.scale * factor, least) for factor in factors]
        return [current, *(first.with_scale(scale) for scale in scaled)]

    def costs(
        self, now: QuantizedModel, pixels: Array, options: Mapping[str, list[Searched]]
    ) -> dict[str, Array]:
        """Return what every option costs, float64: [options, out] of a weight, else [options]."""
        total: dict[str, Any] = dict.fromkeys(options, 0.0)
        for batch in track(batched(pixels, BATCH), "search scales", len(pixels), BATCH):
            for product, worth in weighed(self.start, batch, self.loss):
                for side, name in enumerate(self.reads[product.site]):
                    if name in options:
                        found = tried(product, worth, side, options[name], self.grids(now, product))
                        by_channel = name.endswith(".weight")
                        total[name] = total[name] + (found if by_channel else found.sum(1))
        return total

    def grids(self, now: QuantizedModel, product: Product) -> list[Grid]:
        return [now.qparams[name] for name in self.reads[product.site]]

    def total(self, now: QuantizedModel, calibration: Array) -> float:
        """Return the metric of all products of `now`, a model that differs in its grids only."""
        costs = 0.0
        for batch in batched(calibration, BATCH):
            for product, worth in weighed(self.start, batch, self.loss):
                grids = self.grids(now, product)
                costs += float(tried(product, worth, 0, [grids[0]], grids).sum())
        return costs


def tried(
    product: Product, worth: Array, side: int, options: list[Any], grids: list[Grid]
) -> Array:
    """Return sum (worth (o - o_q))^2 [options, last axis of o], with the operand `side` on each of
    `options` and the other one on its grid."""
    exact = product.of(*product.operands)
    rounded = [fake_quantize(x, g) for x, g in zip(product.operands, grids, strict=True)]
    found = []
    with np.errstate(under="ignore"):
        for option in options:
            rounded[side] = fake_quantize(product.operands[side], option)
            off = product.of(*rounded) - exact
            off *= worth
            flat = off.reshape(-1, off.shape[-1])
            found.append(np.einsum("ij,ij->j", flat, flat, dtype=np.float64))
    return np.array(found)


def least_scale(now: QuantizedModel, name: str) -> Array:
    """Return the scale [out] that a weight needs for its bias to have codes, as in calibration;
    0 where there is none."""
    site = name.removesuffix(".weight")
    bias = now.qparams.get(f"{site}.bias")
    if site == name or bias is None:
        return np.zeros(())
    x = bias.scale / now.qparams[name].scale  # the scale of the input
    least = np.abs(now.params[site].bias.astype(np.float64)) / x / 2**BIAS_BITS
    return np.asarray(least if now.qparams[name].scale.ndim else least.max())


def chosen(options: Sequence[Searched], costs: Array) -> Searched:
    """Return the cheapest of `options`, of weights by channel; the first of those that tie."""
    scales, first = np.array([option.scale for option in options]), options[0]
    if costs.ndim == 1 or scales.ndim == 1 or isinstance(first, TwinGrid):
        return options[int(costs.reshape(len(options), -1).sum(1).argmin())]
    return first.with_scale(scales[costs.argmin(0), np.arange(scales.shape[1])])


def weighed(start: QuantizedModel, batch: Array, loss: str) -> list[tuple[Product, Array]]:
    """Return every product of the float model on `batch`, and what its plain output is worth:
    the gradient of the loss by the product's result, times the product's factor."""
    products: list[Product] = []
    exact = run(start.model, batch, products.append)
    g = gradients(start, batch, exact, loss, [product.site for product in products])
    return [(p, g[p.site] * np.asarray(p.factor, batch.dtype)) for p in products]


def gradients(
    start: QuantizedModel, batch: Array, exact: Array, loss: str, sites: list[str]
) -> dict[str, Array]:
    """Return the gradient of the batch's summed loss by the value of each of `sites`."""
    leaves: dict[str, Var] = {}

    def tap(site: str, value: Any) -> Any:
        grid = start.qparams.get(site) if loss == "divergence" else None
        if grid is not None:
            value = straight_through(value, grid)
        if site not in sites:
            return value
        leaves[site] = Var(np.zeros(value.shape, value.dtype))
        return value + leaves[site]

    with np.errstate(under="ignore"):
        logits = run(start.model, batch, lambda product: None, tap)
        backward(LOSSES[loss](logits, exact) * batch.dtype.type(len(batch)))
    return {site: np.asarray(leaf.grad) for site, leaf in leaves.items()}
