"""The operators that models are written in, and what each one means.

`Ops[T]` is the whole interface between a model and whoever runs it: `FloatOps` (T is an array),
`IntegerOps` (T is a `QTensor`), `ShapeOps` (T is a `Shape`). The float meaning below is the
definition. The quantized meaning of every operator is
`quantize(op(dequantize(inputs)), site)`: the result is rounded to the grid of its site once, and
an engine states by how much it may differ.

Axis letters: B batch, N tokens, D width, H heads, d head width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from refvit.params import Params

T = TypeVar("T")


class Ops(Protocol[T]):
    """What a model may ask for. A *site* is the unique name of one operator of one forward.

    Operators with parameters take a `Params` view and use its path as their site; the others are
    given one. `rearrange` and `select` move values and have no site: they keep that of their input.
    """

    def input(self, x: Any, *, site: str) -> T:
        """The image batch, [B, C, H, W] normalised floats, enters; in the engine it is coded."""

    def output(self, x: T, *, site: str) -> Any:
        """The logits [B, classes] leave: an array, or int32 codes at one common scale."""

    def param(self, p: Params, name: str) -> T:
        """The learned tensor `p.name` becomes a value of the stream (class token, positions)."""

    def linear(self, x: T, p: Params) -> T:
        """`x @ p.weight.T + p.bias`: [..., in], [out, in], [out] or absent -> [..., out]."""

    def matmul(self, a: T, b: T, *, site: str, scale: float = 1.0) -> T:
        """`scale * (a @ b)` of two activations: [..., M, K] @ [..., K, N] -> [..., M, N]."""

    def add(self, a: T, b: T, *, site: str) -> T:
        """`a + b`, shapes broadcast: the residual connections and the position embedding."""

    def gelu(self, x: T, *, site: str) -> T:
        """`x * Phi(x)` elementwise, Phi the normal distribution function (the erf form)."""

    def softmax(self, x: T, *, site: str) -> T:
        """`exp(x) / sum(exp(x))` over the last axis; codes are unsigned in the engine."""

    def layer_norm(self, x: T, p: Params, *, eps: float) -> T:
        """`(x - mean) / sqrt(var + eps) * p.weight + p.bias`, over the last axis, biased var."""

    def rearrange(self, x: T, pattern: str, /, **sizes: int) -> T:
        """Move axes by an einops pattern, `"b n (h d) -> b h n d"` with `h=4`; values stay."""

    def select(self, x: T, index: int, *, axis: int) -> T:
        """`x[..., index, ...]` on `axis`, which disappears: the class token of [B, N, D]."""

    def concat(self, parts: Sequence[T], *, axis: int, site: str) -> T:
        """Join along `axis`, repeating parts of size 1 on other axes; all come to one scale."""
