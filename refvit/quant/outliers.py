"""Outliers: a few channels of a LayerNorm that are far larger than the others, in and out.

One grid for a whole tensor covers its largest channel, and the others share what codes are left.
Large ViTs have such channels (Du, Gong and Chu, section II); a small trained one gets them from
`inject_outliers`, with its accuracy in float as before. `smooth` moves them into the weights.
`stretch_queries` makes rows of weights unequal instead, which scales of rows take back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.matching import expects
from refvit.model import Model
from refvit.params import Params
from refvit.quant.folding import Fold, channel_ranges, rewrite

FloatArray = NDArray[Any]
FLOOR = 1e-5  # of the largest weight behind a norm: columns below count as this much


def inject_outliers(model: Model, factor: float, channels: int = 3, seed: int = 0) -> Model:
    """Return `model` with `channels` channels of every LayerNorm that only linears read, drawn by
    `seed`, `factor` times as large, and those columns of the linears as much smaller.

    The float function is unchanged; with a power of two, of every value behind the linears too.
    Raises ValueError for a factor that is not positive or more channels than a norm has.

    >>> import refvit
    >>> model = refvit.random("nano_vit")
    >>> worse = inject_outliers(model, factor=64)
    >>> np.unique(worse.params.blocks[0].norm1.weight)
    array([ 1., 64.], dtype=float32)
    """
    if not 0 < factor < np.inf:
        raise ValueError(f"a factor is positive and finite; got {factor}")
    rng = np.random.default_rng(seed)

    def choose(fold: Fold) -> tuple[FloatArray, FloatArray]:
        if not 0 <= channels <= fold.width:
            raise ValueError(f"{fold.norm} has {fold.width} channels; asked for {channels}")
        scale = np.ones(fold.width)
        scale[rng.choice(fold.width, channels, replace=False)] = 1 / factor
        return scale, np.zeros(fold.width)

    worse = rewrite(model, choose)
    return replace(worse, source=f"{model.source}, outliers x {factor:g}")  # results tell it apart


def stretch_queries(model: Model, factor: float, rows: int = 3, seed: int = 0) -> Model:
    """Return `model` with `rows` rows of every query projection, drawn by `seed`, `factor` times as
    large, and the same rows of the key projection as much smaller.

    A score sums products of a query's channel with the same channel of a key, so the float function
    is unchanged; with a power of two, and no overflow, every score is the same float. Raises
    ValueError for a factor that is not positive, more rows than there are, or a model that
    normalises queries and keys.

    >>> import refvit
    >>> model = refvit.random("nano_vit")
    >>> worse = stretch_queries(model, factor=64)
    >>> np.unique(worse.params.blocks[0].attn.q.weight / model.params.blocks[0].attn.q.weight)
    array([ 1., 64.], dtype=float32)
    """
    expects(model, Model, "stretch_queries")
    if not 0 < factor < np.inf:
        raise ValueError(f"a factor is positive and finite; got {factor}")
    if getattr(model.config, "qk_norm", False):
        raise ValueError("queries and keys that are normalised cannot be stretched")
    rng, tensors = np.random.default_rng(seed), dict(model.params.items())
    for query in [name.removesuffix(".weight") for name in tensors if ".q.weight" in name]:
        width = len(tensors[f"{query}.weight"])
        if not 0 <= rows <= width:
            raise ValueError(f"{query} has {width} rows; asked for {rows}")
        chosen = rng.choice(width, rows, replace=False)
        for site, by in ((query, factor), (f"{query.removesuffix('.q')}.k", 1 / factor)):
            for name in (f"{site}.weight", f"{site}.bias"):
                if name in tensors:
                    tensors[name] = scaled_rows(tensors[name], chosen, by)
    return replace(model, params=Params(tensors), source=f"{model.source}, queries x {factor:g}")


def scaled_rows(tensor: FloatArray, rows: NDArray[Any], by: float) -> FloatArray:
    """Return a copy of a tensor whose `rows` along the first axis are multiplied."""
    copy = tensor.copy()
    copy[rows] *= by
    return copy


def smooth(model: Model, pixels: NDArray[Any], alpha: float = 0.5) -> Model:
    """Return `model` with the difficulty of its activations moved, in part, into its weights.

    `s_j = max|X_j|**alpha / max|W_j|**(1 - alpha)` of every channel j, over calibration pixels
    [n, C, H, W] and the columns of all linears that read it: Xiao et al. 2023, equation 4. At
    alpha 0.5 both end with the same largest value, sqrt(max|X_j| max|W_j|). The float function is
    unchanged. The released code raises any s below 1e-5 to it, and divides the norm by it: a
    channel that no calibration image excited becomes 100,000 times as large for the first that
    does. Here such a channel keeps s = 1, and the floor for columns of zeros is relative.
    """
    expects(model, Model, "smooth")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share from 0 to 1; got {alpha}")
    ends = channel_ranges(model, pixels)

    def choose(fold: Fold) -> tuple[FloatArray, FloatArray]:
        columns = [np.abs(model.params[site].weight).max(0) for site in fold.linears]
        largest = np.abs(ends[fold.norm]).max(0)
        return smoothing(largest, np.max(columns, 0), alpha), np.zeros(fold.width)

    return rewrite(model, choose)


def smoothing(activations: FloatArray, weights: FloatArray, alpha: float) -> FloatArray:
    """Return the scale [C] by which channels of those largest values are divided.

    >>> smoothing(np.array([64.0, 1.0, 0.0]), np.array([0.25, 1.0, 1.0]), 0.5)
    array([16.,  1.,  1.])
    """
    weights = np.maximum(weights.astype(np.float64), FLOOR * (weights.max() or 1.0))
    living = activations > 0
    safe = np.where(living, activations, 1.0)
    return np.where(living, safe**alpha / weights ** (1 - alpha), 1.0)
