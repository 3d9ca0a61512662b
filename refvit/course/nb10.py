"""The exercises of notebook 10: shifts, roots and means (Kim et al. 2021; Li and Gu 2023)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb10_more import MASS, NEAR
from refvit.course.nb10_softmax import ORDER, SOFTMAX
from refvit.integer.kernels.ivit_norm import newton_sqrt
from refvit.integer.kernels.released import ibert_gelu
from refvit.testing import strategies
from refvit.testing.extra import st

Array = NDArray[Any]


def least_shift(bits: int, reach: int) -> int:
    """Return the least shift n >= 0 at which the product of I-BERT's GELU fits int32.

    Codes of `bits` (4 to 22) span +-reach (1 to 16): the largest is top = 2**(bits - 1) - 1, the
    scale s is reach / top. The product is top times two units of L, 2 * 6.925 / s**2, shifted right
    by n: |top * 13.85 / s**2| / 2**n is to be below 2**31. Return a whole number.
    """
    top = 2 ** (bits - 1) - 1
    product = top * 2 * 6.925 / (reach / top) ** 2
    return max(0, int(np.ceil(np.log2(product))) - 31)


def _released(bits: int, reach: int) -> int:
    top, shift = 2 ** (bits - 1) - 1, 0
    while np.abs(ibert_gelu(top, reach / top, shift)[0]).max() >= 2**31:
        shift += 1
    return shift


def _product(bits: int, reach: int, units: float = 2, code: float = 0) -> float:
    top = 2 ** (bits - 1) - 1
    return math.log2((code or top) * units * 6.925 / (reach / top) ** 2)


SHIFT = Exercise(
    id="nb10.least_shift",
    title="the least shift of I-BERT's GELU",
    answer=least_shift,
    cases=st.tuples(st.integers(4, 22), st.integers(1, 16)),
    truth=_released,
    returns="shift",
    hints=(
        "How many bits has the product? np.log2 of it, rounded up by np.ceil.",
        "Shifting right by n takes n bits away; 31 may be left. A shift is never negative.",
    ),
    wrong=(
        Wrong("typed_in", "the 14 of the release, whatever the scale", lambda bits, reach: 14),
        Wrong("polynomial", "the polynomial alone: the product with the code is wider",
              lambda bits, reach: max(0, math.ceil(_product(bits, reach, code=1)) - 31)),
        Wrong("one_bit_less", "one bit too few: 1 + L reaches two units, a part of a bit needs "
              "a whole one, and the sign is one of the 32",
              lambda bits, reach: max(0, math.ceil(_product(bits, reach, 1)) - 31)),
        Wrong("whole_span", "a scale of 2 reach / top: top stands for reach, not for twice that",
              lambda bits, reach: max(0, math.ceil(_product(bits, 2 * reach)) - 31)),
        Wrong("scale_once", "a division by s where the polynomial is divided by s squared",
              lambda bits, reach: max(0, math.ceil(_product(bits, reach) + math.log2(
                  reach / (2 ** (bits - 1) - 1))) - 31)),
        Wrong("negative", "a negative shift where the product has bits to spare",
              lambda bits, reach: math.ceil(_product(bits, reach)) - 31),
    ),
)  # fmt: skip


def integer_root(n: Array) -> Array:
    """Return floor(sqrt(n)) as int32 [N] of int32 n [N], 0 <= n < 2**31.

    For hardware: integers only, and nothing beyond int32 on the way, a rule that is yours to keep,
    as the check sees roots only. The law: r*r <= n < (r+1)**2.
    """
    root = np.zeros_like(n)
    for bit in range(15, -1, -1):
        more = root | np.int32(1 << bit)
        root = np.where(more <= n // more, more, root)  # more * more could leave int32
    return root


def _exactly(n: Array) -> Array:
    return np.array([math.isqrt(k) for k in n.tolist()], np.int32)


def _bitwise(n: Array, strict: bool = False) -> Array:
    root = np.zeros_like(n)
    for bit in range(15, -1, -1):
        more = root | np.int32(1 << bit)
        with np.errstate(over="ignore"):
            square = more * more
        root = np.where(square < n if strict else square <= n, more, root)
    return root


def _steps_from_n(n: Array) -> Array:
    root = n.copy()
    for _ in range(30):
        root = (root + n // np.maximum(root, 1)) // 2
    return root


def _roots() -> Any:
    square = st.integers(1, 46340).map(lambda k: k * k)
    beside = st.builds(lambda n, step: n + step, square, st.sampled_from([-1, 0, 0, 1]))
    plain = st.integers(0, 20) | st.integers(0, 2**31 - 1) | st.just(2**31 - 1)
    numbers = st.lists(plain | beside, min_size=1, max_size=3)
    return st.tuples(numbers.map(lambda values: np.array(values, np.int32)))


ROOT = Exercise(
    id="nb10.integer_root",
    title="the root, by its law",
    answer=integer_root,
    cases=_roots(),
    edges=((np.array([46340**2, 46340**2 - 1, 2**31 - 1, 0], np.int32),),),
    truth=_exactly,
    returns="roots",
    hints=(
        "The root has 16 bits. Try them one by one from the highest: keep a bit if the square of "
        "what you have then is still at most n.",
        "The square of a root that is too large leaves int32. But more * more <= n means the same "
        "as more <= n // more.",
    ),
    wrong=(
        Wrong("ten_steps", "I-ViT's ten Newton steps from 2**16, too few where n is small",
              newton_sqrt),
        Wrong("nearest", "the nearest integer, where the root is rounded down",
              lambda n: np.rint(np.sqrt(n.astype(np.float64))).astype(np.int32)),
        Wrong("float32", "a root in float32, which takes k*k - 1 for k*k when k is large",
              lambda n: np.sqrt(n.astype(np.float32)).astype(np.int32)),
        Wrong("square_wraps", "a trial square that leaves int32: it wraps and seems small",
              _bitwise),
        Wrong("strict", "squares below n, where n itself may be a square",
              lambda n: np.minimum(_exactly(np.maximum(n - 1, 0)), _exactly(n))),
        Wrong("swings", "Newton's steps from n, a fixed number of them: at k*k - 1 they swing "
              "between k - 1 and k, so stop when they no longer fall", _steps_from_n),
        Wrong("float64", "a root in float64", lambda n: np.sqrt(n * 1.0).astype(np.int32),
              equivalent="float64 holds n exactly and its root errs by less than 2**-37, while a "
              "root that is no integer is 2**-17 from one: right, though no integer hardware"),
    ),
)  # fmt: skip


def centred(q: Array) -> Array:
    """Return y = C q - sum(q), exactly, as int32 [C], for codes q, int16 [C] with C up to 1024.

    That is C times (q - mean), and unlike the mean it is an integer.
    """
    wide = q.astype(np.int32)
    return np.asarray(len(q) * wide - wide.sum(), np.int32)


CENTRED = Exercise(
    id="nb10.centred",
    title="a mean that is not rounded",
    answer=centred,
    cases=st.tuples(st.lists(strategies.codes(16), min_size=1, max_size=6).map(
        lambda values: np.array(values, np.int16))),
    edges=((np.array([32767, 32767, -32768], np.int16),), (np.array([0, 1], np.int16),)),
    truth=lambda q: np.array([len(q) * k - sum(q.tolist()) for k in q.tolist()], np.int32),
    returns="y",
    hints=(
        "Cast q to int32 first: C times a code of 16 bits needs up to 26 bits.",
        "No mean and no division: len(q) * q - q.sum().",
    ),
    wrong=(
        Wrong("rounded_mean", "q less a rounded mean, which loses the part that was rounded off",
              lambda q: np.asarray(q - np.rint(q.mean()), np.int32)),
        Wrong("cut_mean", "q less the mean, cut to integers, which loses what the cut took off",
              lambda q: (q - q.mean()).astype(np.int32)),
        Wrong("times_rounded", "C times q less a rounded mean, which no factor mends",
              lambda q: np.asarray(len(q) * (q - np.rint(q.mean())), np.int32)),
        Wrong("wraps", "a product in int16, which wraps",
              lambda q: (q * np.int16(len(q))).astype(np.int32) - q.sum(dtype=np.int32)),
        Wrong("sum_wraps", "a sum in int16, which wraps",
              lambda q: len(q) * q.astype(np.int32) - q.sum(dtype=np.int16)),
        Wrong("sign", "the mean less q", lambda q: -centred(q)),
        Wrong("not_times_c", "q less the sum, which is C times the mean: so q has to be C times q",
              lambda q: np.asarray(q.astype(np.int32) - q.sum(dtype=np.int32), np.int32)),
    ),
)  # fmt: skip

EXERCISES = (SHIFT, NEAR, MASS, ORDER, CENTRED, ROOT, SOFTMAX)
