"""`FloatOps`: the meaning of every operator in NumPy floats, with a tap on each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from refvit.ops import functional as F
from refvit.ops.protocol import Index, Mask
from refvit.ops.taps import Tap, untouched
from refvit.params import Params


class FloatOps:
    """Arrays in, arrays out; `tap(site, value)` sees, and may replace, every result and parameter.

    Sites of parameters are their full names (`blocks.0.attn.q.weight`), those of results are the
    operators' (`blocks.0.attn.q`). The same code runs on `Var`, which makes it differentiable.
    """

    def __init__(self, tap: Tap = untouched, dtype: DTypeLike = np.float32) -> None:
        self.tap = tap
        self.dtype = np.dtype(dtype)

    def input(self, x: Any, *, site: str) -> Any:
        foreign = hasattr(x, "__array_function__") and not isinstance(x, np.ndarray)
        return self.tap(site, x if foreign else np.asarray(x, self.dtype))

    def output(self, x: Any, *, site: str) -> Any:
        return x

    def param(self, p: Params, name: str) -> Any:
        return self.tap(p.at(name), getattr(p, name))

    def linear(self, x: Any, p: Params) -> Any:
        bias = None if p.get("bias") is None else self.param(p, "bias")
        out = F.linear(x, self.param(p, "weight"), bias)
        return self.tap(p.path, out if p.get("gain") is None else out * self.param(p, "gain"))

    def matmul(self, a: Any, b: Any, *, site: str, scale: float = 1.0) -> Any:
        if scale != 1.0:  # the query has fewer elements than the scores
            a = a * a.dtype.type(scale)
        with np.errstate(under="ignore"):  # products of tiny probabilities are rightly zero
            return self.tap(site, np.matmul(a, b))

    def add(self, a: Any, b: Any, *, site: str) -> Any:
        return self.tap(site, a + b)

    def gelu(self, x: Any, *, site: str, form: str = "erf") -> Any:
        return self.tap(site, F.gelu(x) if form == "erf" else F.gelu_tanh(x))

    def softmax(self, x: Any, *, site: str, mask: Mask | None = None) -> Any:
        return self.tap(site, F.softmax(x, mask))

    def layer_norm(self, x: Any, p: Params, *, eps: float) -> Any:
        return self.tap(
            p.path, F.layer_norm(x, self.param(p, "weight"), self.param(p, "bias"), eps)
        )

    def mean(self, x: Any, *, axis: int, site: str) -> Any:
        return self.tap(site, np.mean(x, axis=axis))

    def rearrange(self, x: Any, pattern: str, /, **sizes: int) -> Any:
        return F.rearrange(x, pattern, **sizes)

    def select(self, x: Any, index: Index, *, axis: int) -> Any:
        return x[(slice(None),) * axis + (index,)]

    def roll(self, x: Any, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Any:
        return F.roll(x, shifts, axes)

    def pad(self, x: Any, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Any:
        return F.pad(x, after, axes)

    def concat(self, parts: Sequence[Any], *, axis: int, site: str) -> Any:
        return self.tap(site, F.concat(tuple(parts), axis))
