"""Integer LayerNorm (I-BERT, section 3.6) that keeps eps, any gamma, and every row's precision.

With y = C q - sum(q), an exact integer, and E = C^3 eps / scale^2,

    (x - mean) / sqrt(var + eps) = sqrt(C) y / sqrt(sum(y^2) + E)

so the mean is never rounded. Each row is shifted by leading-zero counts: its squares so that
their sum has 29 bits and the root of that 15, y itself to 15 bits. The released static shift
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
from refvit.integer.bounds import Proof, prove, prove_codes
from refvit.integer.fixedpoint import GUARD, INT32, dyadic, shift_round

IntArray = NDArray[Any]

ROOT_BITS = 15  # of the root and of y; the root's square has 30
NORM = 27  # fraction bits of y / sqrt(sum y^2)
BETA = "this gamma or beta is too large for the output scale"


def square_bits(width: int) -> int:
    """Return the bits a centred value may have so that `width` squares sum to at most 2**29."""
    return (29 - (width - 1).bit_length()) // 2


def least_shift(eps_exponent: Any) -> Any:
    """Return the least shift of a row that keeps eps, of 14 bits at that exponent, below 2**28."""
    return (eps_exponent - 13) >> 1


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
    width = len(gamma)
    gain = gamma.astype(np.float64) * math.sqrt(width) * 2.0**GUARD / out_scale
    multiplier, shift = dyadic(gain / 2**NORM, site)
    offset = np.rint(beta.astype(np.float64) * 2**GUARD / out_scale)
    fraction, exponent = math.frexp(width**3 * eps / scale**2)  # E = eps_code * 2**eps_exponent
    eps_code, eps_exponent = round(fraction * 2**14), exponent - 14
    squares = width * 4 ** square_bits(width) + (1 << 28)
    spread = width * (hi - lo)
    spread += 1 << max(0, spread.bit_length() - square_bits(width) - 1)  # its own rounding
    product = 4**ROOT_BITS  # 15 bits of y times 2**29 // root, where root >= 2**14
    # The row's largest is among the squares with at least square_bits - 1 bits, so its share of
    # their root is at most 1 + 2**-square_bits, and the roundings after that are far smaller.
    slack = 1 + 2.0 ** (1 - square_bits(width))
    end = math.ceil(np.abs(gain).max() * slack + np.abs(offset).max()) + (1 << GUARD)
    if least_shift(eps_exponent) > 30:
        raise OverflowError(
            f"{site}: eps is {width**3 * eps / scale**2:.3g} squared steps of the "
            f"input, beyond 2**88; the scale {scale:.3g} is too small for it"
        )
    proofs = [
        prove_codes(site, lo, hi),
        prove(site, "centred value", -spread, spread, "give the input fewer bits",
              why=f"{width} channels by the range of the codes"),
        prove(site, "sum of squares + eps", 0, squares, "lower ROOT_BITS",
              why=f"{width} squares of {square_bits(width)} bits, eps below 2**28"),
        prove(site, "y x reciprocal", -product, product, "lower ROOT_BITS",
              why="15 bits by 2**29 / 2**14"),
        prove(site, "gamma n + beta", -end, end, BETA, why="sqrt(C) max|gamma| + max|beta|"),
    ]  # fmt: skip
    codes = {"offset": offset, "eps_code": eps_code, "eps_exponent": eps_exponent}
    constants = {name: np.asarray(value, np.int32) for name, value in codes.items()}
    return constants | {"multiplier": multiplier, "shift": shift}, proofs


def normalise(x: IntArray, c: Any, arithmetic: Arithmetic) -> IntArray:
    """Return y / sqrt(sum y^2 + E) with 27 fraction bits: int32 [..., C] from codes [..., C].

    It errs by 2**-13 of itself and 2**-16 of the row's largest, and by what rounding the squares
    adds: about C / 24 of the sum of squares, which is at least 4**(square_bits - 1).
    """
    x = x.astype(np.int32)
    width = x.shape[-1]
    y = np.int32(width) * x - x.sum(-1, keepdims=True, dtype=np.int32)
    bits = arithmetic.bits(np.abs(y).max(-1, keepdims=True))
    least = least_shift(c.eps_exponent) if c.eps_code else -30
    coarse = np.clip(bits - square_bits(width), least, 30)
    squares = np.square(shift_round(y, coarse)).sum(-1, keepdims=True, dtype=np.int32)
    squares += shift_round(c.eps_code, np.minimum(2 * coarse - c.eps_exponent, 30))
    spread = (2 * ROOT_BITS - arithmetic.bits(squares)) >> 1  # brings the sum to 29 or 30 bits
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
