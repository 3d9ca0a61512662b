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

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]

TOP = (softmax.C + (1 << (softmax.EXP_SHIFT - 1))) >> softmax.EXP_SHIFT  # exp(0) = 47607
ROOT = round(math.sqrt(2) * 2**14)  # 23170: where one power gives way to the next


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit.

    `out_scale` is the unit of the powers as integers, 2**-power.
    """
    grid = dyadic(scale * math.log2(math.e) * 2**softmax.GRID, site)
    spare = 30 - (tokens * TOP).bit_length()  # fraction bits of sum / exponential
    if spare < 1:
        raise OverflowError(f"{site}: rows of {tokens} tokens do not fit int32; use shorter rows")
    _, proofs = softmax.plan(site, scale, 1.0, lo, hi, tokens)
    proofs = [p for p in proofs if p.what not in ("exponential x reciprocal", softmax.ROW_SUM)]
    whole = math.sqrt(2) * (1 + 2.0**-spare)
    proofs += [
        prove(site, "sum << fraction", 0, tokens * TOP << spare, "use shorter rows",
              why=f"{tokens} exponentials with {spare} fraction bits"),
        prove(site, softmax.ROW_SUM, 0, softmax.row_sum(whole, out_scale, 0), "use shorter rows",
              why="powers are at most sqrt(2) of their probabilities"),
    ]  # fmt: skip
    names = ("grid_multiplier", "grid_shift", "spare")
    return dict(zip(names, (*grid, np.asarray(spare, np.int32)), strict=True)), proofs


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
