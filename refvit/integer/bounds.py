"""Ranges proved, not hoped for: what every site's integers can be, for any input whatever.

NumPy wraps int32 silently, so the compiler asks here before it emits an operator. A range that
does not fit is an OverflowError that names the site, the range and what would mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[Any]

FAULT = "no recipe mends this: it is a fault of the kernel"


@dataclass(frozen=True)
class Proof:
    """At `site`, the value called `what` lies in [lo, hi] and is held in `width` bits; `why` says
    what determines the range."""

    site: str
    what: str
    lo: int
    hi: int
    width: int
    why: str = ""

    @property
    def bits(self) -> int:
        """The signed bits that [lo, hi] needs, sign included."""
        return 1 + max(
            (-self.lo - 1).bit_length() if self.lo < 0 else 0, max(self.hi, 0).bit_length()
        )


def prove(
    site: str, what: str, lo: int, hi: int, mend: str, width: int = 32, why: str = ""
) -> Proof:
    """Return the proof that [lo, hi] fits signed `width` bits; OverflowError if it does not.

    >>> prove("fc", "accumulator", -5, 300, "").bits
    10
    """
    assert lo <= hi, f"{site}: {what} has no range [{lo}, {hi}]"
    proof = Proof(site, what, int(lo), int(hi), width, why)
    if proof.bits > width:
        found = f"{what} range [{proof.lo}, {proof.hi}]"
        raise OverflowError(f"{site}: {found} does not fit int{width}; {mend}")
    return proof


def prove_codes(site: str, lo: int, hi: int) -> Proof:
    """Return the proof that a kernel's input fits int16, the widest it is made for: codes, or what
    codes with a zero point stand for."""
    also = "signed = true" if lo >= 0 else "symmetric = true and signed = true"
    mend = f"give the site that it reads at most 15 bits, or {also}, in the recipe"
    return prove(site, "input", lo, hi, mend, 16, "the grid of the input")


def dot_range(weight: IntArray, bias: IntArray | None, lo: int, hi: int) -> tuple[int, int]:
    """Return the least and greatest of `weight @ x + bias` over all codes lo <= x <= hi.

    Exact per output channel: each weight meets whichever end of the range is worse. The partial
    sums of any order lie in the range widened to include 0 and the bias alone.
    """
    w = weight.astype(np.int64)
    up, down = np.maximum(w * hi, w * lo).sum(1), np.minimum(w * hi, w * lo).sum(1)
    offset = np.zeros(1, np.int64) if bias is None else bias.astype(np.int64)
    low = min(0, int(down.min()), int((down + offset).min()))
    return low, max(0, int(up.max()), int((up + offset).max()))


def product_range(
    inner: int, a: tuple[int, int], b: tuple[int, int], total: int | None = None
) -> tuple[int, int]:
    """Return the range of a dot product of `inner` codes from [a] by codes from [b].

    If the codes of `a` are probabilities whose sum is at most `total`, that bounds it as well.
    """
    ends = [x * y for x in a for y in b]
    low, high = min(0, inner * min(ends)), max(0, inner * max(ends))
    if total is None:
        return low, high
    return max(low, min(0, total * b[0])), min(high, max(0, total * b[1]))


def widest(proofs: list[Proof]) -> Proof:
    """Return the proof that uses the greatest number of bits."""
    return max(proofs, key=lambda proof: (proof.bits, max(-proof.lo, proof.hi)))
