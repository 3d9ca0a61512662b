"""Quantization-aware training: a quantized model as something to learn.

Weights, norms, biases and the steps of all grids are float tensors by name; the forward is that of
the float model, with the tap that simulates (`FakeQuantize`). What is learned settles into a
`QuantizedModel` like any other, which compiles, learned zero points of activations too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import value_of
from refvit.matching import expects
from refvit.params import Params
from refvit.quant.affine import QParams
from refvit.quant.grid import Grid
from refvit.quant.lsq import LearnedGrid, LearnedScale, ScaledGrid, Straight
from refvit.quant.operands import with_grids
from refvit.quant.ptq import QuantizedModel
from refvit.quant.quantizers import FakeQuantize

Arrays = dict[str, NDArray[Any]]
FLOAT32 = 24  # bits from which on a grid is finer than the float32 that learns
STEP, ZERO = "@step", "@zero_point"  # ends of the names of what grids learn
FREE = 0.25  # of a training, before weights are damped
FURTHEST = 80.0  # of the logarithm of a step, either way: float32 ends at 87 and 88


@dataclass(frozen=True)
class Learnable:
    """A simulated model to learn from, the start.

    Of every affine grid that the loss depends on the step is learned, as its logarithm, so that it
    stays above 0 whatever the rate, and one rate serves steps of all sizes; the mean of a distilled
    model's two heads is behind its loss, and keeps its grid. Zero points that are not 0 are learned
    besides (LSQ+), in steps and rounded in the forward; the engine has those of activations, not of
    weights. A bias's step is the product of its input's
    and its weights', so it follows what they learn and learns nothing itself. Powers of the root of
    two and twin steps learn their scale; groups, dynamic grids and the rest stay as calibration
    found them.
    Grids of 24 bits and more are finer than float32 and are left out, with a bias whose weights are
    on one: there a step of training is the float one. TypeError for what is not simulated.

    >>> import refvit
    >>> from refvit.autodiff import value_and_gradients
    >>> from refvit.models import forward
    >>> from refvit.ops import FloatOps
    >>> model, pixels = refvit.random("nano_vit"), np.zeros((1, 3, 32, 32), np.float32)
    >>> learnable = Learnable(refvit.quantize(model, pixels, recipe="w4a4"))
    >>> def loss(leaves):
    ...     weights, ops = Params(leaves), FloatOps(learnable.tap(leaves))
    ...     return np.mean(forward(ops, pixels, weights, model.config))
    >>> value, gradients = value_and_gradients(loss, learnable.tensors)
    >>> sorted(gradients)[:3]
    ['blocks.0.add1@step', 'blocks.0.add2@step', 'blocks.0.attn.context@step']
    >>> type(learnable.settled(learnable.tensors)).__name__
    'QuantizedModel'
    """

    start: QuantizedModel

    def __post_init__(self) -> None:
        expects(self.start, QuantizedModel, "Learnable")

    @cached_property
    def simulated(self) -> frozenset[str]:
        """The names of the grids that round while learning."""
        grids = self.start.qparams
        coarse = {name for name, q in grids.items() if q.bits < FLOAT32}
        weights = (name.removesuffix(".weight") for name in coarse if name.endswith(".weight"))
        return frozenset(coarse | ({f"{site}.bias" for site in weights} & set(grids)))

    @cached_property
    def tensors(self) -> Arrays:
        """What is learned, float32 by name: parameters, `<site>@step`, the logarithm of a step
        (`step_of` returns it), and `<site>@zero_point`, in steps."""
        found = {name: t.astype(np.float32) for name, t in self.start.params.items()}
        for name, q in self.start.qparams.items():
            if _learns(q):
                found[name + STEP] = np.log(q.scale).astype(np.float32)
                if isinstance(q, QParams) and not q.symmetric:
                    zero = np.broadcast_to(q.zero_point, q.scale.shape)
                    found[name + ZERO] = zero.astype(np.float32)
        return found

    def tap(self, leaves: Mapping[str, Any]) -> FakeQuantize:
        """Return the tap that rounds with what is in `leaves`: arrays or `Var`s by name."""
        now = self._grids({name: value_of(leaf) for name, leaf in leaves.items()})
        return FakeQuantize(
            {name: self._rounds(name, now[name], leaves) for name in self.simulated}
        )

    def damping(self, leaves: Mapping[str, Any], tap: FakeQuantize | None = None) -> Any:
        """Return the sum over all weights of (w_hat - clip(w))^2, where w_hat is w on its grid and
        held still, and the clip is to the grid's ends: a loss that pulls each weight in range to
        the code it rounds to, so that it no longer goes to and fro between two (Nagel,
        Fournarakis, Bondarenko and Blankevoort 2022, section 4.1). `annealed` says how much it
        counts. Who has the `tap` of `leaves` already gives it, as making it is not free."""
        total: Any = 0.0
        grids: Mapping[str, Any] = (tap or self.tap(leaves)).qparams
        for name in sorted(self.simulated):
            if name.endswith(".weight"):
                w, grid = value_of(leaves[name]), grids[name]
                error = leaves[name] - value_of(grid.round(w))
                error = error * grid.in_range(w).astype(w.dtype)
                total = total + np.sum(error * error)
        return total

    def settled(self, tensors: Mapping[str, NDArray[Any]]) -> QuantizedModel:
        """Return the quantized model that has learned `tensors`, its zero points whole codes;
        ValueError unless they are those of `tensors`."""
        if strange := sorted(self.tensors.keys() ^ tensors.keys()):
            said = "is no tensor of it" if strange[0] in tensors else "is missing"
            raise ValueError(f"a model settles with all that it learns: {strange[0]!r} {said}")
        own = {name: tensors[name] for name, _ in self.start.params.items()}
        model = replace(self.start.model, params=Params(own))
        return replace(self.start, model=model, qparams=self._grids(tensors))

    def _rounds(
        self, name: str, q: Grid, leaves: Mapping[str, Any]
    ) -> Straight | LearnedScale | LearnedGrid:
        if not _learns(q):
            return Straight(q)
        if isinstance(q, ScaledGrid):
            return LearnedScale(q, step_of(leaves[name + STEP]))
        weight = self.start.params.get(name)
        count = 0 if weight is None else weight.size // q.scale.size
        return LearnedGrid(q, step_of(leaves[name + STEP]), leaves.get(name + ZERO), count)

    def _grids(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, Grid]:
        """All grids, with what `tensors` have learned."""
        found: dict[str, Grid] = {}
        for name, q in self.start.qparams.items():
            if _learns(q):
                scale = step_of(tensors[name + STEP].astype(np.float64))
                found[name] = q.with_scale(scale)
                if isinstance(q, QParams) and (zero := tensors.get(name + ZERO)) is not None:
                    whole = np.clip(np.rint(zero), q.lo, q.hi).astype(np.int64)
                    found[name] = replace(q, scale=scale, zero_point=whole)
        return with_grids(self.start, found).qparams


def annealed(damping: float, done: float) -> float:
    """Return what damping counts when the share `done` of a training, 0 to 1, is over: nothing in
    its first quarter, in which weights move freely, then half a cosine up to `damping`.

    Nagel et al. 2022, section 4.1, anneal it by a cosine; the quarter is the default of their
    released code.

    >>> [round(annealed(8.0, done), 3) for done in (0.0, 0.25, 0.4375, 0.625, 1.0)]
    [0.0, 0.0, 1.172, 4.0, 8.0]
    """
    rising = max(0.0, done - FREE) / (1 - FREE)
    return damping * 0.5 * (1 - math.cos(math.pi * rising))


def step_of(logarithm: Any) -> Any:
    """Return the step of a logarithm, which counts as 80 where it is further from 0."""
    now = value_of(logarithm)
    near = np.clip(now, -FURTHEST, FURTHEST)
    inside = near == now
    return np.exp(logarithm if np.all(inside) else np.where(inside, logarithm, near))


def _learns(q: Grid) -> TypeGuard[QParams | ScaledGrid]:
    """Whether the step of `q` is learned: it is affine, of few enough bits and not in groups, or
    has one scale."""
    affine = isinstance(q, QParams) and q.bits < FLOAT32 and not q.group
    return affine or isinstance(q, ScaledGrid)
