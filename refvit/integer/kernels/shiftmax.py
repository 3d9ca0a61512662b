"""Shiftmax and ShiftGELU of I-ViT (Li and Gu 2023, sections 3.3 and 3.4), with ranges derived.

exp(x) is 2**(1.4375 x), 1.4375 by shifts; the integer part of the exponent is a shift, and on its
fraction 2**t is 1 + t/2: up to 6.2 % off, and 0.36 % more for each e-fold. What the release sets
by hand follows here from the ranges: `octaves` (15 and 23 there) is the greatest for which the
sums fit int32, at most those. Three more things differ, because int32 does not allow or survive
them: a row's maximum is at least 0 in ShiftGELU (a negative one makes the release shift left,
beyond int32), its division keeps 14 bits (the release's quotient has 6 to 25 levels), and the
result is requantized to the site's label. Shiftmax keeps its coarse quotient: of 197 equal scores
at scale 1/127 it is 2 for 2.6, and a quarter of the mass is lost. The floors are the release's.
Specification, clause 5.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import Arithmetic
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import INT32, dyadic, real_of, shift_round
from refvit.integer.kernels.softmax import ROW_SUM, by_window, row_sum
from refvit.integer.needs import Need, factors, small
from refvit.params import Params

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]

SOFTMAX_OCTAVES, GELU_OCTAVES = 15, 23  # the released constants
LEAST = 6  # octaves below which exp has no tail left
SIGMOID = 1.702  # GELU(x) ~ x sigmoid(1.702 x)
DIVIDEND = 2**31 - 1
SHARE = 14  # bits of the sum and of its reciprocal in ShiftGELU


def unit_of(scale: float) -> int:
    """Return the codes that make one octave: -floor(-1 / scale), the floor of the release."""
    return -math.floor(-1 / scale)


def octaves_of(site: str, unit: int, terms: int, most: int) -> int:
    """Return the greatest n <= `most` for which `terms` exponentials, unit 2**n each, fit int32.

    Raises OverflowError where fewer than 6 octaves of the exponential are left.
    """
    octaves = min(most, (DIVIDEND // (max(terms, 2) * unit)).bit_length() - 1)
    if octaves < LEAST:
        raise OverflowError(
            f"{site}: {terms} exponentials of {unit} steps an octave leave {octaves} octaves of "
            "int32; give this site's input fewer bits, or compile with kernels='refvit'"
        )
    return octaves


def shift_exp(below: IntArray, unit: IntArray, octaves: IntArray) -> IntArray:
    """Return floor(2**(octaves - below / unit log2 e) unit) by shifts: int32 of int32 below >= 0.

    ShiftExp, Li and Gu 2023, Algorithm 1; half a step that the release keeps as a fraction is
    kept here as one more bit.
    """
    p = -below
    p = np.maximum(p + (p >> 1) - (p >> 4), -octaves * unit)
    z = -p // unit
    fraction = p + z * unit  # in (-unit, 0]
    return np.asarray((fraction + 2 * unit) << (octaves - z) >> 1)


def plan(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one Shiftmax and the proof that its integers fit."""
    unit = unit_of(scale)
    octaves = octaves_of(site, unit, tokens, SOFTMAX_OCTAVES)
    out = dyadic(2.0**-31 / out_scale, site)
    names = ("unit", "octaves", "multiplier", "shift")
    values = (np.int32(unit), np.int32(octaves), *out)
    constants = dict(zip(names, map(np.asarray, values), strict=True))
    return constants, ranges(site, Params(constants), lo, hi, tokens)


def needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants of either operator must be."""
    whole = {"unit": small(1, INT32[1]), "octaves": small(LEAST, GELU_OCTAVES)}
    return factors("") | whole


def ranges(site: str, c: Any, lo: int, hi: int, tokens: int) -> list[Proof]:
    """Return the proofs of a Shiftmax with constants `c`, for any scores in [lo, hi]."""
    unit, octaves = int(c.unit), int(c.octaves)
    whole = 2.0**31 * float(real_of(c.multiplier, c.shift))
    return [
        prove_codes(site, lo, hi),
        prove(site, "1.4375 x", -3 * (hi - lo) // 2, 0, "give the scores fewer bits",
              why="1.5 times the range of the scores"),
        prove(site, "sum of exponentials", 0, max(tokens, 2) * unit << octaves, "use shorter rows",
              why=f"{tokens} tokens of ceil(1/scale) 2**{octaves}"),
        prove(site, "exponential x reciprocal", 0, DIVIDEND, FAULT,
              why="e <= sum, f <= 2**31 / sum"),
        prove(site, ROW_SUM, 0, row_sum(whole, tokens), "use shorter rows",
              why=f"probabilities sum to one, {tokens} roundings"),
    ]  # fmt: skip


def shiftmax(
    x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int, mask: Mask | None = None
) -> IntArray:
    """Return codes of softmax over the last axis at the site's output scale, clipped to [lo, hi].

    Where `mask` [W, N, N] is true the score does not exist: probability 0.
    """
    wide = x.astype(np.int32)
    gone = None if mask is None else by_window(mask, x.shape)
    if gone is not None:
        wide = np.where(gone, np.iinfo(x.dtype).min, wide)
    e = shift_exp(wide.max(-1, keepdims=True) - wide, c.unit, c.octaves)
    if gone is not None:
        e = np.where(gone, np.int32(0), e)
    total = np.maximum(e.sum(-1, keepdims=True, dtype=np.int32), 1)
    share = e * (np.int32(DIVIDEND) // total)
    return arithmetic.requantize(share, c.multiplier, c.shift, lo, hi)


def plan_gelu(
    site: str, scale: float, out_scale: float, lo: int, hi: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of one ShiftGELU and the proof that its integers fit."""
    unit = unit_of(scale * SIGMOID)
    octaves = octaves_of(site, unit, 2, GELU_OCTAVES)
    out = dyadic(scale * 2.0**-SHARE / out_scale, site)
    names = ("unit", "octaves", "multiplier", "shift")
    values = (np.int32(unit), np.int32(octaves), *out)
    constants = dict(zip(names, map(np.asarray, values), strict=True))
    return constants, gelu_ranges(site, Params(constants), lo, hi)


def gelu_ranges(site: str, c: Any, lo: int, hi: int) -> list[Proof]:
    """Return the proofs of a ShiftGELU with constants `c`, for any codes in [lo, hi]."""
    unit, octaves, largest = int(c.unit), int(c.octaves), max(-lo, hi)
    return [
        prove_codes(site, lo, hi),
        prove(site, "1.4375 x", -3 * (hi - lo) // 2, 0, "give the input fewer bits",
              why="1.5 times the range of the codes"),
        prove(site, "sum of two exponentials", 0, 2 * unit << octaves, FAULT,
              why=f"ceil(1/(1.702 scale)) 2**{octaves}, twice"),
        prove(site, "exponential x reciprocal", 0, 1 << (2 * SHARE), FAULT,
              why="14 bits by 14 bits"),
        prove(site, "x sigmoid", -largest << SHARE, largest << SHARE, "give the input fewer bits",
              why="the codes times 2**14"),
    ]  # fmt: skip


def shift_gelu(x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int) -> IntArray:
    """Return codes of x sigmoid(1.702 x) at the site's output scale, clipped to [lo, hi].

    The exponentials are those of x - m and of -m, m the maximum of the row [..., C]: so the result
    of one element depends on its neighbours, as in the release. Where m is more than `octaves`
    both reach their end and the sigmoid is 1/2.
    """
    q = x.astype(np.int32)
    top = np.maximum(q.max(-1, keepdims=True), 0)
    e = shift_exp(top - q, c.unit, c.octaves)
    total = e + shift_exp(top, c.unit, c.octaves)
    spare = arithmetic.bits(total) - SHARE
    reciprocal = (np.int32(1) << (2 * SHARE)) // shift_round(total, spare)
    sigmoid = shift_round(shift_round(e, spare) * reciprocal, SHARE)
    return arithmetic.requantize(q * sigmoid, c.multiplier, c.shift, lo, hi)
