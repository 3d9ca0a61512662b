"""Tables: an operator on 8-bit codes has 256 results, so hardware may hold them in a memory.

The tables are filled by the kernels of the `refvit` profile, hence bit-identical to them. GELU is
one table of output codes, softmax one of exponentials of distances below the maximum. Codes of 16
bits have no table and go through the kernel. (A LayerNorm is no function of one code.)
Specification, clause 5.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import PLAIN, Arithmetic, code_dtype
from refvit.integer.bounds import FAULT, Proof, prove, prove_codes
from refvit.integer.fixedpoint import real_of
from refvit.integer.kernels import gelu, softmax
from refvit.integer.needs import Need, factors
from refvit.params import Params

IntArray = NDArray[Any]
Mask = NDArray[np.bool_]

INT16 = (-(2**15), 2**15 - 1)


def is_byte(lo: int, hi: int) -> bool:
    """Return whether codes in [lo, hi] are held in 8 bits."""
    return code_dtype(lo, hi).itemsize == 1


def plan_gelu(
    site: str, scale: float, out_scale: float, lo: int, hi: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of `gelu.plan`; for bytes, one table [256] of results before the clip.

    Its indices are the codes as unsigned bytes, its entries int16.
    """
    constants, proofs = gelu.plan(site, scale, out_scale, lo, hi)
    if not is_byte(lo, hi):
        return constants, proofs
    codes = np.clip(every_byte(lo, hi), lo, hi)  # of fewer than 8 bits, the rest never come
    results = gelu.gelu(codes, Params(constants), PLAIN, *INT16)
    return {"table": results.astype(np.int16)}, proofs


def gelu_needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants for codes in [lo, hi] must be: a table for bytes."""
    table = {"table": Need(("int16",), (256,), *INT16)}
    return table if is_byte(lo, hi) else gelu.needs(lo, hi)


def softmax_needs(lo: int, hi: int) -> dict[str, Need]:
    """Return what the constants for scores in [lo, hi] must be: a table for bytes."""
    table = {"table": Need(("uint16",), (256,), 0, softmax.TOP)} | factors("")
    return table if is_byte(lo, hi) else softmax.needs(lo, hi)


def gelu_ranges(site: str, c: Any, lo: int, hi: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: a table's results are its own range."""
    if c.get("table") is None:
        return gelu.ranges(site, c, lo, hi)
    ends, why = (c.table.min(), c.table.max()), "the entries of the table"
    return [prove_codes(site, lo, hi), prove(site, "table", *ends, FAULT, 16, why)]


def table_gelu(x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int) -> IntArray:
    """Return the codes that `gelu.gelu` does, looked up."""
    if c.get("table") is None:
        return gelu.gelu(x, c, arithmetic, lo, hi)
    return np.asarray(np.take(np.clip(c.table, lo, hi), x.view(np.uint8)))


def plan_softmax(
    site: str, scale: float, out_scale: float, lo: int, hi: int, tokens: int
) -> tuple[dict[str, IntArray], list[Proof]]:
    """Return the constants of `softmax.plan`; for bytes, a table [256] of exponentials, uint16.

    Its indices are the distances below a row's maximum.
    """
    constants, proofs = softmax.plan(site, scale, out_scale, lo, hi, tokens)
    if not is_byte(lo, hi):
        return constants, proofs
    below = np.arange(256, dtype=np.int32)
    e = softmax.exp2(softmax.octaves(below, Params(constants), PLAIN.requantize))
    kept = {name: constants[name] for name in ("multiplier", "shift")}
    return {"table": e.astype(np.uint16)} | kept, proofs


def softmax_ranges(site: str, c: Any, lo: int, hi: int, tokens: int) -> list[Proof]:
    """Return the proofs of a site with constants `c`: the greatest exponential is the table's."""
    if c.get("table") is None:
        return softmax.ranges(site, c, lo, hi, tokens)
    whole, top = 2.0**softmax.RECIPROCAL * float(real_of(c.multiplier, c.shift)), int(c.table.max())
    return [
        *softmax.sum_ranges(site, lo, hi, tokens, top),
        *softmax.share_ranges(site, whole, tokens, top),
    ]


def looked_up(below: IntArray, c: Any, arithmetic: Arithmetic) -> IntArray:
    """Return the exponentials that `softmax.exponential` does, from the table if there is one."""
    if c.get("table") is None:
        return softmax.exponential(below, c, arithmetic)
    return np.asarray(np.take(c.table, below).astype(np.int32))


def table_softmax(
    x: IntArray, c: Any, arithmetic: Arithmetic, lo: int, hi: int, mask: Mask | None = None
) -> IntArray:
    """Return the codes that `softmax.softmax` does, its exponentials looked up."""
    return softmax.softmax(x, c, arithmetic, lo, hi, mask, looked_up)


def every_byte(lo: int, hi: int) -> IntArray:
    """Return all 256 codes of an 8-bit type in the order of their bytes."""
    codes: IntArray = np.arange(256, dtype=np.uint8).view(code_dtype(lo, hi))
    return codes
