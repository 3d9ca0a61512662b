"""The gradients of NumPy's own functions, one rule each."""

from __future__ import annotations

from typing import Any

import numpy as np

from refvit.autodiff.tape import Array, getitem, unbroadcast, vjp_of


@vjp_of(getitem)
def _getitem(g: Array, out: Array, x: Array, index: Any) -> tuple[Any, ...]:
    into = np.zeros_like(x)
    np.add.at(into, index, g) if _repeats(index) else into.__setitem__(index, g)
    return into, None


def _repeats(index: Any) -> bool:
    """Fancy indices may name an element twice; slices and integers cannot."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, np.ndarray | list) for part in parts)


@vjp_of(np.add)
def _add(g: Array, out: Array, a: Any, b: Any) -> tuple[Any, ...]:
    return unbroadcast(g, a), unbroadcast(g, b)


@vjp_of(np.subtract)
def _subtract(g: Array, out: Array, a: Any, b: Any) -> tuple[Any, ...]:
    return unbroadcast(g, a), unbroadcast(-g, b)


@vjp_of(np.multiply)
def _multiply(g: Array, out: Array, a: Any, b: Any) -> tuple[Any, ...]:
    return unbroadcast(g * b, a), unbroadcast(g * a, b)


@vjp_of(np.where)
def _where(g: Array, out: Array, condition: Array, a: Any, b: Any) -> tuple[Any, ...]:
    return (
        None,
        unbroadcast(np.where(condition, g, 0), a),
        unbroadcast(np.where(condition, 0, g), b),
    )


@vjp_of(np.true_divide)
def _divide(g: Array, out: Array, a: Any, b: Any) -> tuple[Any, ...]:
    return unbroadcast(g / b, a), unbroadcast(-g * out / b, b)


@vjp_of(np.negative)
def _negative(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    return (-g,)


@vjp_of(np.exp)
def _exp(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    return (g * out,)


@vjp_of(np.log)
def _log(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    return (g / x,)


@vjp_of(np.sqrt)
def _sqrt(g: Array, out: Array, x: Array) -> tuple[Any, ...]:
    return (g * x.dtype.type(0.5) / out,)


@vjp_of(np.matmul)
def _matmul(g: Array, out: Array, a: Array, b: Array) -> tuple[Any, ...]:
    """d(AB): G B^T and A^T G, for stacks of matrices."""
    return unbroadcast(g @ b.swapaxes(-1, -2), a), unbroadcast(a.swapaxes(-1, -2) @ g, b)


@vjp_of(np.reshape)
def _reshape(g: Array, out: Array, x: Array, shape: Any) -> tuple[Any, ...]:
    return g.reshape(x.shape), None


@vjp_of(np.sum)
def _sum(
    g: Array, out: Array, x: Array, axis: Any = None, keepdims: bool = False
) -> tuple[Any, ...]:
    g = g if axis is None or keepdims else np.expand_dims(g, axis)
    return (np.broadcast_to(g, x.shape), None, None)


@vjp_of(np.mean)
def _mean(
    g: Array, out: Array, x: Array, axis: Any = None, keepdims: bool = False
) -> tuple[Any, ...]:
    count = x.dtype.type(x.size // max(1, out.size))
    return _sum(g / count, out, x, axis, keepdims)
