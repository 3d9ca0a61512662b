"""AdamW with warm-up and cosine decay, and clipping by global norm; a step returns a new state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Return the learning rate of `step` (0-based): linear to `peak`, then half a cosine to 0.

    >>> [round(warmup_cosine(s, 10, 2, 1.0), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def global_norm(grads: Arrays) -> float:
    """Return the joint Euclidean norm of all gradients: no finite number if one of them is none."""
    return math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))


def clip_by_global_norm(grads: Arrays, limit: float) -> tuple[Arrays, float]:
    """Scale all gradients so that their joint Euclidean norm is at most `limit`; return it too."""
    norm = global_norm(grads)
    scale = np.float32(min(1.0, limit / (norm + 1e-12)))
    return {name: g * scale for name, g in grads.items()}, norm


@dataclass(frozen=True)
class TrainState:
    """Parameters and their moments after `step` updates; replaced whole, never changed.

    `average` is the running average of the parameters, empty where none is kept.
    """

    step: int
    params: Arrays
    first: Arrays
    second: Arrays
    average: Arrays


def fresh(params: Arrays, averaged: bool = False) -> TrainState:
    """Return the state before the first update: moments of zero."""
    zeros = {name: np.zeros_like(p) for name, p in params.items()}
    return TrainState(0, params, zeros, zeros, params if averaged else {})


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    Only matrices are decayed: biases, norms and embeddings named `*_token` and `*_embed` are not.
    """

    decay: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    ema: float = 0.0

    @np.errstate(under="ignore")  # the square of nearly nothing is nothing
    def update(self, state: TrainState, grads: Arrays, rate: float) -> TrainState:
        """Return the state one step on: whoever interrupts this still holds the old one whole."""
        step = state.step + 1
        unbias1, unbias2 = 1 - self.beta1**step, 1 - self.beta2**step
        params, first, second = dict(state.params), dict(state.first), dict(state.second)
        for name, g in grads.items():
            p, kind = params[name], params[name].dtype.type
            m = first[name] + (g - first[name]) * kind(1 - self.beta1)
            v = second[name] + (g * g - second[name]) * kind(1 - self.beta2)
            if name.endswith(".weight") and p.ndim > 1:
                p = p * kind(1 - rate * self.decay)
            move = kind(rate / unbias1) * m / (np.sqrt(v / kind(unbias2)) + kind(self.eps))
            params[name], first[name], second[name] = p - move, m, v
        # Early on the average is over few steps, so that the start is forgotten.
        keep = min(self.ema, step / (step + 10))
        average = {
            name: kept + (params[name] - kept) * kept.dtype.type(1 - keep)
            for name, kept in state.average.items()
        }
        return TrainState(step, params, first, second, average)
