"""Log-int-softmax: probabilities as powers of two, so that A V needs shifts alone.

FQ-ViT (Lin et al. 2022, section 3.4) codes a probability by c = -log2 p, rounded. Here 2**-c is
the nearest power in the logarithm (the change lies at the root of two; FQ-ViT's integer form
changes at 1.5), from the exponentials of `refvit.integer.kernels.softmax`. The greatest code means
zero. The product is the sum of `V << (power - c)`. Specification, clause 5.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic
from refvit.integer.bounds import Proof, prove
from refvit.integer.fixedpoint import dyadic
from refvit.integer.kernels import softmax
from refvit.integer.needs import Need, factors, small
from refvit.params import Params

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]

POWER = 14  # 2**-14 is the least of 4 bits: the unit of the powers
ROOT = round(math.sqrt(2) * 2**14)  # 23170: where one power gives way to the next


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit.

    `out_scale` is the unit of the powers as integers, 2**-power.
    """
    grid = dyadic(scale * math.log2(math.e) * 2**softmax.GRID, site)
    spare = 30 - (tokens * softmax.TOP).bit_length()  # fraction bits of sum / exponential
    if spare < 1:
        raise OverflowError(f"{site}: rows of {tokens} tokens do not fit int32; use shorter rows")
    names = ("grid_multiplier", "grid_shift", "spare")
    constants = dict(zip(names, (*grid, np.asarray(spare, np.int32)), strict=True))
    return constants, ranges(site, Params(constants), lo, hi, tokens)


def needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants for scores in [lo, hi] must be."""
    return factors("grid_") | {"spare": small(1, 29)}


def ranges(site: str, c: Any, lo: int, hi: int, tokens: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: they hold for any scores in [lo, hi]."""
    spare = int(c.spare)
    whole = math.sqrt(2) * (1 + 2.0**-spare) * 2.0**POWER
    return [
        *softmax.exp_ranges(site, lo, hi, tokens),
        prove(site, "sum << fraction", 0, tokens * softmax.TOP << spare, "use shorter rows",
              why=f"{tokens} exponentials with {spare} fraction bits"),
        prove(site, softmax.ROW_SUM, 0, softmax.row_sum(whole, 0), "use shorter rows",
              why="powers are at most sqrt(2) of their probabilities"),
    ]  # fmt: skip


def log_softmax(
    x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int, mask: Mask | None = None
) -> IntArray:
    """Return codes c of softmax over the last axis, probability 2**-c; `hi` means 0.

    Where `mask` [W, N, N] is true the score does not exist: probability 0.
    """
    e, total = softmax.exponentials(x, c, arithmetic, mask)
    ratio = (total << c.spare) // np.maximum(e, 1)  # 2**spare / p
    bits = arithmetic.bits(ratio)
    mantissa = (ratio << np.maximum(15 - bits, 0)) >> np.maximum(bits - 15, 0)
    power = bits - 1 - c.spare + (mantissa >= ROOT)
    return np.where(e > 0, np.clip(power, lo, hi), np.int32(hi))
