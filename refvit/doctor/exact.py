"""Exactness on trial: products of codes, requantization and an engine, against integers.

What is held to account is an `Arithmetic`: the engine's own, or one that a test has spoilt.
Expected values are int64 and Python's integers, and what `PLAIN` arithmetic gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit import data
from refvit.doctor.pinned import fixed
from refvit.integer import PLAIN, Arithmetic, compile
from refvit.integer.arithmetic import FLOAT32_EXACT, PRODUCT_EXACT
from refvit.integer.fixedpoint import INT32
from refvit.model import random
from refvit.quant import quantize_model

IntArray = NDArray[Any]
Layout = Callable[[IntArray], IntArray]


class Codes(NamedTuple):
    """Integers in [lo, hi], as they are held."""

    kind: Any
    lo: int
    hi: int

    @property
    def most(self) -> int:
        return max(-self.lo, self.hi)


INT8, UINT8 = Codes(np.int8, -128, 127), Codes(np.uint8, 0, 255)
INT16 = Codes(np.int16, -(2**15), 2**15 - 1)
NINE = Codes(np.int16, -255, 255)  # less a zero point, at either end
# Codes and lengths K of the products, by how `fast_matmul` makes them.
PRODUCTS: Mapping[str, tuple[Codes, Codes, tuple[int, ...]]] = {
    "int8 x int8": (INT8, INT8, (64, 197, 1024, 1025, 1536, 3072)),  # float32, cut at 1024
    "uint8 x int8": (UINT8, INT8, (64, 197, 514, 515, 1024, 1536)),  # float32, cut at 514
    "9 bits x int8": (NINE, INT8, (64, 514, 515, 1536)),  # float32, cut at 514
    "9 bits x 9 bits": (NINE, NINE, (64, 258, 259, 1024)),  # float32, cut at 258
    "int16 x int8": (INT16, INT8, (4, 64, 197, 1024, 3072)),  # float64; K = 4 in float32
    "int16 x int16": (INT16, INT16, (64, 1024, 1025)),  # float64
}
SHAPES = (((), 1, 1), ((), 1, 65), ((), 3, 5), ((2, 3), 17, 9), ((), 131, 67), ((), 64, 96))
LAYOUTS: Mapping[str, Layout] = {
    "C": np.ascontiguousarray,
    "F": lambda x: flipped(np.ascontiguousarray(flipped(x))),
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}
ORDERS = (("C", "C"), ("C", "F"), ("F", "C"), ("strided", "strided"))
# Multipliers and shifts: ties at every odd code, the ends of 24 bits, either sign, any shift.
FACTORS = ((1 << 23, 24), (1 << 23, 30), ((1 << 24) - 1, 25), ((1 << 24) - 3, 31), (10066330, 40),
           (-(1 << 23), 26), (-14680065, 28), ((1 << 23) + 1, 1), (9999991, 53))  # fmt: skip
BIAS = 1000
# What accumulators come as, and how great; PRODUCT_EXACT is where float64 gives way to int64.
END, TOP = PRODUCT_EXACT - BIAS, INT32[1] - BIAS
FORMS = ((np.int32, END), (np.float64, END), (np.int32, TOP), (np.float32, FLOAT32_EXACT),
         (np.int16, 2**15 - 1), (np.int8, 127))  # fmt: skip


def check_products(arithmetic: Arithmetic, codes: str) -> str:
    """Hold products of adversarial codes to int64, over lengths, shapes and memory orders."""
    one, other, lengths = PRODUCTS[codes]
    for inner in lengths:
        for batch, m, n in SHAPES:
            a, b = adversary(one, (*batch, m), inner), adversary(other, (*batch, n), inner)
            exact = np.matmul(a.astype(np.int64), flipped(b).astype(np.int64))
            for order in ORDERS:
                left, right = (LAYOUTS[name] for name in order)
                made = arithmetic.matmul(left(a), right(flipped(b)), (one.most, other.most))
                wrong = difference(made, exact)
                if wrong:
                    sizes = f"{[*batch, m, inner]} @ {[*batch, inner, n]}"
                    return f"{sizes} in orders {order[0]} and {order[1]}: {wrong}"
    return ""


def adversary(codes: Codes, rows: tuple[int, ...], inner: int) -> IntArray:
    """Return codes [*rows, inner] that make the greatest sums there are, and odd ones.

    In turn, a row is at the lower end of its range, at the upper, at either end in places that
    depend on the row alone, or anywhere. Row i is one code short of its end at place i, so that
    the sum of row i by column i is odd, which no float can hide beyond its mantissa.
    """
    count = math.prod(rows)
    low = codes.lo or codes.hi
    either = np.where(fixed((count, inner), 0, 1) == 1, low, codes.hi)
    made = fixed((count, inner), codes.lo, codes.hi)
    made[0::4], made[1::4], made[2::4] = low, codes.hi, either[2::4]
    i = np.arange(count)
    made[i, i % inner] -= np.sign(made[i, i % inner])
    return made.astype(codes.kind).reshape(*rows, inner)


def flipped(x: IntArray) -> IntArray:
    """Return a view of `x` with its last two axes exchanged."""
    return np.swapaxes(x, -1, -2)


def difference(got: Any, exact: IntArray) -> str:
    """Say where `got` is not `exact`, "" if nowhere."""
    wrong = np.argwhere(got != exact)
    if not len(wrong):
        return ""
    at = tuple(wrong[0].tolist())
    found = f"{float(got[at]):.16g} where {exact[at]} is right"
    return f"{len(wrong):,} of {exact.size:,} differ, at {list(at)} {found}"


def check_requantize(arithmetic: Arithmetic) -> str:
    """Hold requantization to Python's integers, at and beside ties: by channels, then by tensor."""
    near = np.array([np.resize(near_ties(m, s), 256) for m, s in FACTORS]).T
    for dtype, largest in FORMS:
        acc = np.clip(near, -largest, largest)
        for channels in (slice(None), *(slice(i, i + 1) for i in range(len(FACTORS)))):
            for lo, hi in ((-128, 127), (0, 255), INT32):
                wrong = requantized(arithmetic, acc[:, channels], channels, dtype, lo, hi)
                if wrong:
                    return f"{np.dtype(dtype)} to [{lo}, {hi}]: {wrong}"
    return ""


def requantized(
    arithmetic: Arithmetic, acc: IntArray, channels: slice, dtype: Any, lo: int, hi: int
) -> str:
    """Say how `acc`, held as `dtype`, comes out wrong: without and with a bias, also of PLAIN."""
    multiplier, shift = np.array(FACTORS, np.int32)[channels].T
    bias = fixed((len(FACTORS),), -BIAS, BIAS).astype(np.int32)[channels]
    for added in (None, bias):
        total = (acc if added is None else acc + added).astype(object)
        half_up = (2 * total * multiplier + (1 << shift.astype(object))) >> (shift + 1)
        exact = np.clip(half_up, lo, hi).astype(np.int64)
        for way, kind in ((arithmetic, dtype), (PLAIN, np.int32)):
            wrong = difference(
                way.requantize(acc.astype(kind), multiplier, shift, lo, hi, added), exact
            )
            if wrong:
                return wrong
    return ""


def near_ties(multiplier: int, shift: int) -> list[int]:
    """Return accumulators of every size whose products are at ties or beside them.

    Where the multiplier has an inverse modulo 2**shift, also those whose products are closest:
    2**-shift below or above a tie, which no rounding on the way survives.
    """
    found = []
    for bits in range(1, 32):
        for start in ((1 << bits) - bits, -(1 << bits) + bits):
            quotient = (start * multiplier) >> shift
            tie = ((2 * quotient + 1) << (shift - 1)) // multiplier
            found += [tie - 1, tie, tie + 1]
    if multiplier % 2 == 0 or shift > 31:
        return found
    inverse = pow(multiplier, -1, 1 << shift)
    for beside in (-1, 0, 1):
        place = ((1 << shift >> 1) + beside) * inverse
        found += [end - (end - place) % (1 << shift) for end in (TOP, END, FLOAT32_EXACT, -1)]
    return found


def check_figures(arithmetic: Arithmetic) -> str:
    """Hold roots and bit lengths to Python's, at every square and beside it and every power."""
    squares = np.arange(46341, dtype=np.int64) ** 2
    powers = np.int64(1) << np.arange(31)
    near = np.concatenate([x + beside for x in (squares, powers) for beside in (-1, 0, 1)])
    n = np.clip(near, 0, INT32[1]).astype(np.int32)
    roots, lengths = (np.array([fn(k) for k in n.tolist()]) for fn in (math.isqrt, int.bit_length))
    for way in (arithmetic, PLAIN):
        for what, got, exact in (("roots", way.root(n), roots), ("bits", way.bits(n), lengths)):
            if wrong := difference(got, exact):
                return f"{what}: {wrong}"
    return ""


def check_engine(arithmetic: Arithmetic) -> str:
    """Compile a small model and compare both arithmetics after every operator of one image."""
    model = random("nano_vit")
    pixels = model.preprocess.normalise(data.shapes10("calibration", 4)[0])
    engine = compile(quantize_model(model, pixels))
    codes = engine.encode(pixels[:1])
    plain: dict[str, IntArray] = {}
    fast: dict[str, IntArray] = {}
    engine.run(codes, PLAIN, plain.__setitem__)
    engine.run(codes, arithmetic, fast.__setitem__)
    wrong = ((site, difference(fast[site], plain[site])) for site in plain)
    return next((f"{site}: {found}" for site, found in wrong if found), "")
