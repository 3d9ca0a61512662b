"""Profiles: which kernels an engine runs for softmax, GELU and LayerNorm, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from refvit.integer.bounds import Proof
from refvit.integer.kernels import (
    gelu,
    ivit_norm,
    layer_norm,
    log_softmax,
    shiftmax,
    softmax,
    tables,
)
from refvit.integer.needs import Need
from refvit.matching import one_of

LOG2_BITS = 4  # of a probability's exponent in the profile log2, as FQ-ViT


class Kernel(NamedTuple):
    """One operator: `plan` turns scales and ranges into constants, `run` computes with them alone,
    `needs` says what they must be and `ranges` proves what they can make."""

    plan: Callable[..., Any]
    run: Callable[..., Any]
    needs: Callable[..., dict[str, Need]]
    ranges: Callable[..., list[Proof]]
    cost: str  # an element: multiplications, divisions, look-ups; those once a row are not counted
    elementwise: bool = False  # then its results are proved by running it on every code


class Profile(NamedTuple):
    """The kernels of one engine; `log2` says that probabilities are powers of two."""

    about: str
    softmax: Kernel
    gelu: Kernel
    layer_norm: Kernel
    log2: bool = False
    wide_gelu: Kernel | None = None  # for what a table of int16 does not hold, if not `gelu`
    unbounded: tuple[str, ...] = ()  # operators for which no error is stated

    def gelu_for(self, lo: int, hi: int, coded: bool) -> Kernel:
        """Return the kernel of GELU whose integers are clipped to [lo, hi], `coded` where they are
        narrowed to other codes besides."""
        held = not coded and tables.INT16[0] <= lo and hi <= tables.INT16[1]
        return self.gelu if held or self.wide_gelu is None else self.wide_gelu


SOFTMAX = Kernel(softmax.plan, softmax.softmax, softmax.needs, softmax.ranges, "4 mul")
GELU = Kernel(gelu.plan, gelu.gelu, gelu.needs, gelu.ranges, "4 mul", elementwise=True)
NORM = Kernel(layer_norm.plan, layer_norm.layer_norm, layer_norm.needs, layer_norm.ranges, "4 mul")
IVIT = (
    Kernel(shiftmax.plan, shiftmax.shiftmax, shiftmax.needs, shiftmax.ranges, "3 mul, 1 div"),
    Kernel(
        shiftmax.plan_gelu, shiftmax.shift_gelu, shiftmax.needs, shiftmax.gelu_ranges,
        "4 mul, 2 div",
    ),
    Kernel(ivit_norm.plan, ivit_norm.i_layer_norm, ivit_norm.needs, ivit_norm.ranges, "3 mul"),
)  # fmt: skip
LOG_SOFTMAX = Kernel(
    log_softmax.plan, log_softmax.log_softmax, log_softmax.needs, log_softmax.ranges,
    "2 mul, 1 div",
)  # fmt: skip
TABLES = (
    Kernel(
        tables.plan_softmax, tables.table_softmax, tables.softmax_needs, tables.softmax_ranges,
        "2 mul, 1 look-up",
    ),
    Kernel(
        tables.plan_gelu, tables.table_gelu, tables.gelu_needs, tables.gelu_ranges, "1 look-up",
        elementwise=True,
    ),
)  # fmt: skip
BOUNDLESS = ("softmax", "gelu", "layer_norm")
PROFILES: Mapping[str, Profile] = {
    "refvit": Profile("I-BERT's polynomials on grids right at every scale", SOFTMAX, GELU, NORM),
    "ivit": Profile("I-ViT's operators, shifts derived", *IVIT, unbounded=BOUNDLESS),
    "log2": Profile("probabilities are 4-bit powers of two", LOG_SOFTMAX, GELU, NORM, log2=True),
    "table": Profile("refvit with tables for 8-bit codes", *TABLES, NORM, wide_gelu=GELU),
}


def profile(name: str) -> Profile:
    """Return the profile called `name`; ValueError lists the names there are."""
    return PROFILES[one_of(name, PROFILES, "kernel profile")]
