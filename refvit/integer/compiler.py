"""`CompileOps`: the interpreter that runs a model once on ranges and writes the engine's integers.

A value is a `Coded`: its shape and grid, but no data. Each operator turns real scales into integer
constants, named `<site>.<constant>`. What is left afterwards is a flat table of integer tensors:
the engine reads nothing else, and `refvit.integer.prover` proves from nothing else that they fit.

Scales are relabelled on the way so that each dyadic factor is exactly the ratio of its labels: a
linear absorbs the 2**-24 in the labels of its weights, a matmul in that of its output. Therefore
"quantize(op(dequantize(...)))" holds of linear, matmul and movement, with one exception: a product
that reads powers of root two, which is no ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer import grids
from refvit.integer.bounds import prove
from refvit.integer.fixedpoint import GUARD, dyadic, real_of
from refvit.integer.grid_kinds import kind_of
from refvit.integer.kernels.profiles import LOG2_BITS, profile
from refvit.integer.zero_points import differences, engine_grid
from refvit.ops.functional import concat_shape, padded_shape
from refvit.ops.protocol import Index, Mask
from refvit.ops.shape_ops import rearranged_shape, selected_shape
from refvit.params import Params
from refvit.quant import Grid, Log2Grid, QParams, quantize

IntArray = NDArray[Any]


@dataclass(frozen=True)
class Coded:
    """What the compiler knows of a value: [shape] codes on the grid `q`, and by it the range of
    the integers they stand for."""

    shape: tuple[int, ...]
    q: Grid
    site: str = ""

    @property
    def scale(self) -> float:
        return float(self.q.scale)

    @property
    def range(self) -> tuple[int, int]:
        return self.q.range

    @property
    def differing(self) -> tuple[int, int]:
        """The range of integers of which an operator takes differences alone."""
        return differences(self.q, *self.q.range)


class CompileOps:
    """Collects `constants`, `widths` and relabelled `qparams` while a model runs on it."""

    def __init__(self, qparams: Mapping[str, Grid], kernels: str = "refvit") -> None:
        self.qparams = dict(qparams)
        self.profile = profile(kernels)
        self.widths: dict[str, int] = {}  # bits of every learned tensor's codes
        self.constants: dict[str, IntArray] = {}

    def _emit(self, site: str, shape: tuple[int, ...], **constants: Any) -> Coded:
        """Store the constants of a site with the clamp of its output, and return that output."""
        out = self.qparams[site]
        constants |= grids.written(out) | {"clamp": np.array(grids.clamp_of(out), np.int32)}
        self.constants |= {f"{site}.{name}": np.asarray(c) for name, c in constants.items()}
        return Coded(shape, out, site)

    def _grid(self, site: str, learned: bool = False) -> QParams:
        if site not in self.qparams:
            raise ValueError(f"{site}: the quantized model has no grid for this site")
        grid = self.qparams[site]
        if not isinstance(grid, QParams):
            grids.writable(site, "this operator", grid)
        assert isinstance(grid, QParams)
        return engine_grid(site, grid, learned)

    def _step(self, site: str, op: str, width: int) -> tuple[float, bool]:
        """Return the step that `op` runs to, and whether its integers are narrowed to codes."""
        grid = self.qparams.get(site)
        if grid is None or kind_of(grid) is None:
            return float(self._grid(site).scale), False
        coded = grids.writable(site, op, grid, width)
        guard = 0 if op == "add" else grids.guard_of(coded)  # an add has its own
        return float(coded.scale) / 2.0**guard, True

    def input(self, x: Any, *, site: str) -> Coded:
        self._grid(site)
        return self._emit(site, x.shape)

    def output(self, x: Coded, *, site: str) -> Coded:
        return x

    def param(self, p: Params, name: str) -> Coded:
        tensor, grid = getattr(p, name), self._grid(p.at(name), learned=True)
        if not grid.signed:
            raise ValueError(f"{p.at(name)}: learned codes are signed; this grid is not")
        self.constants[p.at(name)] = quantize(tensor.astype(np.float64), grid)
        self.widths[p.at(name)] = grid.bits
        return Coded(tensor.shape, grid)

    def linear(self, x: Coded, p: Params) -> Coded:
        grid = self._grid(p.at("weight"), learned=True)
        self._step(p.path, "linear", len(p.weight))
        out = grids.steps(self.qparams[p.path])  # one, or one for each channel
        codes = quantize(p.weight.astype(np.float64), grid)
        gain = np.ones(len(codes)) if p.get("gain") is None else p.gain.astype(np.float64)
        factor = grid.scale * x.scale * gain / out
        multiplier, shift = dyadic(factor, p.path)
        with np.errstate(divide="ignore", invalid="ignore"):  # a gain of 0 says nothing of labels
            label = real_of(multiplier, shift) * out / x.scale / gain
        label = np.where(label > 0, label, grid.scale)
        self.qparams[p.at("weight")] = QParams(label, grid.bits, axis=0)
        constants = {"weight": codes, "multiplier": multiplier, "shift": shift}
        if p.get("bias") is not None:
            constants["bias"] = self._bias(p, label * x.scale)
        self.widths[p.at("weight")] = grid.bits
        constants |= grids.read(p.path, "linear", x.q)
        return self._emit(p.path, (*x.shape[:-1], len(codes)), **constants)

    def _bias(self, p: Params, scale: NDArray[Any]) -> IntArray:
        """Bias codes in units of the accumulator, int32."""
        codes = np.rint(p.bias.astype(np.float64) / scale)
        prove(p.path, "bias", codes.min(), codes.max(), "the weights of this channel are too small")
        self.qparams[p.at("bias")] = QParams(scale, 32, axis=0)
        return np.asarray(codes, np.int32)

    def matmul(self, a: Coded, b: Coded, *, site: str, scale: float = 1.0) -> Coded:
        product = a.scale * b.scale * scale
        multiplier, shift = dyadic(product / float(self._grid(site).scale), site)
        if multiplier == 0:
            raise OverflowError(f"{site}: its scale is 2**54 times its product's; calibrate again")
        self.qparams[site] = self._grid(site).with_scale(product / real_of(multiplier, shift))
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        constants = {"multiplier": multiplier, "shift": shift}
        return self._emit(site, shape, **constants, **grids.read(site, "matmul", a.q, b.q))

    def add(self, a: Coded, b: Coded, *, site: str) -> Coded:
        shape = np.broadcast_shapes(a.shape, b.shape)
        step, _ = self._step(site, "add", shape[-1])
        multiplier, shift = dyadic(np.array([a.scale, b.scale]) / step * 2.0**GUARD, site)
        constants = {"multiplier": multiplier, "shift": shift}
        return self._emit(site, shape, **constants, **grids.read(site, "add", a.q, b.q))

    def gelu(self, x: Coded, *, site: str, form: str = "erf") -> Coded:
        step, narrowed = self._step(site, "gelu", x.shape[-1])
        kernel = self.profile.gelu_for(*self.qparams[site].range, narrowed)
        constants, _ = kernel.plan(site, x.scale, step, *x.range)
        return self._emit(site, x.shape, **constants, **grids.read(site, "gelu", x.q))

    def softmax(self, x: Coded, *, site: str, mask: Mask | None = None) -> Coded:
        given = self.qparams.get(site)
        if self.profile.log2 and kind_of(given) not in (None, "log2"):
            found = f"of {kind_of(given)} codes; compile it with kernels='refvit'"
            raise ValueError(f"{site}: kernels='log2' writes powers of two, the recipe is {found}")
        if self.profile.log2 and not isinstance(given, Log2Grid):
            self.qparams[site] = Log2Grid(LOG2_BITS)
        step, _ = self._step(site, "softmax", x.shape[-1])
        plan, tokens = self.profile.softmax.plan, x.shape[-1]
        constants, _ = plan(site, x.scale, step, *x.differing, tokens)
        return self._emit(site, x.shape, **constants, **grids.read(site, "softmax", x.q))

    def layer_norm(self, x: Coded, p: Params, *, eps: float) -> Coded:
        out, plan = float(self._grid(p.path).scale), self.profile.layer_norm.plan
        constants, _ = plan(p.path, x.scale, out, *x.differing, p.weight, p.bias, eps)
        constants |= grids.read(p.path, "layer_norm", x.q)
        return self._emit(p.path, x.shape, **constants)

    def mean(self, x: Coded, *, axis: int, site: str) -> Coded:
        count = x.shape[axis]
        multiplier, shift = dyadic(x.scale / count / float(self._grid(site).scale), site)
        label = x.scale / count / real_of(multiplier, shift)
        self.qparams[site] = self._grid(site).with_scale(label)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        constants = {"multiplier": multiplier, "shift": shift} | grids.read(site, "mean", x.q)
        return self._emit(site, shape, **constants)

    def rearrange(self, x: Coded, pattern: str, /, **sizes: int) -> Coded:
        grid = grids.moved(x.q, x.shape, pattern, sizes, x.site)
        return replace(x, shape=rearranged_shape(x.shape, pattern, sizes), q=grid)

    def select(self, x: Coded, index: Index, *, axis: int) -> Coded:
        return replace(x, shape=selected_shape(x.shape, index, axis))

    def roll(self, x: Coded, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Coded:
        return x

    def pad(self, x: Coded, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Coded:
        return replace(x, shape=padded_shape(x.shape, after, axes))

    def concat(self, parts: Sequence[Coded], *, axis: int, site: str) -> Coded:
        steps = np.array([part.scale for part in parts]) / float(self._grid(site).scale)
        multiplier, shift = dyadic(steps, site)
        shape = concat_shape([part.shape for part in parts], axis)
        constants = {"multiplier": multiplier, "shift": shift}
        constants |= grids.read(site, "concat", *(part.q for part in parts))
        return self._emit(site, shape, **constants)
