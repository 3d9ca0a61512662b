"""Integer LayerNorm (I-BERT, section 3.6) that keeps eps, any gamma, and every row's precision.

With y = C q - sum(q), an exact integer, and E = C^3 eps / scale^2,

    (x - mean) / sqrt(var + eps) = sqrt(C) y / sqrt(sum(y^2) + E)

so the mean is never rounded. Each row is shifted by leading-zero counts: its squares so that
their sum has 30 bits and the root of that 15, y itself to 15 bits. The released static shift
loses rows of small variance. gamma enters as a signed multiplier per channel and beta as an
addend with 8 guard bits, so gamma = 0 and gamma < 0 are ordinary; the release divides by gamma.
Specification, clause 4.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import GUARD, INT32, dyadic, real_of, shift_round
from refvit.integer.needs import COUNT, MULTIPLIER, SHIFT, Need, small
from refvit.params import Params

IntArray = NDArray[Any]

ROOT_BITS = 15  # of the root and of y; the root's square has 30
NORM = 27  # fraction bits of y / sqrt(sum y^2)
BETA = "this gamma or beta is too large for the output scale"


def square_bits(width: int) -> int:
    """Return the bits a centred value may have so that `width` squares sum to at most 2**30."""
    return (30 - (width - 1).bit_length()) // 2


def least_shift(eps_exponent: Any) -> Any:
    """Return the least shift of a row that keeps eps, of 14 bits at that exponent, below 2**28."""
    return (eps_exponent - 13) >> 1


def affine(
    site: str, gamma: NDArray[Any], beta: NDArray[Any], out_scale: float, fraction: int
) -> dict[str, IntArray]:
    """Return the constants that bring n, with `fraction` bits, to gamma n + beta with guard bits.

    gamma and beta are [C], sqrt(C) belongs to n. Raises ValueError for one that is not finite.
    """
    if not (np.isfinite(gamma).all() and np.isfinite(beta).all()):
        raise ValueError(f"{site}: its gamma and beta are finite; there is one that is not")
    gain = gamma.astype(np.float64) * math.sqrt(len(gamma)) * 2.0**GUARD / out_scale
    multiplier, shift = dyadic(gain / 2**fraction, site)
    offset = np.rint(beta.astype(np.float64) * 2**GUARD / out_scale)
    largest = np.abs(offset).max()
    prove(site, "beta", -largest, largest, BETA)
    return {"offset": offset.astype(np.int32), "multiplier": multiplier, "shift": shift}


def affine_range(site: str, c: Any, fraction: int, slack: float) -> Proof:
    """Return the proof of gamma n + beta, |n| being at most `slack` of the norm."""
    gain = np.abs(real_of(c.multiplier, c.shift)).max() * 2.0**fraction
    largest = np.abs(c.offset.astype(np.int64)).max()
    end = math.ceil(gain * slack + largest) + (1 << GUARD)
    why = "sqrt(C) max|gamma| + max|beta|"
    return prove(site, "gamma n + beta", -end, end, BETA, why=why)


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
    """Return the constants of one site and the proof that its integers fit.

    `scale` and [lo, hi] belong to the input, `out_scale` to the output; gamma and beta are [C].
    """
    steps = len(gamma) ** 3 * eps / scale**2  # E = eps_code * 2**eps_exponent
    fraction, exponent = math.frexp(steps)
    code = round(fraction * 2**14)
    if least_shift(exponent - 14) > 30:
        raise OverflowError(
            f"{site}: eps is {steps:.3g} squared steps of the input, beyond 2**88; the scale "
            f"{scale:.3g} is too small for it"
        )
    codes = {"eps_code": np.int32(code), "eps_exponent": np.int32(exponent - 14)}
    constants = affine(site, gamma, beta, out_scale, NORM)
    constants |= {name: np.asarray(value) for name, value in codes.items()}
    return constants, ranges(site, Params(constants), lo, hi)


def stated_error(width: int) -> float:
    """Return by which part of the largest of its row a normalised value may be off before rounding.

    With W = `square_bits`: 3/8 C 4**(1 - W) where all but one value lie half a coarse step from
    their mean, 2**-W where one outlier is rounded itself, and 2**-12 for what is rounded after
    the root (specification, section 6). Ordinary rows are far better.

    >>> [round(stated_error(width), 5) for width in (192, 768, 1536, 3072)]
    [0.0008, 0.00232, 0.01099, 0.01978]
    """
    bits = square_bits(width)
    return float(0.375 * width * 4.0 ** (1 - bits) + 2.0**-bits + 2.0**-12)


def affine_needs(width: int) -> dict[str, Need]:
    """Return what the constants of gamma and beta of `width` channels must be."""
    shape = (width,)
    return {
        "multiplier": MULTIPLIER.of(shape),
        "shift": SHIFT.of(shape),
        "offset": COUNT.of(shape),
    }


def needs(width: int) -> dict[str, Need]:
    """Return what the constants of a norm of `width` channels must be."""
    eps = {"eps_code": small(0, 1 << 14), "eps_exponent": small(-(1 << 12), 74)}
    return affine_needs(width) | eps


def ranges(site: str, c: Any, lo: int, hi: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: they hold for any codes in [lo, hi]."""
    width = len(c.offset)
    squares = width * 4 ** square_bits(width) + (1 << 28)
    spread = width * (hi - lo)
    spread += 1 << max(0, spread.bit_length() - square_bits(width) - 1)  # its own rounding
    product = 4**ROOT_BITS  # 15 bits of y times 2**29 // root, where root >= 2**14
    # The row's largest is among the squares with at least square_bits - 1 bits, so its share of
    # their root is at most 1 + 2**-square_bits, and the roundings after that are far smaller.
    slack = 1 + 2.0 ** (1 - square_bits(width))
    return [
        prove_codes(site, lo, hi),
        prove(site, "centred value", -spread, spread, "give the input fewer bits",
              why=f"{width} channels by the range of the codes"),
        prove(site, "sum of squares + eps", 0, squares, FAULT,
              why=f"{width} squares of {square_bits(width)} bits, eps up to 2**28"),
        prove(site, "y x reciprocal", -product, product, FAULT, why="15 bits by 2**29 / 2**14"),
        affine_range(site, c, NORM, slack),
    ]  # fmt: skip


def normalise(x: IntArray, c: Any, arithmetic: Arithmetic) -> IntArray:
    """Return y / sqrt(sum y^2 + E) with 27 fraction bits: int32 [..., C] from codes [..., C].

    It errs by 2**-13 of itself and 2**-16 of the row's largest, and by what rounding the squares
    adds: at most 3 C / 4 of a sum that is at least 4**(square_bits - 1).
    """
    x = x.astype(np.int32)
    width = x.shape[-1]
    y = np.int32(width) * x - x.sum(-1, keepdims=True, dtype=np.int32)
    bits = arithmetic.bits(np.abs(y).max(-1, keepdims=True))
    least = least_shift(c.eps_exponent) if c.eps_code else -30
    coarse = np.clip(bits - square_bits(width), least, 30)
    squares = np.square(shift_round(y, coarse)).sum(-1, keepdims=True, dtype=np.int32)
    squares += shift_round(c.eps_code, np.minimum(2 * coarse - c.eps_exponent, 30))
    spread = np.maximum(2 * ROOT_BITS - arithmetic.bits(squares), 0) >> 1  # 29 to 31 bits then
    root = np.maximum(arithmetic.root(squares << 2 * spread), np.int32(1) << (ROOT_BITS - 1))
    reciprocal = (np.int32(1) << (2 * ROOT_BITS - 1)) // root
    fine = bits - ROOT_BITS
    shift = (2 * ROOT_BITS - 1 - NORM) + coarse - spread - fine
    return shift_round(shift_round(y, fine) * reciprocal, np.minimum(shift, 30))


def layer_norm(x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int) -> IntArray:
    """Return codes of LayerNorm over the last axis at the site's output scale, clipped to [lo, hi].

    `x` are codes of 8 or 16 bits, `c` the constants of `plan`.
    """
    scaled = arithmetic.requantize(normalise(x, c, arithmetic), c.multiplier, c.shift, *INT32)
    return np.clip(shift_round(scaled + c.offset, GUARD), lo, hi)
