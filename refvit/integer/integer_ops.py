"""`IntegerOps`: every operator on integer codes, from a table of integer constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.integer import grids
from refvit.integer.arithmetic import FAST, Arithmetic, code_dtype, in_rows
from refvit.integer.fixedpoint import GUARD, INT32, shift_round
from refvit.integer.kernels.profiles import profile
from refvit.integer.kernels.softmax import by_window
from refvit.integer.qtensor import QTensor
from refvit.ops import functional as F
from refvit.ops.protocol import Index, Mask
from refvit.params import Params

IntArray = NDArray[Any]


class IntegerOps:
    """`QTensor`s in, `QTensor`s out, by `arithmetic`: `FAST` (BLAS, exact) or `PLAIN` (int32).

    `constants` are the compiler's for the profile `kernels`, `scales` the labels that results
    carry. `tap(site, codes)` sees every result.
    """

    def __init__(
        self,
        constants: Params,
        scales: Mapping[str, float],
        arithmetic: Arithmetic = FAST,
        tap: Callable[[str, IntArray], Any] = lambda site, codes: None,
        kernels: str = "refvit",
    ) -> None:
        self.profile = profile(kernels)
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
        """Clause 3.2 of the specification."""
        rows = grids.aligned(p, 0, x.codes).reshape(-1, x.shape[-1])
        acc = self.arithmetic.matmul(rows, p.weight.T)
        out = self.arithmetic.requantize(acc, p.multiplier, p.shift, *self._clamp(p), p.get("bias"))
        return self._result(p.path, out.reshape(*x.shape[:-1], -1))

    def matmul(self, a: QTensor, b: QTensor, *, site: str, scale: float = 1.0) -> QTensor:
        """Clause 3.3; `scale` was folded into the multiplier when the model was compiled."""
        c = self.constants[site]
        acc = grids.product(c, a.codes, b.codes, self.arithmetic)
        return self._result(
            site, self.arithmetic.requantize(acc, c.multiplier, c.shift, *self._clamp(c))
        )

    def add(self, a: QTensor, b: QTensor, *, site: str) -> QTensor:
        """Both addends come to the output's scale with 8 guard bits; one rounding (clause 3.5)."""
        c = self.constants[site]
        write = grids.writer(c, GUARD)

        def kernel(one: IntArray, other: IntArray) -> IntArray:
            total = self._guarded(one, c, 0) + self._guarded(other, c, 1)
            if not write.coded:
                return np.clip(shift_round(total, GUARD), write.lo, write.hi)
            return write.narrow(np.clip(total, write.lo, write.hi))

        both = grids.aligned(c, 0, a.codes), grids.aligned(c, 1, b.codes)
        if a.shape != b.shape:  # one of them is broadcast: positions
            return self._result(site, kernel(*both))
        return self._by_rows(site, c, kernel, *both)

    def _by_rows(
        self, site: str, c: Any, kernel: Callable[..., IntArray], *arrays: IntArray
    ) -> QTensor:
        """Run a kernel of rows block by block, the codes of each narrowed while it is at hand."""
        narrow = code_dtype(*self._clamp(c))
        return self._result(site, in_rows(lambda *part: np.asarray(kernel(*part), narrow), *arrays))

    def _guarded(self, codes: IntArray, c: Any, k: int) -> IntArray:
        return self.arithmetic.requantize(codes, c.multiplier[k], c.shift[k], *INT32)

    def gelu(self, x: QTensor, *, site: str, form: str = "erf") -> QTensor:
        """One polynomial for both forms, which differ by less than its own error."""
        c = self.constants[site]
        write = grids.writer(c)
        kernel = self.profile.gelu_for(write.coded)

        def formula(codes: IntArray) -> IntArray:
            return write.narrow(kernel.run(codes, c, self.arithmetic, write.lo, write.hi))

        if write.coded and kernel.elementwise:
            return self._result(site, self.arithmetic.elementwise(formula, x.codes))
        return self._result(site, formula(x.codes))

    def softmax(self, x: QTensor, *, site: str, mask: Mask | None = None) -> QTensor:
        c, run = self.constants[site], self.profile.softmax.run
        write = grids.Writer(*self._clamp(c)) if self.profile.log2 else grids.writer(c)

        def kernel(scores: IntArray, gone: Mask | None = None) -> IntArray:
            return write.narrow(run(scores, c, self.arithmetic, write.lo, write.hi, gone))

        gone = () if mask is None else (by_window(mask, x.shape),)
        return self._by_rows(site, c, kernel, x.codes, *gone)

    def layer_norm(self, x: QTensor, p: Params, *, eps: float) -> QTensor:
        """`eps` was folded into the constants when the model was compiled."""
        lo, hi = self._clamp(p)

        def kernel(rows: IntArray) -> Any:
            return self.profile.layer_norm.run(rows, p, self.arithmetic, lo, hi)

        return self._by_rows(p.path, p, kernel, grids.aligned(p, 0, x.codes))

    def mean(self, x: QTensor, *, axis: int, site: str) -> QTensor:
        """Clause 3.4: the sum, exact; 1/n was folded into the multiplier when compiling."""
        c = self.constants[site]
        total = grids.aligned(c, 0, x.codes).sum(axis, dtype=np.int32)
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
        """Clause 3.6 of the specification."""
        c = self.constants[site]
        integers = [grids.aligned(c, k, part.codes) for k, part in enumerate(parts)]
        steps = [
            self.arithmetic.requantize(x, m, s, *self._clamp(c))
            for x, m, s in zip(integers, c.multiplier, c.shift, strict=True)
        ]
        return self._result(site, F.concat(tuple(steps), axis))
