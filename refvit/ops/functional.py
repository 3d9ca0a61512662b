"""The float operators as plain NumPy functions, and the protocol by which `Var` overrides them.

Every function takes and returns arrays of one floating dtype. They are written for one core and
its cache: row blocks, in-place ufuncs, one GEMM for all rows. An array type that is not an
ndarray (`refvit.autodiff.Var`) is handed the call through `__array_function__` (NEP 18), exactly
as NumPy does for its own functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import einops
import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
FloatArray = NDArray[Any]

BLOCK = 1 << 14  # elements a block: 64 KB of float32, four such buffers stay in a 1 MB L2


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


def row_blocks(x: FloatArray) -> Iterator[slice]:
    """Yield slices over the rows of a 2-D array so that a block is about `BLOCK` elements."""
    rows = max(1, BLOCK // max(1, x.shape[1]))
    return (slice(i, i + rows) for i in range(0, x.shape[0], rows))


@overridable
def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """Return `x @ weight.T + bias`: [..., in], [out, in], [out] -> [..., out], as one GEMM."""
    out = x.reshape(-1, x.shape[-1]) @ weight.T
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], weight.shape[0])


MASKED = -100.0  # added to the scores of tokens that must not meet (Liu et al. 2021)
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
    out = np.empty_like(flat)
    for rows in row_blocks(flat):
        block = np.subtract(flat[rows], flat[rows].max(1, keepdims=True), out=out[rows])
        with np.errstate(under="ignore"):  # exp of a very negative score is rightly zero
            np.exp(block, out=block)
            block /= block.sum(1, keepdims=True)
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
    out = np.empty_like(flat)
    for rows in row_blocks(flat):
        block = np.subtract(flat[rows], flat[rows].mean(1, keepdims=True), out=out[rows])
        var = np.einsum("nd,nd->n", block, block) / x.dtype.type(x.shape[-1])
        block /= np.sqrt(var + x.dtype.type(eps))[:, None]
        block *= weight
        block += bias
    return out.reshape(x.shape)


# erf(z) = z P(z^2) / Q(z^2) for |z| <= 3.92, where erf reaches 1 in float32. A rational
# least-maximum fit made for refvit: 1.6e-8 in reals, 5e-7 when evaluated in float32.
ERF_P = (1.128379022871611, 0.19275648761345227, 0.05305929319703593, 0.0038679414078979595,
         0.0002874605019353861, 2.0346667395654702e-06)  # fmt: skip
ERF_Q = (1.0, 0.5041576608959891, 0.11508131612393847, 0.01517154504589856,
         0.0011880016300557191, 3.8068929324402035e-05)  # fmt: skip
ERF_END = 3.92

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
    """Return the error function; absolute error at most 6e-7 in float32 and 1e-15 in float64.

    >>> float(erf(np.array([1.0]))[0])
    0.8427007929497149
    """
    x = np.asarray(x)
    return _erf32(x, np.empty_like(x), np.empty_like(x)) if x.dtype == np.float32 else _erf64(x)


def _erf32(x: FloatArray, s: FloatArray, q: FloatArray) -> FloatArray:
    """The float32 fit; `s` and `q` are scratch of the shape of `x`, and a new array is returned."""
    z = np.clip(x, np.float32(-ERF_END), np.float32(ERF_END))
    with np.errstate(under="ignore"):  # powers of a tiny z are rightly zero
        np.multiply(z, z, out=s)
        p = np.full_like(s, np.float32(ERF_P[-1]))
        q.fill(np.float32(ERF_Q[-1]))
        for a, b in zip(ERF_P[-2::-1], ERF_Q[-2::-1], strict=True):
            p *= s
            p += np.float32(a)
            q *= s
            q += np.float32(b)
        p *= z
        p /= q
    return p


def _erf64(x: FloatArray) -> FloatArray:
    z = np.abs(np.asarray(x, np.float64))
    t = 2.0 / (2.0 + z)
    with np.errstate(under="ignore"):
        series = np.polynomial.chebyshev.chebval(2.0 * t - 1.0, ERFC_CHEBYSHEV)
        return np.asarray(np.copysign(1.0 - t * np.exp(series - z * z), x))


@overridable
def gelu(x: FloatArray) -> FloatArray:
    """Return `x/2 * (1 + erf(x / sqrt(2)))`, the exact form (Hendrycks and Gimpel 2016)."""
    flat = x.reshape(-1)
    out = np.empty_like(flat)
    half, root = x.dtype.type(0.5), x.dtype.type(np.sqrt(0.5))
    scratch = np.empty((2, min(BLOCK, flat.size)), x.dtype)
    for i in range(0, flat.size, BLOCK):
        part = flat[i : i + BLOCK]
        if x.dtype == np.float32:
            cdf = _erf32(part * root, scratch[0, : part.size], scratch[1, : part.size])
        else:
            cdf = _erf64(part * root)
        cdf += x.dtype.type(1)
        cdf *= half
        np.multiply(part, cdf, out=out[i : i + BLOCK])
    return out.reshape(x.shape)


@overridable
def gelu_tanh(x: FloatArray) -> FloatArray:
    """Return `x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016)."""
    dtype = x.dtype.type
    with np.errstate(under="ignore"):
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
def pad(x: FloatArray, after: tuple[int, ...], axes: tuple[int, ...]) -> FloatArray:
    """Append `after` zeros at the end of each of `axes`.

    >>> pad(np.ones((1, 2)), (1,), (1,))
    array([[1., 1., 0.]])
    """
    if not any(after):
        return x
    out = np.zeros(padded_shape(x.shape, after, axes), x.dtype)
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
