"""Losses on logits, for arrays and for `Var`: cross-entropy, and distillation as DeiT does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.autodiff import value_of


def log_softmax(logits: Any) -> Any:
    """Return log(softmax(logits)) over the last axis of [B, classes]."""
    shifted = logits - value_of(logits).max(-1, keepdims=True)
    with np.errstate(under="ignore"):  # a hopeless class has a chance of rightly nothing
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def one_hot(labels: NDArray[Any], classes: int, dtype: Any) -> NDArray[Any]:
    """Return targets [B, classes] of labels [B]; targets pass through."""
    if labels.ndim == 2:
        return labels.astype(dtype)
    return np.asarray(np.eye(classes, dtype=dtype)[labels])


def cross_entropy(logits: Any, labels: NDArray[Any], smoothing: float = 0.0) -> Any:
    """Return the mean of -sum(target * log softmax(logits)): one number of [B, classes].

    `labels` are [B] indices or [B, classes] shares; either is mixed with `smoothing` of the
    uniform distribution (Szegedy et al. 2016).
    """
    batch, classes = logits.shape
    target = one_hot(labels, classes, logits.dtype) * (1 - smoothing) + smoothing / classes
    return np.sum(target.astype(logits.dtype) * -log_softmax(logits)) / logits.dtype.type(batch)


def hard_distillation(logits: Any, teacher: NDArray[Any], temperature: float = 1.0) -> Any:
    """Return the cross-entropy against the teacher's decision (Touvron et al. 2021, equation 3)."""
    return cross_entropy(logits, teacher.argmax(-1))


def soft_distillation(logits: Any, teacher: NDArray[Any], temperature: float = 3.0) -> Any:
    """Return tau^2 KL(teacher || student) at temperature tau (Hinton et al. 2015; Touvron et al.
    2021, equation 2), the mean over the batch; 0 where the student is the teacher."""
    kind = logits.dtype.type
    known = log_softmax(teacher / kind(temperature))
    apart = known - log_softmax(logits / kind(temperature))
    with np.errstate(under="ignore"):  # what the teacher rules out counts for rightly nothing
        weight = np.exp(known) * kind(temperature**2)
        return np.sum(weight * apart) / kind(len(teacher))


DISTILLATIONS = {"hard": hard_distillation, "soft": soft_distillation}
