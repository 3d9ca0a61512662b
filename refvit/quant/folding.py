"""Folding: what a LayerNorm does to a channel last, the linears behind it can undo.

`y = normalised * weight + bias` is affine in every channel, and a linear that reads y is affine in
y. So `(y - offset) / scale` can leave the norm, and every reader take `scale` into its columns and
`offset` into its bias: the float function is the same, and the value between is easier or harder
to quantize. Outlier injection, SmoothQuant and RepQ-ViT are this one move with another scale and
offset. Which norm feeds which linears is read from the graph of the model; no layer is known here
by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.matching import expects
from refvit.model import Model, batched
from refvit.models import workload_records
from refvit.ops.shape_ops import Record
from refvit.params import Params

FloatArray = NDArray[Any]
BATCH = 32


@dataclass(frozen=True)
class Fold:
    """A LayerNorm of `width` channels, and the linears that read it, or its mean over tokens.

    `shifts` says whether they can take an offset: each has a bias, and none reads zeros that were
    appended to the tokens (where Swin's windows do not fill its grid), for those stay zeros
    whatever the norm does.
    """

    norm: str
    linears: tuple[str, ...]
    width: int
    shifts: bool


def folds(model: Model) -> list[Fold]:
    """Return every LayerNorm that nothing but linears read, in the order of the forward.

    >>> import refvit
    >>> [(f.norm, len(f.linears)) for f in folds(refvit.random("nano_vit"))][-3:]
    [('blocks.3.norm1', 3), ('blocks.3.norm2', 1), ('norm', 1)]
    """
    records, found = workload_records(model.config), []
    for norm in records:
        if norm.op == "layer_norm":
            read_by = list(readers(norm.site, records))
            if all(reads_channels(reader, norm) for reader in read_by):
                sites = tuple(reader.site for reader in read_by)
                shifts = all(model.params[site].get("bias") is not None for site in sites)
                shifts = shifts and not any(reads_padding(reader, norm) for reader in read_by)
                found.append(Fold(norm.site, sites, norm.shape[-1], shifts))
    return found


def readers(site: str, records: Sequence[Record]) -> Iterator[Record]:
    """Yield the operators that read the value of `site`, wherever it was moved in between.

    A mean over tokens is looked through: it commutes with what is done to a channel.
    """
    for record in records:
        if site in record.inputs:
            yield from readers(record.site, records) if record.op == "mean" else [record]


def reads_channels(reader: Record, value: Record) -> bool:
    """Whether `reader` is a linear with a column for every channel, the last axis, of `value`."""
    return reader.op == "linear" and reader.shapes[0][-1] == value.shape[-1]


def reads_padding(reader: Record, value: Record) -> bool:
    """Whether `reader` sees more tokens than `value` has: zeros were appended."""
    return math.prod(reader.shapes[0][:-1]) > math.prod(value.shape[:-1])


def rewrite(model: Model, choose: Callable[[Fold], tuple[FloatArray, FloatArray]]) -> Model:
    """Return `model` with every fold moved by the scale and offset [C] that `choose` gives it."""
    if not isinstance(model, Model):
        raise TypeError(f"a float model is rewritten, before it is quantized; got {model!r:.60}")
    tensors = dict(model.params.items())
    for fold in folds(model):
        tensors |= moved(model.params, fold, *choose(fold))
    return replace(model, params=Params(tensors))


def moved(p: Params, fold: Fold, scale: FloatArray, offset: FloatArray) -> dict[str, FloatArray]:
    """Return the tensors with which the norm of `fold` gives `(y - offset) / scale`.

    weight / scale and (bias - offset) / scale in the norm, W * scale by columns and
    bias + W offset in each linear; in float64, then in the dtype of each tensor. No tensor is new,
    so that the result is a model of the same configuration.
    """
    assert fold.shifts or not np.any(offset), f"{fold.norm}: its readers take no offset"
    norm = p[fold.norm]
    new = {
        norm.at("weight"): like(norm.weight, norm.weight / scale),
        norm.at("bias"): like(norm.bias, (norm.bias - offset) / scale),
    }
    for linear in (p[site] for site in fold.linears):
        weight = linear.weight.astype(np.float64)
        new[linear.at("weight")] = like(linear.weight, weight * scale)
        if np.any(offset):
            new[linear.at("bias")] = like(linear.bias, linear.bias + weight @ offset)
    return new


def like(tensor: FloatArray, values: FloatArray) -> FloatArray:
    """Return `values` in the dtype of `tensor`."""
    return values.astype(tensor.dtype, copy=False)


class ChannelRanges:
    """A tap that keeps the least and greatest value of every channel, the last axis, at `sites`.

    `ends[site]` is [2, C], however many images there are.

    >>> seen = ChannelRanges({"x"})
    >>> _ = seen("x", np.array([[1.0, -3.0]])), seen("x", np.array([[2.0, -5.0], [0.0, 0.0]]))
    >>> seen.ends["x"]
    array([[ 0., -5.],
           [ 2.,  0.]])
    """

    def __init__(self, sites: Collection[str]) -> None:
        self.sites = frozenset(sites)
        self.ends: dict[str, FloatArray] = {}

    def __call__(self, site: str, value: Any) -> Any:
        if site in self.sites:
            rows = value.reshape(-1, value.shape[-1])
            lo, hi = self.ends.get(site, rows[:1].repeat(2, 0))
            self.ends[site] = np.stack([np.minimum(lo, rows.min(0)), np.maximum(hi, rows.max(0))])
        return value


def channel_ranges(model: Model, pixels: NDArray[Any]) -> dict[str, FloatArray]:
    """Return, by norm, the range [2, C] of every channel that can be folded, on [n, C, H, W]."""
    expects(model, Model, "channel_ranges")
    seen = ChannelRanges({fold.norm for fold in folds(model)})
    for batch in batched(model.checked(pixels), BATCH):
        model(batch, tap=seen)
    return {site: ends.astype(np.float64) for site, ends in seen.ends.items()}
