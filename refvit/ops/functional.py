"""The float operators as plain NumPy functions, and the protocol by which `Var` overrides them.

Every function takes and returns arrays of one floating dtype. They are written for the cache: row
blocks, in-place ufuncs, one GEMM for all rows. An array type that is not an
ndarray (`refvit.autodiff.Var`) is handed the call through `__array_function__` (NEP 18), exactly
as NumPy does for its own functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.ops.blocks import BLOCK, blocks, keep_freed_memory

P = ParamSpec("P")
R = TypeVar("R")
FloatArray = NDArray[Any]

keep_freed_memory()


def overridable(fn: Callable[P, R]) -> Callable[P, R]:
    """Let an argument's type take over `fn` through NumPy's `__array_function__` protocol."""

    @functools.wraps(fn)
    def public(*args: P.args, **kwargs: P.kwargs) -> R:
        for arg in args:
            for part in arg if isinstance(arg, tuple) else (arg,):
                if not isinstance(part, np.ndarray) and hasattr(part, "__array_function__"):
                    result: R = part.__array_function__(public, (type(part),), args, kwargs)
                    return result
        return fn(*args, **kwargs)

    return public


@overridable
def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """Return `x @ weight.T + bias`: [..., in], [out, in], [out] -> [..., out], as one GEMM."""
    out = x.reshape(-1, x.shape[-1]) @ weight.T
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], weight.shape[0])


MASKED = -100.0  # added to the scores of tokens that must not meet (Liu et al. 2021)
SAFE = 60.0  # exp(60) times any number of tokens, and exp(-60), are far inside float32
NOTHING = 2.0**-100  # a masked probability up to here is 0, as are its products in float32


@overridable
def softmax(x: FloatArray, mask: NDArray[np.bool_] | None = None) -> FloatArray:
    """Return exp(x) / sum(exp(x)) along the last axis, any shape; `mask` as in the protocol.

    >>> softmax(np.array([[0.0, np.log(3.0)]]))
    array([[0.25, 0.75]])
    """
    if mask is not None:
        x = masked(x, mask)
    flat = x.reshape(-1, x.shape[-1])
    out, ones = np.empty_like(flat), np.ones(x.shape[-1], x.dtype)
    with np.errstate(under="ignore"):  # exp of a very negative score is rightly zero
        for rows in blocks(*flat.shape):
            part, block = flat[rows], out[rows]
            if part.max() < SAFE and part.min() > -SAFE:  # no row overflows or vanishes unshifted
                np.exp(part, out=block)
            else:
                np.exp(np.subtract(part, part.max(1, keepdims=True), out=block), out=block)
            block *= (1 / (block @ ones))[:, None]
            if mask is not None:  # no subnormal number may come of what is masked
                block *= block > NOTHING
    return out.reshape(x.shape)


def masked(x: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Return scores [B W, H, N, N] with -100 added where `mask` [W, N, N] is true."""
    addend = np.where(mask[:, None], x.dtype.type(MASKED), x.dtype.type(0))
    return np.asarray(x.reshape(-1, len(mask), *x.shape[1:]) + addend).reshape(x.shape)


@overridable
def layer_norm(x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
    """Return `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis (Ba et al. 2016)."""
    flat = x.reshape(-1, x.shape[-1])
    out, mean = np.empty_like(flat), np.full(x.shape[-1], 1 / x.shape[-1], x.dtype)
    for rows in blocks(*flat.shape):
        part = flat[rows]
        block = np.subtract(part, (part @ mean)[:, None], out=out[rows])
        var = np.vecdot(block, block) * mean[0]
        block *= (1 / np.sqrt(var + x.dtype.type(eps)))[:, None]
        block *= weight
        block += bias
    return out.reshape(x.shape)


# GELU(x) = x/2 (1 + tanh(x Q(x^2))), with Q(x^2) = log(Phi(x) / Phi(-x)) / 2x, an even function
# that a polynomial of degree 6 in x^2 meets to 7e-8 of GELU up to |x| = 6, a least-maximum fit made
# for refvit. Beyond, x Q grows and tanh is 1. Evaluated in float32: 1.6e-7 of max(1, |x|).
GELU_Q = (0.7978842161274841, 0.03633428350934502, -3.312999790273526e-05, -5.524015632577577e-05,
          3.96910985141619e-06, -1.3344650126756556e-07, 1.8056199034690715e-09)  # fmt: skip

# erfc(z) = t exp(-z^2 + sum c_k T_k(2t - 1)) with t = 2 / (2 + z), z >= 0: the Chebyshev
# coefficients of log(erfc(z) / t) + z^2, computed with 40 digits; 6e-16 in float64.
ERFC_CHEBYSHEV = (
    -0.6513268598908547, 0.6419697923564902, 0.019476473204185836, -0.009561514786808632,
    -0.0009465953444820369, 0.00036683949785276145, 4.252332480690777e-05,
    -2.0278578112534242e-05, -1.6242900046470256e-06, 1.3036558355805232e-06,
    1.5626441722066142e-08, -8.523809591492654e-08, 6.5290544390988515e-09,
    5.059343495551469e-09, -9.91364156493033e-10, -2.273651222931836e-10,
    9.646791102015527e-11, 2.3940380830391146e-12, -6.886027526497553e-12,
    8.944879273090725e-13, 3.130921399342958e-13, -1.1270822361367252e-13,
    3.810905255189232e-16, 7.106097613609237e-15, -1.5230282014571041e-15,
    -9.457494571291254e-17, 1.210237189224273e-16, -2.816663087746774e-17,
)  # fmt: skip


def erf(x: FloatArray) -> FloatArray:
    """Return the error function, to 1e-15 in float64; float32 in, float32 out.

    >>> float(erf(np.array([1.0]))[0])
    0.8427007929497149
    """
    x = np.asarray(x)
    return _erf64(x).astype(x.dtype, copy=False)


def _erf64(x: FloatArray) -> FloatArray:
    z = np.abs(np.asarray(x, np.float64))
    t = 2.0 / (2.0 + z)
    with np.errstate(under="ignore"):
        series = np.polynomial.chebyshev.chebval(2.0 * t - 1.0, ERFC_CHEBYSHEV)
        return np.asarray(np.copysign(1.0 - t * np.exp(series - z * z), x))


@overridable
def gelu(x: FloatArray) -> FloatArray:
    """Return `x/2 * (1 + erf(x / sqrt(2)))`, the exact form (Hendrycks and Gimpel 2016)."""
    return _by_blocks(x, lambda part: np.multiply(part, np.array(0.5, x.dtype)))


def normal_cdf(x: FloatArray) -> FloatArray:
    """Return Phi(x), the normal distribution function, as `gelu` takes it: any shape.

    >>> normal_cdf(np.array([0.0, 1.0]))
    array([0.5       , 0.84134475])
    """
    return _by_blocks(x, lambda part: np.array(0.5, x.dtype))


def _by_blocks(x: FloatArray, half: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return h + h g with h = half(x) and g = 2 Phi(x) - 1."""
    flat = x.reshape(-1)
    out, scratch = np.empty_like(flat), np.empty(min(BLOCK, x.size), x.dtype)
    gate = _gate32 if x.dtype == np.float32 else _gate64
    with np.errstate(under="ignore", over="ignore"):  # a tiny x^2; a huge x: tanh is 1
        for part in blocks(flat.size, 1):
            gate(flat[part], out[part], scratch)
            h = half(flat[part])
            np.multiply(out[part], h, out[part])
            np.add(out[part], h, out[part])
    return out.reshape(x.shape)


def _gate32(x: FloatArray, out: FloatArray, scratch: FloatArray) -> None:
    first, *middle, last = (np.array(c, np.float32) for c in GELU_Q)
    square = np.multiply(x, x, scratch[: x.size])
    np.multiply(square, last, out)
    for coefficient in reversed(middle):
        np.add(out, coefficient, out)
        np.multiply(out, square, out)
    np.add(out, first, out)
    np.multiply(out, x, out)
    np.tanh(out, out)


def _gate64(x: FloatArray, out: FloatArray, scratch: FloatArray) -> None:
    out[...] = _erf64(x * np.sqrt(0.5))


@overridable
def gelu_tanh(x: FloatArray) -> FloatArray:
    """Return `x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016)."""
    dtype = x.dtype.type
    with np.errstate(under="ignore", over="ignore"):  # a tiny x^2; a huge x: tanh is 1
        inner = x * x
        inner *= dtype(0.044715)
        inner += dtype(1)
        inner *= x
        inner *= dtype(np.sqrt(2 / np.pi))
        gate = np.tanh(inner, out=inner)
        gate += dtype(1)
        gate *= dtype(0.5)
        gate *= x
    return np.asarray(gate)


@overridable
def pad(x: FloatArray, after: tuple[int, ...], axes: tuple[int, ...], fill: int = 0) -> FloatArray:
    """Append `after` zeros, or what they are to be filled with, at the end of each of `axes`.

    >>> pad(np.ones((1, 2)), (1,), (1,))
    array([[1., 1., 0.]])
    """
    if not any(after):
        return x
    out = np.full(padded_shape(x.shape, after, axes), fill, x.dtype)
    out[tuple(slice(n) for n in x.shape)] = x
    return out


@overridable
def roll(x: FloatArray, shifts: tuple[int, ...], axes: tuple[int, ...]) -> FloatArray:
    """Move values cyclically: `out[i + shift] = x[i]`, indices taken round."""
    return np.roll(x, shifts, axes) if any(shifts) else x


@overridable
def rearrange(x: FloatArray, pattern: str, /, **sizes: int) -> FloatArray:
    """Move axes as `pattern` says (einops); [b c (y i) (x j)] -> [b (y x) (c i j)] and the like."""
    return np.asarray(einops.rearrange(x, pattern, **sizes))


@overridable
def concat(parts: tuple[FloatArray, ...], axis: int) -> FloatArray:
    """Join along `axis`; a part of size 1 on another axis is repeated to the others' size."""
    return np.concatenate(broadcast_parts(parts, axis), axis=axis)


def broadcast_parts(parts: tuple[FloatArray, ...], axis: int) -> list[FloatArray]:
    """Return views of `parts` that agree on every axis but `axis`."""
    shape = concat_shape([p.shape for p in parts], axis)
    shapes = [(*shape[:axis], p.shape[axis], *shape[axis + 1 :]) for p in parts]
    return [np.broadcast_to(p, s) for p, s in zip(parts, shapes, strict=True)]


def concat_shape(shapes: list[tuple[int, ...]], axis: int) -> tuple[int, ...]:
    """Return the shape of `concat`: sizes added on `axis`, broadcast on the others."""
    outer = np.broadcast_shapes(*[(*s[:axis], 1, *s[axis + 1 :]) for s in shapes])
    return (*outer[:axis], sum(s[axis] for s in shapes), *outer[axis + 1 :])


def padded_shape(
    shape: tuple[int, ...], after: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape that `pad` gives.

    >>> padded_shape((1, 5, 7, 3), (1, 0), (1, 2))
    (1, 6, 7, 3)
    """
    more = dict(zip(axes, after, strict=True))
    return tuple(n + more.get(axis, 0) for axis, n in enumerate(shape))
