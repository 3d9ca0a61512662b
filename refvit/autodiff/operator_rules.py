"""The gradients of refvit's operators, each under the formula it comes from.

They register themselves with the tape when `refvit.autodiff` is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refvit.autodiff.tape import Array, unbroadcast, vjp_of
from refvit.ops import functional as F
from refvit.ops.shape_ops import axis_sizes


@vjp_of(F.linear)
def _linear(g: Array, out: Array, x: Array, weight: Array, bias: Any = None) -> tuple[Any, ...]:
    rows = g.reshape(-1, g.shape[-1])
    db = None if bias is None else rows.sum(0)
    return (rows @ weight).reshape(x.shape), rows.T @ x.reshape(-1, x.shape[-1]), db


@vjp_of(F.softmax)
def _softmax(g: Array, out: Array, x: Array, mask: Any = None) -> tuple[Any, ...]:
    """y * (g - sum(g * y)): the Jacobian is diag(y) - y y^T; a mask only moves x."""
    dx = g * out
    dx -= out * dx.sum(-1, keepdims=True)
    return dx, None


@vjp_of(F.layer_norm)
def _layer_norm(g: Array, out: Array, x: Array, weight: Array, bias: Array, eps: float) -> Any:
    """With n = (x - mean) / std: dx = (h - mean(h) - n mean(h n)) / std, h = g * weight."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + x.dtype.type(eps))
    n = centred / deviation
    h = g * weight
    dx = h - h.mean(-1, keepdims=True)
    dx -= n * (h * n).mean(-1, keepdims=True)
    return dx / deviation, unbroadcast(g * n, weight), unbroadcast(g, bias), None


@vjp_of(F.gelu)
def _gelu(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    """Phi(x) + x phi(x); Phi(x) is out / x away from zero, so it is computed afresh."""
    slope = np.exp(x.dtype.type(-0.5) * x * x)
    slope *= x.dtype.type(1 / np.sqrt(2 * np.pi))
    slope *= x
    slope += F.normal_cdf(x)
    slope *= g
    return (slope,)


@vjp_of(F.gelu_tanh)
def _gelu_tanh(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    """With t = tanh(u): (1 + t) / 2 + x (1 - t^2) u' / 2, u' = sqrt(2/pi) (1 + 3 c x^2)."""
    root = x.dtype.type(np.sqrt(2 / np.pi))
    square = x * x
    t = np.tanh(root * x * (1 + x.dtype.type(0.044715) * square))
    slope = root * (1 + x.dtype.type(3 * 0.044715) * square)
    return (g * x.dtype.type(0.5) * (1 + t + x * (1 - t * t) * slope),)


@vjp_of(F.roll)
def _roll(g: Array, out: Array, x: Array, shifts: Any, axes: Any) -> tuple[Any, ...]:
    return np.roll(g, tuple(-shift for shift in shifts), axes), None, None


@vjp_of(F.pad)
def _pad(g: Array, out: Array, x: Array, after: Any, axes: Any) -> tuple[Any, ...]:
    return g[tuple(slice(n) for n in x.shape)], None, None


@vjp_of(F.rearrange)
def _rearrange(g: Array, out: Array, x: Array, pattern: str, /, **sizes: int) -> tuple[Any, ...]:
    """The way back is the pattern with its sides swapped."""
    left, right = pattern.split("->")
    return F.rearrange(g, f"{right} -> {left}", **axis_sizes(x.shape, pattern, sizes)), None


@vjp_of(F.concat)
def _concat(g: Array, out: Array, parts: tuple[Array, ...], axis: int) -> tuple[Any, ...]:
    ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
    pieces = np.split(g, ends, axis=axis)
    return [unbroadcast(piece, part) for piece, part in zip(pieces, parts, strict=True)], None
