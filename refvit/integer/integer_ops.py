"""`IntegerOps`: every operator on integer codes, from a table of integer constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.integer import grids
from refvit.integer.arithmetic import FAST, Arithmetic, code_dtype, in_rows, largest_code
from refvit.integer.fixedpoint import GUARD, INT32, shift_round
from refvit.integer.kernels.profiles import profile
from refvit.integer.kernels.softmax import by_window
from refvit.integer.qtensor import QTensor
from refvit.integer.zero_points import stored, zero_of
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

    def _result(self, site: str, integers: IntArray) -> QTensor:
        """Store what an operator has made, by the zero point of `site` if it has one."""
        c = self.constants[site]
        zero = zero_of(c)
        return self._held(site, stored(integers, c.clamp, zero), zero)

    def _held(self, site: str, codes: IntArray, zero: int) -> QTensor:
        self.tap(site, codes)
        return QTensor(codes, self.scales[site], zero)

    def input(self, x: IntArray, *, site: str) -> QTensor:
        """The codes come as they are: clause 1.4."""
        c = self.constants[site]
        return self._held(site, stored(x, c.clamp, 0), zero_of(c))

    def output(self, x: QTensor, *, site: str) -> QTensor:
        return x

    def param(self, p: Params, name: str) -> QTensor:
        return QTensor(getattr(p, name), self.scales[p.at(name)])

    def linear(self, x: QTensor, p: Params) -> QTensor:
        """Clause 3.2 of the specification."""
        integers, most = grids.operand(p, 0, x.codes)
        rows, bounds = integers.reshape(-1, x.shape[-1]), (most, largest_code(p.weight.dtype))
        acc = self.arithmetic.matmul(rows, p.weight.T, bounds)
        out = self.arithmetic.requantize(acc, p.multiplier, p.shift, *grids.ends(p), p.get("bias"))
        return self._result(p.path, out.reshape(*x.shape[:-1], -1))

    def matmul(self, a: QTensor, b: QTensor, *, site: str, scale: float = 1.0) -> QTensor:
        """Clause 3.3; `scale` was folded into the multiplier when the model was compiled."""
        c = self.constants[site]
        acc = grids.product(c, a.codes, b.codes, self.arithmetic)
        return self._result(
            site, self.arithmetic.requantize(acc, c.multiplier, c.shift, *grids.ends(c))
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
        """Run a kernel of rows block by block, what it makes narrowed while it is at hand."""
        narrow = code_dtype(*grids.ends(c))
        return self._result(site, in_rows(lambda *part: np.asarray(kernel(*part), narrow), *arrays))

    def _guarded(self, codes: IntArray, c: Any, k: int) -> IntArray:
        return self.arithmetic.requantize(codes, c.multiplier[k], c.shift[k], *INT32)

    def gelu(self, x: QTensor, *, site: str, form: str = "erf") -> QTensor:
        """One polynomial for both forms, which differ by less than its own error."""
        c = self.constants[site]
        write = grids.writer(c)
        kernel = self.profile.gelu_for(write.lo, write.hi, write.coded)

        def formula(codes: IntArray) -> IntArray:
            integers = grids.aligned(c, 0, codes)
            return write.narrow(kernel.run(integers, c, self.arithmetic, write.lo, write.hi))

        if kernel.elementwise:
            return self._result(site, self.arithmetic.elementwise(formula, x.codes))
        return self._result(site, formula(x.codes))

    def softmax(self, x: QTensor, *, site: str, mask: Mask | None = None) -> QTensor:
        c, run = self.constants[site], self.profile.softmax.run
        write = grids.Writer(*grids.ends(c)) if self.profile.log2 else grids.writer(c)

        def kernel(scores: IntArray, gone: Mask | None = None) -> IntArray:
            return write.narrow(run(scores, c, self.arithmetic, write.lo, write.hi, gone))

        gone = () if mask is None else (by_window(mask, x.shape),)
        return self._by_rows(site, c, kernel, x.codes, *gone)

    def layer_norm(self, x: QTensor, p: Params, *, eps: float) -> QTensor:
        """`eps` was folded into the constants when the model was compiled."""
        lo, hi = grids.ends(p)

        def kernel(rows: IntArray) -> Any:
            return self.profile.layer_norm.run(rows, p, self.arithmetic, lo, hi)

        return self._by_rows(p.path, p, kernel, grids.aligned(p, 0, x.codes))

    def mean(self, x: QTensor, *, axis: int, site: str) -> QTensor:
        """Clause 3.4: the sum, exact; 1/n was folded into the multiplier when compiling."""
        c = self.constants[site]
        total = grids.aligned(c, 0, x.codes).sum(axis, dtype=np.int32)
        return self._result(
            site, self.arithmetic.requantize(total, c.multiplier, c.shift, *grids.ends(c))
        )

    def rearrange(self, x: QTensor, pattern: str, /, **sizes: int) -> QTensor:
        return x.holding(einops.rearrange(x.codes, pattern, **sizes))

    def select(self, x: QTensor, index: Index, *, axis: int) -> QTensor:
        return x.holding(x.codes[(slice(None),) * axis + (index,)])

    def roll(self, x: QTensor, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> QTensor:
        return x.holding(F.roll(x.codes, shifts, axes))

    def pad(self, x: QTensor, after: tuple[int, ...], *, axes: tuple[int, ...]) -> QTensor:
        """What is padded stands for 0: clause 3.7."""
        return x.holding(F.pad(x.codes, after, axes, x.zero))

    def concat(self, parts: Sequence[QTensor], *, axis: int, site: str) -> QTensor:
        """Clause 3.6 of the specification."""
        c = self.constants[site]
        integers = [grids.aligned(c, k, part.codes) for k, part in enumerate(parts)]
        steps = [
            self.arithmetic.requantize(x, m, s, *grids.ends(c))
            for x, m, s in zip(integers, c.multiplier, c.shift, strict=True)
        ]
        return self._result(site, F.concat(tuple(steps), axis))
