"""Profiles: which kernels an engine runs for softmax, GELU and LayerNorm, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from refvit.integer.kernels import (
    gelu,
    ivit_norm,
    layer_norm,
    log_softmax,
    shiftmax,
    softmax,
    tables,
)

LOG2_BITS = 4  # of a probability's exponent in the profile log2, as FQ-ViT


class Kernel(NamedTuple):
    """`plan` turns scales and ranges into constants and proofs, `run` computes with them alone."""

    plan: Callable[..., Any]
    run: Callable[..., Any]
    cost: str  # an element: multiplications, divisions, look-ups; those once a row are not counted
    elementwise: bool = False  # then its results are proved by running it on every code


class Profile(NamedTuple):
    """The kernels of one engine; `log2` says that probabilities are powers of two."""

    about: str
    softmax: Kernel
    gelu: Kernel
    layer_norm: Kernel
    log2: bool = False
    unbounded: tuple[str, ...] = ()  # operators for which no error is stated


SOFTMAX = Kernel(softmax.plan, softmax.softmax, "4 mul")
GELU = Kernel(gelu.plan, gelu.gelu, "4 mul", elementwise=True)
NORM = Kernel(layer_norm.plan, layer_norm.layer_norm, "4 mul")
PROFILES: Mapping[str, Profile] = {
    "refvit": Profile(
        "I-BERT's manner, on grids that are right at every scale", SOFTMAX, GELU, NORM
    ),
    "ivit": Profile(
        "I-ViT: Shiftmax, ShiftGELU, I-LayerNorm, shifts derived",
        Kernel(shiftmax.plan, shiftmax.shiftmax, "3 mul, 1 div"),
        Kernel(shiftmax.plan_gelu, shiftmax.shift_gelu, "4 mul, 2 div"),
        Kernel(ivit_norm.plan, ivit_norm.i_layer_norm, "3 mul"),
        unbounded=("softmax", "gelu", "layer_norm"),
    ),
    "log2": Profile(
        "refvit with 4-bit powers of two for probabilities; A V by shifts",
        Kernel(log_softmax.plan, log_softmax.log_softmax, "2 mul, 1 div"),
        GELU,
        NORM,
        log2=True,
    ),
    "table": Profile(
        "refvit with tables of 256 entries for 8-bit codes",
        Kernel(tables.plan_softmax, tables.table_softmax, "2 mul, 1 look-up"),
        Kernel(tables.plan_gelu, tables.table_gelu, "1 look-up", elementwise=True),
        NORM,
    ),
}


def profile(name: str) -> Profile:
    """Return the profile called `name`; ValueError lists the names there are."""
    if name not in PROFILES:
        raise ValueError(f"no kernel profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
