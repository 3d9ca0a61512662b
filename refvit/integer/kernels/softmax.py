"""Integer softmax in I-BERT's manner (Kim et al. 2021, section 3.4.2), right at every scale.

exp is range-reduced by powers of two and a quadratic, but on a fixed grid of 2**-13 octaves that
`requantize` brings the scores to. So the constants of the polynomial are the same for all sites
and precise at every scale; the release rounds them at the scale of the scores, which costs up to
0.125 of the exponential (floored constants at scale 0.5).

    exp(-x) = 2**-(z + f),  x log2(e) = z + f,  2**-f ~ A (f (f - B) + C),  0 <= f < 1

The row is normalised by one reciprocal of its sum, taken to 14 bits by a leading-zero count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic, Requantize
from refvit.integer.bounds import Proof, prove, prove_codes
from refvit.integer.fixedpoint import bit_length, dyadic, shift_round

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]

GRID = 13  # fraction bits of the exponent, in octaves
# I-BERT's released quadratic 0.35815147 p^2 + 0.96963238 p + 1 on p in (-ln 2, 0], as p = -f ln 2:
# maximal error 1.92e-3 of the exponential.
B = round(0.96963238 / 0.35815147 / math.log(2) * 2**GRID)  # 3.90584 octaves
C = round(1 / 0.35815147 / math.log(2) ** 2 * 2 ** (2 * GRID))  # 5.81138 octaves^2, 29 bits
EXP_BITS = 14
EXP_SHIFT = C.bit_length() - EXP_BITS  # exp(0) is C >> 15 = 11902, in 14 bits
OCTAVES = 16  # 2**-16 of exp(0) rounds to 0, so farther scores are all alike
RECIPROCAL = 27  # floor(2**27 / sum of 14 bits) has 14 bits; times exp: 28 bits


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit.

    `scale` and [lo, hi] belong to the scores, `out_scale` to the unsigned probabilities, `tokens`
    is the length of a row.
    """
    grid = dyadic(scale * math.log2(math.e) * 2**GRID, site)
    out = dyadic(2.0**-RECIPROCAL / out_scale, site)
    top = (C + (1 << (EXP_SHIFT - 1))) >> EXP_SHIFT
    half = 1 << (OCTAVES - 1 + EXP_SHIFT - 1)
    total = tokens * top
    spare = total.bit_length() - EXP_BITS  # by which the sum is rounded
    proofs = [
        prove_codes(site, lo, hi),
        prove(site, "score difference", 0, hi - lo, "give the scores fewer bits"),
        prove(site, "polynomial + rounding", 0, C + half, "lower GRID"),
        prove(site, "sum of exponentials", 0, total + (1 << max(0, spare - 1)), "use shorter rows"),
        prove(
            site,
            "exponential x reciprocal",
            0,
            top << (RECIPROCAL - EXP_BITS + 1),
            "lower RECIPROCAL",
        ),
    ]
    names = ("grid_multiplier", "grid_shift", "multiplier", "shift")
    return dict(zip(names, (*grid, *out), strict=True)), proofs


def octaves(below: IntArray, c: Any, requantize: Requantize) -> IntArray:
    """Return distances below a row's maximum, in codes, as octaves on the 2**-13 grid: int32."""
    end = (OCTAVES << GRID) - 1
    steps = requantize(below.astype(np.int32), c.grid_multiplier, c.grid_shift, 0, end)
    return steps.astype(np.int32)


def exp2(t: IntArray) -> IntArray:
    """Return 14-bit codes of 2**-(t / 2**13) for int32 0 <= t < 16 * 2**13; exp2(0) is 11902.

    >>> exp2(np.array([0, 1 << 13, 1 << 14], np.int32)) / 11902
    array([1.        , 0.5       , 0.24995799])
    """
    f = t & ((1 << GRID) - 1)
    return shift_round(f * (f - B) + C, (t >> GRID) + EXP_SHIFT)


def by_window(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return `mask` [W, N, N] as one for scores [B W, H, N, N] of `shape`."""
    windows = (shape[0] // len(mask), len(mask), *shape[1:])
    return np.broadcast_to(mask[:, None], windows).reshape(shape)


def softmax(
    x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int, mask: Mask | None = None
) -> IntArray:
    """Return codes of softmax over the last axis at the site's output scale, clipped to [lo, hi].

    `x` are score codes of 8 or 16 bits, `c` the constants of `plan`. The exponential sees a score
    only as its distance below the row's maximum, one byte for 8-bit scores: a table of 256.
    Where `mask` [W, N, N] is true the score does not exist: probability 0. A row of which nothing
    is left is all 0.
    """
    wide = x.astype(np.int32)
    gone = None if mask is None else by_window(mask, x.shape)
    if gone is not None:
        wide = np.where(gone, np.iinfo(x.dtype).min, wide)
    below = wide.max(-1, keepdims=True) - wide
    below = below.astype(np.uint8 if x.itemsize == 1 else np.int32)
    e = arithmetic.elementwise(lambda n: exp2(octaves(n, c, arithmetic.requantize)), below)
    if gone is not None:
        e = np.where(gone, np.int32(0), e)
    total = np.maximum(e.sum(-1, keepdims=True, dtype=np.int32), 1)
    spare = bit_length(total) - EXP_BITS
    reciprocal = (np.int32(1) << RECIPROCAL) // shift_round(total, spare)
    scaled = shift_round(e * reciprocal, spare)
    return arithmetic.requantize(scaled, c.multiplier, c.shift, lo, hi)
