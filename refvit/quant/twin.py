"""Twin uniform quantization: two steps in one code, a fine one where the values are crowded.

PTQ4ViT (Yuan et al. 2022, section 3.2) gives a code of k bits one bit that names a range, and k - 1
bits within it. After softmax R1 = [0, split] is fine and R2 = [0, 1] coarse; after GELU the
negatives, which end at -0.17, are R1 and the others R2. The coarse step is the fine one times
2**m, so a shift by m brings both to one integer scale: `aligned`.

Three things differ from the released code.

1. Its softmax adds Q(clamp(x, split, 1)) and Q(clamp(x, 0, split)), which counts the split twice:
   at 8 bits and split 1/8 every probability gains 0.126. Mean square errors with the best split,
   on 512 rows of 197 tokens, softmax of normal scores of deviation 2:

       bits   released   paper's x < split   here      uniform over [0, 1]
       8      2.1e-6     8.4e-8              8.4e-8    7.9e-7
       6      1.3e-5     1.2e-6              1.2e-6    6.8e-6
       4      5.7e-5     1.4e-5              1.3e-5    4.2e-5

2. The paper takes R2 from the split on. Just above it the nearest coarse value can lie far below,
   at worst at 0, so that the rule is not monotone. All coarse values up to the split are fine
   values too; hence one comparison finds the nearest value of all, with the border half-way
   between the split and the first coarse value beyond it. With scores of deviation 1 at 4 bits
   that halves the error, from 1.0e-5 to 4.8e-6.
3. Its GELU steps have any ratio, so no shift aligns them. The paper fixes the negative step, which
   leaves octaves alone to the positive one and costs up to 2.2 times the error. Here the positive
   step is searched, and the negative one is the least of its halvings that still reaches the
   minimum of GELU: 0 to 8 % more error than with the released steps.

The codes that `utils/integer.py` of the release exports collide, +k and -k after GELU among them;
these do not. A searched uniform grid is beaten on probabilities, but for flat rows at 4 bits, of
which it makes 3.1e-6 at deviation 1, as R2 always ends at 1. After GELU, for inputs of mean -0.5
and deviation 0.5 to 3, a symmetric one is beaten 1.1 to 3.3 times at 4 and 6 bits; an asymmetric
one, whose ends are searched each alone, is better than these where the deviation is 1 and more.

The engine runs these codes: `narrow` behind the kernel of softmax or GELU, which it runs to the
fine scale, and `aligned` before the product that reads them (specification, clauses 1.5 and 3.8).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.histogram import Histogram, square_error
from refvit.quant.observers import parts

FloatArray = NDArray[Any]
IntArray = NDArray[Any]

GELU_LEAST = 0.16997120747990369  # of GELU, negated, at x = -0.7517915
SPLITS = 20  # the release tries 2**0 .. 2**-19
WIDEST_SHIFT = 24  # 7 bits << 24 are 31


@dataclass(frozen=True)
class TwinGrid:
    """Codes of `bits` bits, R1 in steps of `scale`, R2 in steps of `scale * 2**shift`.

    Unsigned, for softmax: the greatest bit of a code is set in R2, and both count 0 .. n, with
    n = 2**(bits-1) - 1. Signed, for GELU: codes below 0 are R1, the others R2.

    >>> grid = TwinGrid(2.0**-3 / 7, shift=3, bits=4)  # split at 1/8
    >>> grid.encode(np.array([0.0, 0.02, 0.125, 0.3, 1.0]))
    array([ 0,  1,  7, 10, 15], dtype=uint8)
    >>> grid.aligned(np.array([0, 1, 7, 10, 15], np.uint8))
    array([ 0,  1,  7, 16, 56], dtype=int32)
    """

    scale: FloatArray
    shift: int
    bits: int
    signed: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"twin codes have 2 to 8 bits; asked for {self.bits}")
        if not 0 <= self.shift <= WIDEST_SHIFT:
            raise ValueError(f"a shift of 0 to {WIDEST_SHIFT} fits int32; asked for {self.shift}")
        if not (np.ndim(self.scale) == 0 and np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"a twin grid has one scale, positive and finite; got {self.scale}")
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float64))

    @property
    def steps(self) -> int:
        """The greatest count within a range."""
        return (1 << (self.bits - 1)) - 1

    @property
    def lo(self) -> int:
        return -self.steps - 1 if self.signed else 0

    @property
    def hi(self) -> int:
        return self.steps if self.signed else 2 * self.steps + 1

    @property
    def range(self) -> tuple[int, int]:
        """The least and greatest integer that stands for a value, in units of `scale`."""
        return self.lo, self.steps << self.shift

    @property
    def border(self) -> int:
        """Twice where R2 begins, in fine steps: half-way to the first coarse value not in R1; 0
        where signed."""
        beyond = ((self.steps >> self.shift) + 1) << self.shift
        return 0 if self.signed else self.steps + beyond

    def with_scale(self, scale: Any) -> TwinGrid:
        return replace(self, scale=scale)

    def encode(self, x: FloatArray) -> IntArray:
        """Return the codes of the nearest values, int8 or uint8; ties as in `QParams`."""
        fine = np.asarray(x / np.asarray(self.scale, x.dtype))
        return self._codes(2 * fine >= self.border, np.rint(fine), np.rint(fine / 2**self.shift))

    def narrow(self, integers: IntArray, guard: int = 0) -> IntArray:
        """Return the codes of int32 integers in units of `scale` with `guard` fraction bits, as an
        integer kernel gives them, of which the greatest plus half a coarse step fits int32.

        One comparison and one rounding shift; of values of the grid it is the inverse of `aligned`.
        A sum of integers that are not negative grows at most by the part 2**shift / border, where
        there are no guard bits.
        """
        x = integers.astype(np.int32)
        near, far = ((x + np.int32(1 << s >> 1)) >> s for s in (guard, guard + self.shift))
        return self._codes(x >= (self.border << guard) + 1 >> 1, near, far)

    def _codes(self, far: Any, fine: Any, coarse: Any) -> IntArray:
        count = np.clip(np.where(far, coarse, fine), self.lo, self.steps)
        if self.signed:
            return np.asarray(count).astype(np.int8)
        return np.asarray(count + far * (self.steps + 1)).astype(np.uint8)

    def aligned(self, codes: IntArray) -> IntArray:
        """Return int32 integers in units of `scale`, by one shift: `decode` is scale * aligned."""
        near, far = self.counts(codes)
        return np.asarray(near + (far << self.shift))

    def counts(self, codes: IntArray) -> tuple[IntArray, IntArray]:
        """Return the counts of R1, 0 elsewhere, and those of R2, 0 elsewhere: int32."""
        c = codes.astype(np.int32)
        far = c >= 0 if self.signed else c > self.steps
        return np.where(far, 0, c), np.where(far, c & self.steps, 0)

    def integer_product(self, codes: IntArray, v: IntArray) -> IntArray:
        """Return int64 `aligned(codes) @ v` of codes [..., M, K], v [..., K, N], two accumulators.

        Each sums K products of at most 2**(bits-1) max|v|, as a uniform grid of as many bits does;
        their sum, one of them shifted, needs up to `shift` bits more. Times `scale` and that of v
        it is the product of the reals, exactly.
        """
        near, far = (count.astype(np.int64) @ v for count in self.counts(codes))
        return np.asarray(near + (far << self.shift))

    def decode(self, codes: IntArray, dtype: Any) -> FloatArray:
        return np.asarray(np.take(self.values(dtype), codes, mode="wrap"))

    def values(self, dtype: Any) -> FloatArray:
        """Return what the codes stand for, 0 first and those below 0 last, where they count from
        the end: a table is faster than the formula."""
        codes = np.roll(np.arange(self.lo, self.hi + 1), self.lo)
        return np.asarray(self.aligned(codes).astype(dtype) * np.asarray(self.scale, dtype))

    def round(self, x: FloatArray) -> FloatArray:
        return self.decode(self.encode(x), x.dtype)


def twin_softmax(seen: Histogram, bits: int) -> TwinGrid:
    """Return the grid of probabilities whose split 2**-m, m < 20, has the least square error.

    R2 covers [0, 1] whatever was seen, so that no probability is ever cut off.

    >>> seen = Histogram(); seen.update(np.array([0.01, 0.02, 0.05, 0.92]))
    >>> grid = twin_softmax(seen, bits=4); grid.shift, grid.range
    (4, (0, 112))
    """
    return min(splits(bits), key=lambda grid: square_error(grid, seen))


def splits(bits: int) -> list[TwinGrid]:
    """Return the grids of probabilities of every split."""
    n = (1 << (bits - 1)) - 1
    return [TwinGrid(np.asarray(2.0**-m / n), m, bits) for m in range(SPLITS)]


def twin_gelu(seen: Histogram, bits: int) -> TwinGrid:
    """Return the signed grid of GELU's output whose positive step has the least square error.

    The positive ends tried are `parts()` of the greatest value seen; the negative step is the least
    2**-m of the positive one that reaches -0.17.

    >>> seen = Histogram(); seen.update(np.array([-0.17, -0.1, 0.3, 5.0]))
    >>> grid = twin_gelu(seen, bits=8); grid.shift, grid.encode(np.array([-0.17, 5.0]))
    (4, array([-69, 127], dtype=int8))
    """
    steps = seen.hi * parts() / ((1 << (bits - 1)) - 1)
    return min(with_steps(steps, bits), key=lambda grid: square_error(grid, seen))


def with_steps(steps: FloatArray, bits: int) -> list[TwinGrid]:
    """Return the grids of GELU's output of these positive steps, or of the least that are aligned;
    the negative step is the least of its halvings that reaches -0.17."""
    least = GELU_LEAST / (1 << (bits - 1))
    steps = np.maximum(steps, least)
    shifts = np.floor(np.log2(steps / least)).astype(int)
    return [
        TwinGrid(np.asarray(step / 2.0**m), int(m), bits, signed=True)
        for step, m in zip(steps, shifts, strict=True)
    ]


def others(grid: TwinGrid, factors: FloatArray) -> list[TwinGrid]:
    """Return the grids that a search tries in place of `grid`: after softmax all splits, after GELU
    `factors` times its positive step."""
    if grid.signed:
        return with_steps(grid.scale * 2.0**grid.shift * factors, grid.bits)
    return splits(grid.bits)
