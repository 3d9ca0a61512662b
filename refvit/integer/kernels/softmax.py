"""Integer softmax in I-BERT's manner (Kim et al. 2021, section 3.5), right at every scale.

exp is range-reduced by powers of two and a quadratic, but on a fixed grid of 2**-13 octaves that
`requantize` brings the scores to. So the constants of the polynomial are the same for all sites
and precise at every scale; the release rounds them at the scale of the scores, which costs up to
0.125 of the exponential (floored constants at scale 0.5).

    exp(-x) = 2**-(z + f),  x log2(e) = z + f,  2**-f ~ A (f (f - B) + C),  0 <= f < 1

The row is normalised by one reciprocal of its sum, taken to 14 bits by a leading-zero count
(specification, clause 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic, Requantize
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import dyadic, real_of, shift_round
from refvit.integer.needs import Need, factors
from refvit.params import Params

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]
Exponential = Callable[[IntArray, Any, Arithmetic], IntArray]

GRID = 13  # fraction bits of the exponent, in octaves
# I-BERT's released quadratic 0.35815147 p^2 + 0.96963238 p + 1 on p in (-ln 2, 0], as p = -f ln 2:
# maximal error 1.92e-3 of the exponential.
B = round(0.96963238 / 0.35815147 / math.log(2) * 2**GRID)  # 3.90584 octaves
C = round(1 / 0.35815147 / math.log(2) ** 2 * 2 ** (2 * GRID))  # 5.81138 octaves^2, 29 bits
EXP_SHIFT = 13  # exp(0) is C >> 13 = 47607, in 16 bits: the roundings of a long row add up
TOP = (C + (1 << (EXP_SHIFT - 1))) >> EXP_SHIFT  # exp(0) = 47607
SUM_BITS = 14  # of the sum that the reciprocal is taken of
ROW_SUM = "row sum of codes"
OCTAVES = 17  # 2**-17 of exp(0) rounds to 0, so farther scores are all alike
RECIPROCAL = 27  # floor(2**27 / sum of 14 bits) has 14 bits; times exp: 30 bits


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one site and the proof that its integers fit.

    `scale` and [lo, hi] belong to the scores, `out_scale` to the unsigned probabilities, `tokens`
    is the length of a row.
    """
    grid = dyadic(scale * math.log2(math.e) * 2**GRID, site)
    out = dyadic(2.0**-RECIPROCAL / out_scale, site)
    names = ("grid_multiplier", "grid_shift", "multiplier", "shift")
    constants = dict(zip(names, (*grid, *out), strict=True))
    return constants, ranges(site, Params(constants), lo, hi, tokens)


def stated_error(tokens: int) -> float:
    """Return how far a probability of a row may be off before rounding: the exponential's error,
    and half a code of each of its 16-bit results (specification, section 6)."""
    return float(0.0023 + tokens * 0.5 / TOP)


def needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants for scores in [lo, hi] must be."""
    return factors("grid_", "")


def ranges(site: str, c: Any, lo: int, hi: int, tokens: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: they hold for any scores in [lo, hi]."""
    whole = 2.0**RECIPROCAL * float(real_of(c.multiplier, c.shift))  # codes of probability one
    return [*exp_ranges(site, lo, hi, tokens), *share_ranges(site, whole, tokens, TOP)]


def exp_ranges(site: str, lo: int, hi: int, tokens: int) -> list[Proof]:
    """Return the proofs of a row's exponentials, computed by the polynomial, and of their sum."""
    half = 1 << (OCTAVES - 1 + EXP_SHIFT - 1)
    return [
        *sum_ranges(site, lo, hi, tokens, TOP),
        prove(site, "polynomial + rounding", 0, C + half, FAULT, why="f = 0 at octave 16"),
    ]


def sum_ranges(site: str, lo: int, hi: int, tokens: int, top: int) -> list[Proof]:
    """Return the proofs of the distances and of the sum of exponentials up to `top`."""
    total = tokens * top
    spare = total.bit_length() - SUM_BITS  # by which the sum is rounded
    return [
        prove_codes(site, lo, hi),
        prove(site, "score difference", 0, hi - lo, "give the scores fewer bits",
              why="the range of the scores"),
        prove(site, "sum of e + rounding", 0, total + (1 << max(0, spare - 1)), "use shorter rows",
              why=f"{tokens} tokens of exp(0) = {top}"),
    ]  # fmt: skip


def share_ranges(site: str, whole: float, tokens: int, top: int) -> list[Proof]:
    """Return the proofs of a normalised row: `whole` is what a probability of one is in codes.

    A step finer than 2**-27 makes several codes of what `scaled` is rounded by.
    """
    roundings = max(1, math.ceil((1 + whole / 2.0**RECIPROCAL) / 2))
    return [
        prove(site, "exponential x reciprocal", 0, top << (RECIPROCAL - SUM_BITS + 1), FAULT,
              why="exp(0) by 2**27 / 2**13"),
        prove(site, ROW_SUM, 0, row_sum(whole, tokens * roundings), "use shorter rows",
              why=f"probabilities sum to one, {tokens} roundings"),
    ]  # fmt: skip


def row_sum(whole: float, tokens: int) -> int:
    """Return the greatest sum of a row's codes: of `whole` in codes, to one part in 4,096, and at
    most one rounding of a half or less a token, twice."""
    return math.ceil(whole * (1 + 2.0**-12)) + tokens


def octaves(below: IntArray, c: Any, requantize: Requantize) -> IntArray:
    """Return distances below a row's maximum, in codes, as octaves on the 2**-13 grid: int32."""
    end = (OCTAVES << GRID) - 1
    steps = requantize(below.astype(np.int32), c.grid_multiplier, c.grid_shift, 0, end)
    return steps.astype(np.int32)


def exp2(t: IntArray) -> IntArray:
    """Return 16-bit codes of 2**-(t / 2**13) for int32 0 <= t < 17 * 2**13; exp2(0) is 47607.

    >>> exp2(np.array([0, 1 << 13, 1 << 14], np.int32))
    array([47607, 23804, 11902], dtype=int32)
    """
    f = t & ((1 << GRID) - 1)
    return shift_round(f * (f - B) + C, (t >> GRID) + EXP_SHIFT)


def distances(scores: IntArray) -> IntArray:
    """Return how far each score lies below its row's maximum: bytes of bytes, else int32.

    A byte holds every difference of two of them, and arithmetic modulo 256 finds it.
    """
    top = scores.max(-1, keepdims=True)
    if scores.itemsize == 1:
        return np.asarray(top.view(np.uint8) - scores.view(np.uint8))
    return np.asarray(top.astype(np.int32) - scores)


def by_window(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return `mask` [W, N, N] as one for scores [B W, H, N, N] of `shape`; one of that shape as
    it is."""
    if mask.shape == shape:
        return mask
    windows = (shape[0] // len(mask), len(mask), *shape[1:])
    return np.broadcast_to(mask[:, None], windows).reshape(shape)


def exponential(below: IntArray, c: Any, arithmetic: Arithmetic) -> IntArray:
    """Return 16-bit exponentials, int32, of distances below a row's maximum, in codes.

    8-bit scores have 256 distances: FAST makes a table of them.
    """
    return arithmetic.elementwise(lambda n: exp2(octaves(n, c, arithmetic.requantize)), below)


def exponentials(
    x: IntArray, c: Any, arithmetic: Arithmetic, mask: Mask | None, exp: Exponential = exponential
) -> tuple[IntArray, IntArray]:
    """Return the exponentials of a row of scores, int32 [..., N], and their sum [..., 1].

    Where `mask` [W, N, N] is true the score does not exist: its exponential is 0 and it is not
    the maximum. The sum of a row of which nothing is left is 1.
    """
    gone = None if mask is None else by_window(mask, x.shape)
    scores = x if gone is None else np.where(gone, np.iinfo(x.dtype).min, x)
    e = exp(distances(scores), c, arithmetic)
    if gone is not None:
        e = np.where(gone, np.int32(0), e)
    return e, np.maximum(e.sum(-1, keepdims=True, dtype=np.int32), 1)


def softmax(
    x: IntArray,
    c: Any,
    arithmetic: Arithmetic,
    lo: int,
    hi: int,
    mask: Mask | None = None,
    exp: Exponential = exponential,
) -> IntArray:
    """Return codes of softmax over the last axis at the site's output scale, clipped to [lo, hi].

    `x` are score codes of 8 or 16 bits, `c` the constants of `plan`. Where `mask` [W, N, N] is
    true the score does not exist: probability 0. A row of which nothing is left is all 0.
    """
    e, total = exponentials(x, c, arithmetic, mask, exp)
    spare = arithmetic.bits(total) - SUM_BITS
    reciprocal = (np.int32(1) << RECIPROCAL) // shift_round(total, spare)
    scaled = shift_round(e * reciprocal, spare)
    return arithmetic.requantize(scaled, c.multiplier, c.shift, lo, hi)
