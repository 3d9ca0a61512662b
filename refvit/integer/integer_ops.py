"""`IntegerOps`: every operator on integer codes, from a table of integer constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import FAST, Arithmetic, code_dtype
from refvit.integer.fixedpoint import GUARD, INT32, shift_round
from refvit.integer.kernels import gelu, layer_norm, softmax
from refvit.integer.qtensor import QTensor
from refvit.ops import functional as F
from refvit.ops.protocol import Index, Mask
from refvit.params import Params

IntArray = NDArray[Any]


class IntegerOps:
    """`QTensor`s in, `QTensor`s out, by `arithmetic`: `FAST` (BLAS, exact) or `PLAIN` (int32).

    `constants` are the compiler's, `scales` the labels that results carry. `tap(site, codes)`
    sees every result.
    """

    def __init__(
        self,
        constants: Params,
        scales: Mapping[str, float],
        arithmetic: Arithmetic = FAST,
        tap: Callable[[str, IntArray], Any] = lambda site, codes: None,
    ) -> None:
        self.constants = constants
        self.scales = scales
        self.arithmetic = arithmetic
        self.tap = tap

    def _result(self, site: str, codes: IntArray) -> QTensor:
        lo, hi = self._clamp(self.constants[site])
        codes = codes.astype(code_dtype(lo, hi), copy=False)
        self.tap(site, codes)
        return QTensor(codes, self.scales[site])

    def _clamp(self, c: Any) -> tuple[int, int]:
        lo, hi = c.clamp.tolist()
        return lo, hi

    def input(self, x: IntArray, *, site: str) -> QTensor:
        return self._result(site, x)

    def output(self, x: QTensor, *, site: str) -> QTensor:
        return x

    def param(self, p: Params, name: str) -> QTensor:
        return QTensor(getattr(p, name), self.scales[p.at(name)])

    def linear(self, x: QTensor, p: Params) -> QTensor:
        rows = x.codes.reshape(-1, x.shape[-1])
        acc = self.arithmetic.matmul(rows, p.weight.T)
        out = self.arithmetic.requantize(acc, p.multiplier, p.shift, *self._clamp(p), p.get("bias"))
        return self._result(p.path, out.reshape(*x.shape[:-1], -1))

    def matmul(self, a: QTensor, b: QTensor, *, site: str, scale: float = 1.0) -> QTensor:
        """`scale` was folded into the multiplier when the model was compiled."""
        c = self.constants[site]
        acc = self.arithmetic.matmul(a.codes, b.codes)
        return self._result(
            site, self.arithmetic.requantize(acc, c.multiplier, c.shift, *self._clamp(c))
        )

    def add(self, a: QTensor, b: QTensor, *, site: str) -> QTensor:
        """Both addends come to the output's scale with 8 guard bits; one rounding of their sum."""
        c = self.constants[site]
        total = self._guarded(a, c, 0) + self._guarded(b, c, 1)
        return self._result(site, np.clip(shift_round(total, GUARD), *self._clamp(c)))

    def _guarded(self, x: QTensor, c: Any, k: int) -> IntArray:
        codes = x.codes.astype(np.int32)
        return self.arithmetic.requantize(codes, c.multiplier[k], c.shift[k], *INT32)

    def gelu(self, x: QTensor, *, site: str, form: str = "erf") -> QTensor:
        """One polynomial for both forms, which differ by less than its own error."""
        c = self.constants[site]
        return self._result(site, gelu.gelu(x.codes, c, self.arithmetic, *self._clamp(c)))

    def softmax(self, x: QTensor, *, site: str, mask: Mask | None = None) -> QTensor:
        c = self.constants[site]
        codes = softmax.softmax(x.codes, c, self.arithmetic, *self._clamp(c), mask)
        return self._result(site, codes)

    def layer_norm(self, x: QTensor, p: Params, *, eps: float) -> QTensor:
        """`eps` was folded into the constants when the model was compiled."""
        codes = layer_norm.layer_norm(x.codes, p, self.arithmetic, *self._clamp(p))
        return self._result(p.path, codes)

    def mean(self, x: QTensor, *, axis: int, site: str) -> QTensor:
        """The sum, exact; 1/n was folded into the multiplier when the model was compiled."""
        c = self.constants[site]
        total = x.codes.sum(axis, dtype=np.int32)
        return self._result(
            site, self.arithmetic.requantize(total, c.multiplier, c.shift, *self._clamp(c))
        )

    def rearrange(self, x: QTensor, pattern: str, /, **sizes: int) -> QTensor:
        return QTensor(einops.rearrange(x.codes, pattern, **sizes), x.scale)

    def select(self, x: QTensor, index: Index, *, axis: int) -> QTensor:
        return QTensor(x.codes[(slice(None),) * axis + (index,)], x.scale)

    def roll(self, x: QTensor, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> QTensor:
        return QTensor(F.roll(x.codes, shifts, axes), x.scale)

    def pad(self, x: QTensor, after: tuple[int, ...], *, axes: tuple[int, ...]) -> QTensor:
        """The grid is symmetric, so the code of zero is 0."""
        return QTensor(F.pad(x.codes, after, axes), x.scale)

    def concat(self, parts: Sequence[QTensor], *, axis: int, site: str) -> QTensor:
        c = self.constants[site]
        aligned = [
            self.arithmetic.requantize(x.codes.astype(np.int32), m, s, *self._clamp(c))
            for x, m, s in zip(parts, c.multiplier, c.shift, strict=True)
        ]
        return self._result(site, F.concat(tuple(aligned), axis))
