"""Lockstep: two interpreters side by side, operator by operator, from the same inputs.

Comparing two forwards at their ends hides errors behind drift. Here every operator of the engine
is given the reference's inputs as codes, and its output codes are compared with the reference's
output on the same grid: `quantize(op(dequantize(...)))` in float64, which is the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.differences import Difference, around, places, wanted_places
from refvit.integer import FAST, Arithmetic, IntegerModel, QTensor
from refvit.integer.fixedpoint import real_of
from refvit.integer.grids import moved, steps
from refvit.integer.kernels import gelu, layer_norm, softmax
from refvit.integer.kernels.softmax import by_window
from refvit.integer.zero_points import zero_of
from refvit.model import check_pixels
from refvit.models import forward, workload_records
from refvit.ops import FloatOps
from refvit.ops.protocol import Index, Mask
from refvit.params import Params
from refvit.quant import (
    FakeQuantize,
    Grid,
    LogSqrt2Grid,
    QuantizedModel,
    dequantize,
    quantize,
)

EXACT = ("linear", "matmul", "concat", "mean")


def lockstep(
    quantized: QuantizedModel,
    engine: IntegerModel,
    pixels: NDArray[Any],
    arithmetic: Arithmetic = FAST,
) -> list[Difference]:
    """Return one `Difference` per operator of a forward of `pixels` [B, C, H, W]; the engine is
    right where all of them pass.

    `quantized` gives the float parameters of the norms, `engine` everything else: its codes
    times its labels are the reference's weights.
    """
    pixels = check_pixels(pixels, engine.config)
    reference = reference_params(quantized, engine)
    grids = activation_grids(engine)
    ops = LockstepOps(engine, grids, arithmetic)
    forward(ops, pixels.astype(np.float64), reference, engine.config)
    return ops.differences


def activation_grids(engine: IntegerModel) -> dict[str, Grid]:
    """Return the grid of every activation that an operator of the engine makes."""
    records = workload_records(engine.config)
    return {r.site: engine.grid(r.site) for r in records if r.op not in ("output", "param")}


def reference_params(quantized: QuantizedModel, engine: IntegerModel) -> Params:
    """Return float64 parameters that the engine's integers stand for exactly.

    The label of a linear's weights is `multiplier / 2**shift * s_out / s_in`, that of its bias the
    label of its accumulator.
    """
    tensors = {name: t.astype(np.float64) for name, t in quantized.params.items()}
    for record in workload_records(engine.config):
        if record.op == "param":
            tensors[record.site] = engine.constants[record.site] * engine.scales[record.site]
        if record.op == "linear":
            c = engine.constants[record.site]
            out = steps(engine.grid(record.site))
            unit = np.ldexp(c.multiplier.astype(np.float64), -c.shift) * out
            tensors.pop(f"{record.site}.gain", None)  # it is in the unit
            tensors[f"{record.site}.weight"] = (
                c.weight * (unit / engine.scales[record.inputs[0]])[:, None]
            )
            if c.get("bias") is not None:
                tensors[f"{record.site}.bias"] = c.bias * unit
    return Params(tensors)


@dataclass(frozen=True)
class Pair:
    """A reference value of `site`, on its `grid`; None where that is of a learned tensor."""

    value: NDArray[Any]
    site: str
    grid: Grid | None = None


class LockstepOps:
    """Runs the definition, and beside it the engine on the definition's inputs."""

    def __init__(
        self, engine: IntegerModel, grids: dict[str, Grid], arithmetic: Arithmetic
    ) -> None:
        self.engine = engine
        self.grids = grids
        self.float = FloatOps(dtype=np.float64)
        self.tap = FakeQuantize(grids)
        self.integer = engine.ops(arithmetic)
        self.differences: list[Difference] = []

    def _codes(self, x: Pair) -> QTensor:
        if x.grid is not None:
            zero = zero_of(self.engine.constants[x.site])
            return QTensor(quantize(x.value, x.grid), self.engine.scales[x.site], zero)
        label = self.engine.scales[x.site]  # a learned tensor: its codes times its label, moved
        codes = np.rint(x.value / label).astype(self.engine.constants[x.site].dtype)
        return QTensor(codes, label)

    def _compare(
        self,
        op: str,
        site: str,
        value: NDArray[Any],
        got: QTensor,
        stated: float = 0.0,
        exact: int = 0,
    ) -> Pair:
        """Note how far `got` is off; `stated` is the error in reals that is allowed on top of the
        roundings of both, which make one code, `exact` what an exact operator is allowed."""
        grid = self.grids[site]
        off = np.abs(wanted_places(value, grid) - places(got.codes, grid))
        allowed = exact if op in EXACT else around(value, grid, stated)
        known = op not in self.integer.profile.unbounded
        beyond = off - allowed
        at = int(np.argmax(beyond if known and beyond.max() > 0 else off))
        most = int(np.broadcast_to(allowed, off.shape).flat[at]) if known else None
        lo, hi = (np.asarray(end) * grid.scale for end in grid.range)
        error = np.abs(dequantize(got.codes, grid, np.float64) - np.clip(value, lo, hi))
        counts = off.size, int((off > 0).sum()), int(off.flat[at])
        self.differences.append(Difference(site, op, *counts, most, float(error.max())))
        return Pair(self.tap(site, value), site, grid)

    def input(self, x: Any, *, site: str) -> Pair:
        value = self.tap(site, self.float.input(x, site=site))
        return Pair(value, site, self.grids[site])

    def output(self, x: Pair, *, site: str) -> Pair:
        return x

    def param(self, p: Params, name: str) -> Pair:
        return Pair(getattr(p, name), p.at(name))

    def _view(self, p: Params) -> Params:
        view: Params = self.engine.constants[p.path]
        return view

    def linear(self, x: Pair, p: Params) -> Pair:
        got = self.integer.linear(self._codes(x), self._view(p))
        return self._compare("linear", p.path, self.float.linear(x.value, p), got)

    def matmul(self, a: Pair, b: Pair, *, site: str, scale: float = 1.0) -> Pair:
        got = self.integer.matmul(self._codes(a), self._codes(b), site=site, scale=scale)
        value, exact = self.float.matmul(a.value, b.value, site=site, scale=scale), 0
        if isinstance(a.grid, LogSqrt2Grid):  # its accumulator errs by one unit
            c = self.engine.constants[site]
            exact = 1 + int(real_of(c.multiplier, c.shift))
        return self._compare("matmul", site, value, got, exact=exact)

    def add(self, a: Pair, b: Pair, *, site: str) -> Pair:
        got = self.integer.add(self._codes(a), self._codes(b), site=site)
        return self._compare("add", site, self.float.add(a.value, b.value, site=site), got)

    def gelu(self, x: Pair, *, site: str, form: str = "erf") -> Pair:
        got = self.integer.gelu(self._codes(x), site=site, form=form)
        value, stated = self.float.gelu(x.value, site=site, form=form), gelu.stated_error(x.value)
        return self._compare("gelu", site, value, got, stated)

    def softmax(self, x: Pair, *, site: str, mask: Mask | None = None) -> Pair:
        """A masked score does not exist in the engine, so here it is far below all others."""
        got = self.integer.softmax(self._codes(x), site=site, mask=mask)
        gone = False if mask is None else by_window(mask, x.value.shape)
        scores = np.where(gone, x.value.min() - 700, x.value)
        value = self.float.softmax(scores, site=site)
        stated = softmax.stated_error(scores.shape[-1])
        return self._compare("softmax", site, value, got, stated)

    def layer_norm(self, x: Pair, p: Params, *, eps: float) -> Pair:
        got = self.integer.layer_norm(self._codes(x), self._view(p), eps=eps)
        value = self.float.layer_norm(x.value, p, eps=eps)
        stated = layer_norm.stated_error(value.shape[-1]) * float(np.abs(value - p.bias).max())
        return self._compare("layer_norm", p.path, value, got, stated)

    def mean(self, x: Pair, *, axis: int, site: str) -> Pair:
        got = self.integer.mean(self._codes(x), axis=axis, site=site)
        return self._compare("mean", site, self.float.mean(x.value, axis=axis, site=site), got)

    def rearrange(self, x: Pair, pattern: str, /, **sizes: int) -> Pair:
        grid = moved(x.grid, x.value.shape, pattern, sizes)
        return Pair(self.float.rearrange(x.value, pattern, **sizes), x.site, grid)

    def select(self, x: Pair, index: Index, *, axis: int) -> Pair:
        return replace(x, value=self.float.select(x.value, index, axis=axis))

    def roll(self, x: Pair, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Pair:
        return replace(x, value=self.float.roll(x.value, shifts, axes=axes))

    def pad(self, x: Pair, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Pair:
        return replace(x, value=self.float.pad(x.value, after, axes=axes))

    def concat(self, parts: Sequence[Pair], *, axis: int, site: str) -> Pair:
        got = self.integer.concat([self._codes(x) for x in parts], axis=axis, site=site)
        value = self.float.concat([x.value for x in parts], axis=axis, site=site)
        return self._compare("concat", site, value, got)
