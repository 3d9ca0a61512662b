"""I-LayerNorm of I-ViT (Li and Gu 2023, section 3.5), with the shift that int32 needs.

The mean is rounded to a code, eps is dropped, and the root is ten steps of Newton from 2**16, not
converged for small variances: I-ViT's choices, kept. Squares of 16-bit residuals sum to 2**39,
which wraps in the release's 32-bit runtime, so values are shifted right before they are squared,
by the least shift that fits. gamma is a signed multiplier and beta an addend with guard bits,
where the release divides by gamma. Specification, clause 5.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import GUARD, INT32, shift_round
from refvit.integer.kernels.layer_norm import affine, affine_needs, affine_range
from refvit.integer.needs import Need, small
from refvit.params import Params

IntArray = NDArray[Any]

STEPS = 10
START = 1 << 16  # of Newton's iteration
FRACTION = 29  # bits of y / norm: the dividend has 31 and the product is halved, as released


def plan(
    site: str,
    scale: float,
    out_scale: float,
    lo: int,
    hi: int,
    gamma: NDArray[Any],
    beta: NDArray[Any],
    eps: float,
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit; eps is not used."""
    width, coarse = len(gamma), 0
    while largest_squares(width, hi - lo + 1, coarse) >= 2**31:
        coarse += 1
    constants = affine(site, gamma, beta, out_scale, FRACTION)
    constants |= {"coarse": np.asarray(coarse, np.int32)}
    return constants, ranges(site, Params(constants), lo, hi)


def ranges(site: str, c: Any, lo: int, hi: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: they hold for any codes in [lo, hi]."""
    width, spread, coarse = len(c.offset), hi - lo + 1, int(c.coarse)
    total = width * max(-lo, hi) + width // 2
    # |y| <= norm + half a coarse step, so |y f| is at most 1.5 of the dividend.
    return [
        prove_codes(site, lo, hi),
        prove(site, "sum of codes", -total, total, "give the input fewer bits",
              why=f"{width} codes"),
        prove(site, "centred value", -spread, spread, FAULT, why="the range of the codes"),
        prove(site, "sum of squares", 0, largest_squares(width, spread, coarse), FAULT,
              why=f"{width} squares of y >> {coarse}"),
        prove(site, "y x reciprocal", -3 << 29, 3 << 29, FAULT, why="|y| <= norm + half a step"),
        affine_range(site, c, FRACTION, 1.5),
    ]  # fmt: skip


def needs(width: int) -> dict[str, Need]:
    """Return what the constants of a norm of `width` channels must be."""
    return affine_needs(width) | {"coarse": small(0, 16)}


def largest_squares(width: int, spread: int, coarse: int) -> int:
    """Return a bound of sum(round(y, coarse)**2): numbers within `spread` lie half of it from
    their mean in the root mean square (Popoviciu), and roundings of mean and shift add two."""
    return width * ((spread >> (coarse + 1)) + 2) ** 2


def newton_sqrt(n: IntArray) -> IntArray:
    """Return ten Newton steps from 2**16 towards sqrt(n) of int32 n >= 0, as I-ViT takes them.

    floor(sqrt(n)), or one more at some n = k*k - 1, for n > 142,882; too large below.

    >>> newton_sqrt(np.array([1, 1024, 160000], np.int32))
    array([ 64,  68, 400], dtype=int32)
    """
    root = np.full_like(n, START)
    for _ in range(STEPS):
        root = np.maximum((root + n // root) >> 1, 1)
    return root


def i_layer_norm(x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int) -> IntArray:
    """Return codes of LayerNorm over the last axis at the site's output scale, clipped to [lo, hi].

    `x` are codes of 8 or 16 bits, `c` the constants of `plan`.
    """
    x = x.astype(np.int32)
    width = np.int32(x.shape[-1])
    total = x.sum(-1, keepdims=True, dtype=np.int32)
    y = x - (total + (width >> 1)) // width
    squares = np.square(shift_round(y, c.coarse)).sum(-1, keepdims=True, dtype=np.int32)
    norm = newton_sqrt(squares) << c.coarse
    n = y * ((np.int32(1) << 30) // norm)
    scaled = arithmetic.requantize(n >> 1, c.multiplier, c.shift, *INT32)
    return np.clip(shift_round(scaled + c.offset, GUARD), lo, hi)
