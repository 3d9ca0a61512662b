"""AdamW with warm-up and cosine decay, and clipping by global norm; state is plain arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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


def clip_by_global_norm(grads: Arrays, limit: float) -> tuple[Arrays, float]:
    """Scale all gradients so that their joint Euclidean norm is at most `limit`; return it too."""
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
    scale = np.float32(min(1.0, limit / (norm + 1e-12)))
    return {name: g * scale for name, g in grads.items()}, norm


@dataclass
class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    Only matrices are decayed: biases, norms and embeddings named `*_token` and `*_embed` are not.
    `first` and `second` are the moments by parameter name; `step` counts the updates made.
    """

    decay: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    step: int = 0
    first: Arrays = field(default_factory=dict)
    second: Arrays = field(default_factory=dict)

    def update(self, params: Arrays, grads: Arrays, rate: float) -> None:
        """Move every array of `params` in place against its gradient."""
        self.step += 1
        unbias1, unbias2 = 1 - self.beta1**self.step, 1 - self.beta2**self.step
        for name, g in grads.items():
            p = params[name]
            m = self.first.setdefault(name, np.zeros_like(p))
            v = self.second.setdefault(name, np.zeros_like(p))
            m += (g - m) * p.dtype.type(1 - self.beta1)
            v += (g * g - v) * p.dtype.type(1 - self.beta2)
            if name.endswith(".weight") and p.ndim > 1:
                p *= p.dtype.type(1 - rate * self.decay)
            size = p.dtype.type(rate / unbias1)
            p -= size * m / (np.sqrt(v / p.dtype.type(unbias2)) + p.dtype.type(self.eps))
