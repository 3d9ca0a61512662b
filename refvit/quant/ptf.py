"""Power-of-two factors: one step for all channels of LayerNorm's input, shifted for each.

FQ-ViT (Lin et al. 2022, section 3.3, equations 9 and 10): the channels of the residual stream
differ in size by orders of magnitude, so each channel c takes the step S1 * 2**alpha_c, alpha_c of
0 .. 3, with the least square error; all share S1 and one zero point. LayerNorm needs the sums of a
row in one unit, and `aligned` gives them by a shift of each channel: nothing is multiplied by a
factor of its own. Step 3 is that of the whole tensor's range, S8, and S1 is an eighth of it.

The zero point is that of S8 for every alpha, in the release as here (issue 34 there asks why): in
steps of S1 the tensor's range has eight times the codes, and its zero point would not be one.

What the release does next is no integer arithmetic. The mean and the deviation of each token, and
from them M, N and B of "M q + B, shifted right by N", are float tensors made at run time.
refvit's LayerNorm kernel takes the aligned integers as they are: 8 bits, a shift of 3 and the zero
point make 12, and 16 are allowed.

The engine runs these codes, if their zero point is 0. A linear has a factor for
each channel anyway; where `add` writes the stream, `narrow` rounds each channel once, by the guard
bits of the addition and its alpha. What reads the stream, the next `layer_norm` and `add`, starts
with `aligned` (specification, clauses 1.5 and 3.8). The 16 bits that the presets give to the stream
are finer than the finest of these 8 by 2**5.

Of 256 tokens of 96 channels, log-normal in size and one of them 40 times larger, the mean square
error in units of each channel's variance is 0.028 at 8 bits, where one step for all leaves 0.53.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import code_range, covering
from refvit.quant.histogram import finite_ends

FloatArray = NDArray[Any]
IntArray = NDArray[Any]

ALPHAS = (0, 1, 2, 3)


@dataclass(frozen=True)
class PowerOfTwoFactor:
    """Codes of values [..., C]: `real = scale * ((code - zero_point) << alpha[c])`.

    >>> grid = PowerOfTwoFactor(0.5, alpha=np.array([0, 3]), bits=8, zero_point=128)
    >>> codes = grid.encode(np.array([[1.0, 8.0], [-1.5, 400.0]])); codes.tolist()
    [[130, 130], [125, 228]]
    >>> grid.aligned(codes).tolist()
    [[2, 16], [-3, 800]]
    """

    scale: FloatArray
    alpha: IntArray
    bits: int = 8
    zero_point: int = 0
    signed: bool = False

    def __post_init__(self) -> None:
        alpha = np.asarray(self.alpha)
        if not 2 <= self.bits <= 16:
            raise ValueError(f"codes have 2 to 16 bits; asked for {self.bits}")
        if alpha.ndim != 1 or alpha.dtype.kind not in "iu" or not np.isin(alpha, ALPHAS).all():
            raise ValueError(f"one factor of 0 to {ALPHAS[-1]} for each channel; got {alpha}")
        if not (np.ndim(self.scale) == 0 and np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"one scale, positive and finite; got {self.scale}")
        if not self.lo <= self.zero_point <= self.hi:
            found = f"{self.lo} to {self.hi}; got {self.zero_point}"
            raise ValueError(f"the zero point is a code of {found}")
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float64))
        object.__setattr__(self, "alpha", alpha.astype(np.int32))

    @property
    def lo(self) -> int:
        return code_range(self.bits, self.signed)[0]

    @property
    def hi(self) -> int:
        return code_range(self.bits, self.signed)[1]

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest integer that stands for a value, in units of `scale`."""
        most = int(self.alpha.max())
        return (self.lo - self.zero_point) << most, (self.hi - self.zero_point) << most

    def encode(self, x: FloatArray) -> IntArray:
        steps = np.rint(x / (self.scale * 2.0**self.alpha).astype(x.dtype))
        return self._held(np.clip(steps + self.zero_point, self.lo, self.hi))

    def aligned(self, codes: IntArray) -> IntArray:
        """Return int32 integers in units of `scale`, by one shift for each channel."""
        return np.asarray((codes.astype(np.int32) - self.zero_point) << self.alpha)

    def narrow(self, integers: IntArray, guard: int = 0) -> IntArray:
        """Return the codes of int32 integers [..., C] in units of `scale` with `guard` fraction
        bits, each rounded once, ties up; half of the widest step on top fits int32.

        >>> grid = PowerOfTwoFactor(1.0, np.array([0, 3]), signed=True)
        >>> grid.narrow(np.array([[5, 5], [-2, 12]])).tolist()
        [[5, 1], [-2, 2]]
        """
        shift = self.alpha + np.int32(guard)
        steps = (integers.astype(np.int32) + ((np.int32(1) << shift) >> 1)) >> shift
        return self._held(np.clip(steps + self.zero_point, self.lo, self.hi))

    def _held(self, codes: Any) -> IntArray:
        kind = f"{'int' if self.signed else 'uint'}{8 if self.bits <= 8 else 16}"
        return np.asarray(codes.astype(kind))

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        return np.asarray(self.aligned(codes).astype(dtype) * np.asarray(self.scale, dtype))

    def round(self, x: FloatArray) -> FloatArray:
        return self.decode(self.encode(x), x.dtype)


class Channels:
    """The observer that keeps channels: the ends of all values, and rows of the last value.

    As in the release, which takes the range from all images and the errors from the last batch.
    At most `rows` of them are kept, evenly taken.
    """

    def __init__(self, rows: int = 1024) -> None:
        self.rows = rows
        self.lo, self.hi = np.inf, -np.inf
        self.sample: FloatArray = np.empty((0, 0))

    def update(self, x: FloatArray) -> None:
        lo, hi = finite_ends(x)
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        tokens = x.reshape(-1, x.shape[-1])
        self.sample = tokens[:: -(-len(tokens) // self.rows)].copy()

    def range(self, bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        return self.lo, self.hi


def power_of_two_factor(
    seen: Channels, bits: int = 8, *, signed: bool = False, symmetric: bool = False
) -> PowerOfTwoFactor:
    """Return the grid of the range seen, each channel's factor that of least square error.

    >>> seen = Channels(); seen.update(np.array([[0.1, 100.0], [-0.3, -50.0]]))
    >>> power_of_two_factor(seen, bits=8).alpha.tolist()
    [0, 3]
    """
    whole = covering(seen.lo, seen.hi, bits, symmetric=symmetric, signed=signed)
    x = seen.sample.astype(np.float64)
    alike = [
        PowerOfTwoFactor(whole.scale / 8, np.full(x.shape[1], alpha), bits, int(whole.zero_point),
                         signed)
        for alpha in ALPHAS
    ]  # fmt: skip
    errors = np.stack([np.square(grid.round(x) - x).mean(0) for grid in alike])
    return replace(alike[0], alpha=np.argmin(errors, axis=0))
