"""What a model looked at: its attention, followed through all blocks.

Abnar and Zuidema 2020, section 3: a block's attention only says how it mixes tokens that were
mixed before. Rollout multiplies the mixings, each halved with the residual connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.model import Model


def attention_weights(model: Model, pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the softmax weights of every block, the first one first: [B, heads, N, N] each, or of
    a Swin [B windows, heads, N, N], N being the tokens of a window."""
    trace = model.trace(pixels)
    return [value for site, value in trace.items() if site.endswith(".attn.softmax")]


def attention_rollout(weights: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return how much of each token before the first block is in each behind the last: [B, N, N].

    `weights` [B, heads, N, N] are those of every block; heads are averaged. Rows sum to 1. Raises
    ValueError if there are none, or if their shapes differ, as those of a Swin's stages do.

    >>> attention_rollout([np.array([[[[0.0, 1.0], [0.0, 1.0]]]])] * 2)
    array([[[0.25, 0.75],
            [0.  , 1.  ]]])
    """
    if len({block.shape for block in weights}) != 1:
        shapes = sorted({block.shape for block in weights})
        raise ValueError(f"rollout needs weights of one shape [B, heads, N, N], got {shapes}")
    tokens = weights[0].shape[-1]
    found: NDArray[np.float64] = np.eye(tokens)[None]
    for block in weights:
        mixing = (block.mean(axis=1, dtype=np.float64) + np.eye(tokens)) / 2
        found = mixing @ found
    return found
