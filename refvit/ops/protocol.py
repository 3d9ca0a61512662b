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

import numpy as np
from numpy.typing import NDArray

from refvit.params import Params

T = TypeVar("T")
Index = int | slice | NDArray[np.intp]
Mask = NDArray[np.bool_]
GELU_FORMS = ("erf", "tanh")


class Ops(Protocol[T]):
    """What a model may ask for. A *site* is the unique name of one operator of one forward.

    Operators with parameters take a `Params` view and use its path as their site; the others are
    given one. `rearrange`, `select`, `roll` and `pad` move values and have no site: they keep that
    of their input.
    """

    def input(self, x: Any, *, site: str) -> T:
        """The image batch, [B, C, H, W] normalised floats, enters; in the engine it is coded."""

    def output(self, x: T, *, site: str) -> Any:
        """The logits [B, classes] leave: an array, or int32 codes at one common scale."""

    def param(self, p: Params, name: str) -> T:
        """The learned tensor `p.name` becomes a value of the stream (class token, positions)."""

    def linear(self, x: T, p: Params) -> T:
        """`(x @ p.weight.T + p.bias) * p.gain`: [..., in], [out, in] -> [..., out].

        `bias` and `gain` are [out] or absent. The gain is LayerScale (Touvron et al. 2021b): a
        factor per channel, which an integer engine folds into the one it has anyway.
        """

    def matmul(self, a: T, b: T, *, site: str, scale: float = 1.0) -> T:
        """`scale * (a @ b)` of two activations: [..., M, K] @ [..., K, N] -> [..., M, N]."""

    def add(self, a: T, b: T, *, site: str) -> T:
        """`a + b`, shapes broadcast: the residual connections and the position embedding."""

    def gelu(self, x: T, *, site: str, form: str = "erf") -> T:
        """`x * Phi(x)` elementwise, Phi the normal distribution function; or its tanh form."""

    def softmax(self, x: T, *, site: str, mask: Mask | None = None) -> T:
        """`exp(x) / sum(exp(x))` over the last axis; codes are unsigned in the engine.

        `mask` [W, N, N] goes with scores [B W, H, N, N] of W windows an image: where it is true,
        -100 is added to the score (Liu et al. 2021) and the engine's probability is exactly 0.
        """

    def layer_norm(self, x: T, p: Params, *, eps: float) -> T:
        """`(x - mean) / sqrt(var + eps) * p.weight + p.bias`, over the last axis, biased var."""

    def mean(self, x: T, *, axis: int, site: str) -> T:
        """The mean over `axis`, which disappears: pooled tokens, [B, N, D] -> [B, D]."""

    def rearrange(self, x: T, pattern: str, /, **sizes: int) -> T:
        """Move axes by an einops pattern, `"b n (h d) -> b h n d"` with `h=4`; values stay."""

    def select(self, x: T, index: Index, *, axis: int) -> T:
        """`x[..., index, ...]` on `axis`: an integer takes one and drops the axis (the class token
        of [B, N, D]), a slice keeps a part, an array of integers looks up (a table of biases)."""

    def roll(self, x: T, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> T:
        """Move values cyclically by `shifts` along `axes`: [B, Y, X, D] -> [B, Y, X, D]."""

    def pad(self, x: T, after: tuple[int, ...], *, axes: tuple[int, ...]) -> T:
        """Append `after` zeros at the end of each of `axes`; the engine's zero is code 0."""

    def concat(self, parts: Sequence[T], *, axis: int, site: str) -> T:
        """Join along `axis`, repeating parts of size 1 on other axes; all come to one scale."""
