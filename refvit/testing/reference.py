"""refvit's own kernels in the signatures of `laws`: constants planned, then integers alone.

`laws.softmax(reference.softmax(0.1), 0.1)` holds. Every function takes `arithmetic`, `PLAIN` int32
or `FAST` BLAS; the codes are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import PLAIN, Arithmetic
from refvit.integer.bounds import Proof
from refvit.integer.kernels import gelu as gelu_kernel
from refvit.integer.kernels import layer_norm as layer_norm_kernel
from refvit.integer.kernels import softmax as softmax_kernel
from refvit.quant import QParams, code_range, quantize

IntArray = NDArray[Any]
FloatArray = NDArray[Any]
Unary = Callable[[IntArray], IntArray]
SITE = "reference"


def requantize(
    acc: IntArray,
    multiplier: IntArray,
    shift: IntArray,
    lo: int,
    hi: int,
    *,
    arithmetic: Arithmetic = PLAIN,
) -> IntArray:
    """Return `clip(floor(acc * multiplier / 2**shift + 1/2), lo, hi)`: [..., C] of int32."""
    return arithmetic.requantize(acc, multiplier, shift, lo, hi)


def matmul(a: IntArray, b: IntArray, *, arithmetic: Arithmetic = PLAIN) -> IntArray:
    """Return `a @ b` of codes [..., M, K] and [..., K, N] as int32."""
    return np.asarray(arithmetic.matmul(a, b)).astype(np.int32)


def quantizer(x: FloatArray, scale: float, bits: int, *, signed: bool = True) -> IntArray:
    """Return codes of `x` on the symmetric grid of a scale, half to even, any shape."""
    return quantize(x, QParams(np.asarray(scale), bits, signed))


def softmax(
    scale: float, out_scale: float = 1 / 255, *, bits: int = 8, arithmetic: Arithmetic = PLAIN
) -> Unary:
    """Return the softmax of signed score codes [..., N] at `scale`, over the last axis.

    The answer is unsigned codes, up to that of a probability of one at `out_scale`.
    """
    top = round(1 / out_scale)

    def run(codes: IntArray) -> IntArray:
        plan = softmax_kernel.plan(SITE, scale, out_scale, *code_range(bits), codes.shape[-1])
        return softmax_kernel.softmax(codes, _constants(plan), arithmetic, 0, top)

    return run


def gelu(
    scale: float,
    out_scale: float | None = None,
    *,
    bits: int = 8,
    arithmetic: Arithmetic = PLAIN,
) -> Unary:
    """Return the GELU of signed codes at `scale`, of any shape.

    The answer is codes of the same width at `out_scale`, that of the input unless given.
    """
    lo, hi = code_range(bits)
    plan = gelu_kernel.plan(SITE, scale, scale if out_scale is None else out_scale, lo, hi)
    return lambda codes: gelu_kernel.gelu(codes, _constants(plan), arithmetic, lo, hi)


def layer_norm(
    codes: IntArray,
    gamma: FloatArray,
    beta: FloatArray,
    scale: float,
    out_scale: float,
    eps: float,
    *,
    out_bits: int = 8,
    arithmetic: Arithmetic = PLAIN,
) -> IntArray:
    """Return codes of LayerNorm over the last axis of int8 or int16 codes [..., C] at `scale`.

    gamma and beta are reals [C]; the answer is signed codes of `out_bits` at `out_scale`.
    """
    info = np.iinfo(codes.dtype)
    ends = int(info.min), int(info.max)
    plan = layer_norm_kernel.plan(SITE, scale, out_scale, *ends, gamma, beta, eps)
    return layer_norm_kernel.layer_norm(codes, _constants(plan), arithmetic, *code_range(out_bits))


def _constants(plan: tuple[dict[str, IntArray], list[Proof]]) -> SimpleNamespace:
    """The integers of one site by name, as the engine hands them to a kernel."""
    return SimpleNamespace(**plan[0])
