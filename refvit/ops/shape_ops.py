"""`ShapeOps`: runs a model on shapes alone and writes down its workload, operator by operator.

No weights are needed: the parameters are `Shape`s too. `records` is what the roofline, the
accelerator, the calibration graph and `refvit info` read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refvit.ops.functional import concat_shape, padded_shape
from refvit.ops.protocol import Index, Mask
from refvit.params import Params


@dataclass(frozen=True)
class Shape:
    """The shape of a value and the site that produced it ("" for a bare parameter)."""

    shape: tuple[int, ...]
    site: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Record:
    """One operator of one forward.

    `inputs` are the sites of the activations read, `shapes` their shapes and `shape` that of the
    result; `params` counts the parameters read. For `linear` and `matmul`, `gemm` is (M, K, N) of
    each of `count` equal products; for the others it is None.
    """

    op: str
    site: str
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    params: int = 0
    gemm: tuple[int, int, int] | None = None
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the products of this operator (0 where there is none)."""
        return 0 if self.gemm is None else math.prod(self.gemm) * self.count


class ShapeOps:
    """Shapes in, shapes out; one `Record` is appended to `records` for each operator."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def _write(
        self, op: str, site: str, inputs: Sequence[Shape], shape: tuple[int, ...], **more: Any
    ) -> Shape:
        sites, shapes = tuple(x.site for x in inputs), tuple(x.shape for x in inputs)
        self.records.append(Record(op, site, sites, shapes, shape, **more))
        return Shape(shape, site)

    def input(self, x: Any, *, site: str) -> Shape:
        return self._write("input", site, [], tuple(x.shape))

    def output(self, x: Shape, *, site: str) -> Shape:
        return self._write("output", site, [x], x.shape)

    def param(self, p: Params, name: str) -> Shape:
        shape: Shape = getattr(p, name)
        return self._write("param", p.at(name), [], shape.shape, params=shape.size)

    def linear(self, x: Shape, p: Params) -> Shape:
        outs, ins = p.weight.shape
        _require(x.shape[-1] == ins, f"{p.path}: weight is [{outs}, {ins}], input is {x.shape}")
        vectors = [v for v in (p.get("bias"), p.get("gain")) if v is not None]
        params = p.weight.size + sum(v.size for v in vectors)
        gemm = (math.prod(x.shape[:-1]), ins, outs)
        return self._write("linear", p.path, [x], (*x.shape[:-1], outs), params=params, gemm=gemm)

    def matmul(self, a: Shape, b: Shape, *, site: str, scale: float = 1.0) -> Shape:
        (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
        _require(k == k2, f"{site}: {a.shape} @ {b.shape} do not agree on the inner axis")
        outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self._write(
            "matmul", site, [a, b], (*outer, m, n), gemm=(m, k, n), count=math.prod(outer)
        )

    def add(self, a: Shape, b: Shape, *, site: str) -> Shape:
        return self._write("add", site, [a, b], np.broadcast_shapes(a.shape, b.shape))

    def gelu(self, x: Shape, *, site: str, form: str = "erf") -> Shape:
        return self._write("gelu", site, [x], x.shape)

    def softmax(self, x: Shape, *, site: str, mask: Mask | None = None) -> Shape:
        return self._write("softmax", site, [x], x.shape)

    def layer_norm(self, x: Shape, p: Params, *, eps: float) -> Shape:
        params = p.weight.size + p.bias.size
        return self._write("layer_norm", p.path, [x], x.shape, params=params)

    def mean(self, x: Shape, *, axis: int, site: str) -> Shape:
        return self._write("mean", site, [x], x.shape[:axis] + x.shape[axis + 1 :])

    def rearrange(self, x: Shape, pattern: str, /, **sizes: int) -> Shape:
        return Shape(rearranged_shape(x.shape, pattern, sizes), x.site)

    def select(self, x: Shape, index: Index, *, axis: int) -> Shape:
        return Shape(selected_shape(x.shape, index, axis), x.site)

    def roll(self, x: Shape, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Shape:
        return x

    def pad(self, x: Shape, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Shape:
        return Shape(padded_shape(x.shape, after, axes), x.site)

    def concat(self, parts: Sequence[Shape], *, axis: int, site: str) -> Shape:
        return self._write("concat", site, parts, concat_shape([p.shape for p in parts], axis))


def selected_shape(shape: tuple[int, ...], index: Index, axis: int) -> tuple[int, ...]:
    """Return the shape that `select` gives.

    >>> selected_shape((2, 5, 3), slice(0, 4), 1), selected_shape((2, 5, 3), 0, 1)
    ((2, 4, 3), (2, 3))
    """
    size = shape[axis]
    if isinstance(index, slice):
        kept: tuple[int, ...] = (len(range(size)[index]),)
    elif isinstance(index, int):
        _require(-size <= index < size, f"index {index} of axis {axis} in shape {shape}")
        kept = ()
    else:
        kept = index.shape
    return shape[:axis] + kept + shape[axis + 1 :]


def _require(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)


def pattern_axes(side: str) -> list[list[str]]:
    """Split one side of an einops pattern into its axes, each a list of elementary names.

    >>> pattern_axes("b (y i) c")
    [['b'], ['y', 'i'], ['c']]
    """
    axes: list[list[str]] = []
    inside = False
    for token in side.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            axes.append([])
        elif token != ")" and inside:
            axes[-1].append(token)
        elif token != ")":
            axes.append([token])
        inside = token == "(" or (inside and token != ")")
    return axes


def axis_sizes(shape: tuple[int, ...], pattern: str, sizes: dict[str, int]) -> dict[str, int]:
    """Return the size of every elementary axis of `pattern` for an input of `shape`.

    >>> axis_sizes((2, 12), "b (h d) -> b h d", {"h": 3})
    {'h': 3, 'b': 2, 'd': 4}
    """
    left = pattern_axes(pattern.split("->")[0])
    _require(len(left) == len(shape), f"pattern {pattern!r} names {len(left)} axes, got {shape}")
    known = dict(sizes)
    for names, size in zip(left, shape, strict=True):
        unknown = [name for name in names if name not in known]
        given = math.prod(known[name] for name in names if name in known)
        _require(
            len(unknown) <= 1 and size % given == 0 and (unknown != [] or size == given),
            f"pattern {pattern!r} with {sizes} does not fit shape {shape}",
        )
        known.update({name: size // given for name in unknown})
    return known


def rearranged_shape(
    shape: tuple[int, ...], pattern: str, sizes: dict[str, int]
) -> tuple[int, ...]:
    """Return the shape that `rearrange(x, pattern, **sizes)` gives for an `x` of `shape`."""
    known = axis_sizes(shape, pattern, sizes)
    right = pattern_axes(pattern.split("->")[1])
    return tuple(math.prod(known[name] for name in names) for names in right)
