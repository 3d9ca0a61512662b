"""Integer GELU in I-BERT's manner (Kim et al. 2021, section 3.4).

    GELU(x) = x/2 (1 + L(x)),  L(x) = sign(x) (1 + a (min(|x|, -b) + b)^2)

with a = -0.2888 / 2 and b = -1.769 sqrt(2) once the division by sqrt(2) is folded in. Only the
argument of L is brought to a fixed grid of 2**-12, by a requantization whose clamp is the min; x
itself keeps its codes. The shift before the last product is derived from the width of x: the
release fixes it at 14, which destroys 8-bit inputs. Error of the formula: 0.0182 at |x| = 2.35.
Specification, clause 4.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import PRODUCT_EXACT, Arithmetic
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import dyadic, shift_round
from refvit.integer.needs import Need, factors, small
from refvit.params import Params

IntArray = NDArray[Any]

GRID = 12  # fraction bits of the argument of L
A = 0.2888 / 2
END = round(1.769 * math.sqrt(2) * 2**GRID)  # -b = 2.50174
ONE = round(1 / A * 2 ** (2 * GRID))  # 1 / A = 6.92521, 27 bits: the unit of L


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit.

    `scale` and [lo, hi] belong to the input, `out_scale` to the output.
    """
    largest = max(-lo, hi)
    keep = max(0, (2 * ONE * largest // PRODUCT_EXACT).bit_length())  # so the product has 28 bits
    grid = dyadic(scale * 2**GRID, site)
    out = dyadic(scale * A / 2 ** (2 * GRID - keep) / 2 / out_scale, site)
    names = ("grid_multiplier", "grid_shift", "multiplier", "shift", "keep")
    constants = dict(zip(names, (*grid, *out, np.array(keep, np.int32)), strict=True))
    return constants, ranges(site, Params(constants), lo, hi)


def stated_error(x: NDArray[Any]) -> float:
    """Return how far GELU of reals `x` may be off before rounding: the formula's error, and the
    grid's of 2**-12 (specification, section 6)."""
    return 0.0183 + 2.0**-GRID * float(np.abs(x).max())


def needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants for codes in [lo, hi] must be."""
    return factors("grid_", "") | {"keep": small(0, 30)}


def ranges(site: str, c: Any, lo: int, hi: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: they hold for any codes in [lo, hi]."""
    largest, keep = max(-lo, hi), int(c.keep)
    rounding = 1 << keep >> 1
    gate = (2 * ONE + rounding) >> keep
    return [
        prove_codes(site, lo, hi),
        prove(site, "square", 0, END**2, FAULT, why="the end of the polynomial, squared"),
        prove(site, "1 + L + rounding", 0, 2 * ONE + rounding, FAULT,
              why="2 / 0.1444 with 24 fraction bits"),
        prove(site, "x (1 + L)", -largest * gate, largest * gate, "give the input fewer bits",
              why=f"codes by 2 / 0.1444 >> {keep}"),
    ]  # fmt: skip


def gelu(x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int) -> IntArray:
    """Return codes of GELU at the site's output scale, clipped to [lo, hi]; elementwise.

    `x` are codes of 8 or 16 bits, `c` the constants of `plan`.
    """

    def formula(codes: IntArray) -> IntArray:
        q, requantize = codes.astype(np.int32), arithmetic.requantize
        u = requantize(np.abs(q), c.grid_multiplier, c.grid_shift, 0, END).astype(np.int32) - END
        gate = ONE + np.sign(q) * (ONE - u * u)
        return requantize(q * shift_round(gate, c.keep), c.multiplier, c.shift, lo, hi)

    return arithmetic.elementwise(formula, x)
