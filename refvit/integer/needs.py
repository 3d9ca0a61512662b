"""`Need`: what a constant of an engine must be, so that a file which says otherwise is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.fixedpoint import INT32, MAX_SHIFT, MULTIPLIER_BITS


@dataclass(frozen=True)
class Need:
    """A tensor of one of `kinds` (names of dtypes) and of `shape`, its values in [lo, hi].

    >>> SHIFT.check("s.shift", np.array(60, np.int32))
    Traceback (most recent call last):
    ValueError: s.shift lies in [60, 60], it must in [1, 53]
    """

    kinds: tuple[str, ...]
    shape: tuple[int, ...]
    lo: int
    hi: int

    def of(self, shape: tuple[int, ...]) -> Need:
        """Return the same for another shape."""
        return replace(self, shape=shape)

    def check(self, name: str, tensor: NDArray[Any]) -> None:
        """Raise ValueError, naming the tensor, unless it is what is needed."""
        if tensor.dtype.name not in self.kinds or tensor.shape != self.shape:
            found, wanted = f"{tensor.dtype} {list(tensor.shape)}", " or ".join(self.kinds)
            raise ValueError(f"{name} is {found}, it must be {wanted} {list(self.shape)}")
        lo, hi = int(np.min(tensor)), int(np.max(tensor))
        if lo < self.lo or hi > self.hi:
            raise ValueError(f"{name} lies in [{lo}, {hi}], it must in [{self.lo}, {self.hi}]")


LARGEST = (1 << MULTIPLIER_BITS) - 1
MULTIPLIER = Need(("int32",), (), -LARGEST, LARGEST)
SHIFT = Need(("int32",), (), 1, MAX_SHIFT)
COUNT = Need(("int32",), (), *INT32)


def small(lo: int, hi: int) -> Need:
    """Return the need of one int32 within [lo, hi]."""
    return Need(("int32",), (), lo, hi)


def factors(*prefixes: str) -> dict[str, Need]:
    """Return the needs of one factor, of a kernel and so not below 0, for each prefix of its two
    names: what is proved of a row of probabilities is proved of such."""
    return {
        f"{prefix}{name}": need
        for prefix in prefixes
        for name, need in (("multiplier", small(0, LARGEST)), ("shift", SHIFT))
    }
