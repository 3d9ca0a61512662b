"""`Var`: an array that remembers, and gradients by walking its memory backwards.

A `Var` wraps an ndarray and answers NumPy's own protocols: `__array_ufunc__` for `+`, `@`,
`np.exp`, and `__array_function__` for `np.sum`, `np.where` and refvit's operators. So the model
code, the taps and the losses that run on arrays run on `Var`s unchanged. Each function has one
rule, its vector-Jacobian product `rule(g, out, *args, **kwargs) -> gradient per argument`;
a function without a rule is refused by name. The method is reverse accumulation (Griewank and
Walther 2008, section 3.2) on a tape that is freed as it unwinds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Array = NDArray[Any]
Rule = Callable[..., tuple[Any, ...]]
RULES: dict[Any, Rule] = {}
_order = itertools.count()


def _spent(*_: Any, **__: Any) -> tuple[Any, ...]:
    raise ValueError(
        "this part of the tape was unwound by an earlier backward; run it forward again"
    )


SPENT: tuple[Rule, tuple[Any, ...], dict[str, Any]] = (_spent, (), {})


def vjp_of(*functions: Any) -> Callable[[Rule], Rule]:
    """Register the decorated rule for `functions`: one gradient (or None) per argument."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


class Var(NDArrayOperatorsMixin):
    """An array with a gradient; `grad` is filled by `backward` for leaves.

    >>> x = Var(np.array([1.0, 2.0]))
    >>> backward(np.sum(x * x))
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = ("_call", "_order", "grad", "value")

    def __init__(
        self, value: Any, call: tuple[Rule, tuple[Any, ...], dict[str, Any]] | None = None
    ):
        self.value: Array = np.asarray(value)
        self.grad: Array | None = None
        self._call = call
        self._order = next(_order)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or "out" in kwargs:
            raise TypeError(f"Var differentiates {ufunc.__name__}(...) only, not {method} or out=")
        return _apply(ufunc, args, kwargs)

    def __array_function__(self, fn: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _apply(fn, args, kwargs)

    def __getitem__(self, index: Any) -> Var:
        return _apply(getitem, (self, index), {})

    def reshape(self, *shape: int) -> Var:
        return _apply(np.reshape, (self, shape), {})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    def __repr__(self) -> str:
        return f"Var({self.value!r})"


def value_of(x: Any) -> Any:
    """Return the plain array of `x`, or `x` itself; tuples and lists elementwise."""
    if isinstance(x, tuple | list):
        return type(x)(value_of(part) for part in x)
    return x.value if isinstance(x, Var) else x


def _apply(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Var:
    if fn not in RULES:
        name = getattr(fn, "__name__", repr(fn))
        raise TypeError(f"no gradient rule for {name!r}: register one with refvit.autodiff.vjp_of")
    return Var(fn(*value_of(args), **kwargs), (RULES[fn], args, kwargs))


def backward(loss: Var) -> None:
    """Add d loss / d leaf to the `grad` of every leaf `Var`; `loss` has one element.

    Interior nodes are visited newest first, and forget their inputs as soon as they are done.
    Raises ValueError if `loss` is not scalar.
    """
    if loss.value.size != 1:
        raise ValueError(f"backward starts from one number; got shape {loss.shape}")
    gradients = {id(loss): np.ones_like(loss.value)}
    queue = [(-loss._order, loss)]
    while queue:
        _, node = heapq.heappop(queue)
        g = gradients.pop(id(node))
        if node._call is None:
            node.grad = g if node.grad is None else node.grad + g
            continue
        rule, args, kwargs = node._call
        node._call = SPENT
        with np.errstate(under="ignore"):  # of nearly nothing, nothing
            parts = rule(g, node.value, *value_of(args), **kwargs)
        for var, part in _pairs(args, parts):
            if id(var) in gradients:
                gradients[id(var)] = gradients[id(var)] + part
            else:
                gradients[id(var)] = part
                heapq.heappush(queue, (-var._order, var))


def value_and_gradients(
    loss: Callable[[Mapping[str, Any]], Any], tensors: Mapping[str, Array]
) -> tuple[float, dict[str, Array]]:
    """Return `loss(tensors)`, one number, and its gradient by every tensor that it depends on.

    >>> value_and_gradients(lambda t: np.sum(t["x"] * t["x"]), {"x": np.array([1.0, 3.0])})
    (10.0, {'x': array([2., 6.])})
    """
    leaves = {name: Var(tensor) for name, tensor in tensors.items()}
    found = loss(leaves)
    backward(found)
    grads = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return float(found.value), grads


def _pairs(args: Iterable[Any], parts: Iterable[Any]) -> Iterable[tuple[Var, Array]]:
    for arg, part in zip(args, parts, strict=False):
        if isinstance(arg, tuple | list) and part is not None:
            yield from _pairs(arg, part)
        elif isinstance(arg, Var) and part is not None:
            yield arg, part


def unbroadcast(g: Array, like: Any) -> Array:
    """Sum `g` over the axes along which `like` was broadcast, back to the shape of `like`."""
    shape = np.shape(like)
    g = g.sum(axis=tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=axes, keepdims=True) if axes else g


def getitem(x: Array, index: Any) -> Array:
    """`x[index]`, as a function that can have a rule."""
    return np.asarray(x[index])
