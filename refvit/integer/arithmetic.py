"""Two ways to the same integers: `PLAIN` int32 loops, and `FAST` BLAS that is exact by proof.

A float holds an integer exactly up to 2**24 (float32) or 2**53 (float64). A dot product of K
codes stays below `K * max|a| * max|b|` at every partial sum, in any order and on any number of
threads, so it is exact in float32 while that is at most 2**24 and in float64 far beyond; a longer
K is cut into pieces that are. Likewise `acc * multiplier` of at most 28 and 24 bits, plus the
half, is exact in float64. So FAST is not an emulation that happens to agree: it cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from refvit.integer.fixedpoint import bit_length, i_sqrt, requantize

IntArray = NDArray[Any]
FLOAT32_EXACT = 1 << 24
PRODUCT_EXACT = 1 << 28  # times a 24-bit multiplier, plus a half: below 2**53
BLOCK = 1 << 15  # elements requantized at a time: 256 KB of float64
ROWS = 1 << 18  # elements of whole rows at a time: fewer, and the work on a row's figures dominates


class Requantize(Protocol):
    def __call__(
        self,
        acc: Any,
        multiplier: IntArray,
        shift: IntArray,
        lo: int,
        hi: int,
        bias: IntArray | None = None,
    ) -> IntArray: ...


class Matmul(Protocol):
    def __call__(self, a: IntArray, b: IntArray, most: tuple[int, int] | None = None) -> Any: ...


class Arithmetic(NamedTuple):
    """`matmul(a, b)` of integers to accumulators, `requantize`, a unary kernel on codes, and the
    bit length and the root of a row's figures."""

    matmul: Matmul
    requantize: Requantize
    elementwise: Callable[[Callable[[IntArray], IntArray], IntArray], IntArray]
    bits: Callable[[IntArray], IntArray]
    root: Callable[[IntArray], IntArray]

    def __repr__(self) -> str:
        return "PLAIN" if self.matmul is plain_matmul else "FAST"


@cache
def largest_code(dtype: np.dtype[Any]) -> int:
    """Return max|code| of an integer type: 128 for int8, 255 for uint8."""
    info = np.iinfo(dtype)
    return max(-int(info.min), int(info.max))


def plain_matmul(a: IntArray, b: IntArray, most: tuple[int, int] | None = None) -> IntArray:
    """Return `a @ b` in int32: the meaning of the product of integers."""
    return np.asarray(np.matmul(a.astype(np.int32), b.astype(np.int32)))


def fast_matmul(a: IntArray, b: IntArray, most: tuple[int, int] | None = None) -> NDArray[Any]:
    """Return `a @ b` as floats that are exactly those integers, by BLAS.

    Float32 where a piece of K of at least 64 is exact in it, else float64. `most` are max|a| and
    max|b|, where more is known of them than their types: of 9 bits less a zero point, 255.
    """
    largest, other = most or (largest_code(a.dtype), largest_code(b.dtype))
    product = largest * other
    inner = a.shape[-1]
    piece = FLOAT32_EXACT // product
    if piece < min(inner, 64):
        return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))
    if piece >= inner:
        return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32)))
    total = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
    for k in range(0, inner, piece):
        part = slice(k, k + piece)
        total += np.matmul(a[..., part].astype(np.float32), b[..., part, :].astype(np.float32))
    return total


def fast_requantize(
    acc: Any, multiplier: IntArray, shift: IntArray, lo: int, hi: int, bias: IntArray | None = None
) -> IntArray:
    """Return the same as `requantize`, in float64 where it is exact and in int64 elsewhere."""
    flat = acc.reshape(-1, acc.shape[-1])
    out = np.empty(flat.shape, code_dtype(lo, hi))
    factor = np.ldexp(multiplier.astype(np.float64), -shift)
    half = 0.5 if bias is None else bias * factor + 0.5
    rows = max(1, BLOCK // max(1, flat.shape[1]))
    buffer = np.empty((min(rows, len(flat)), flat.shape[1]))
    reach, steepest = _largest(bias), float(np.abs(factor).max())
    for i in range(0, len(flat), rows):
        part = flat[i : i + rows]
        bound = _bound(part) + reach
        if bound > PRODUCT_EXACT:
            whole = part.astype(np.int64)
            out[i : i + rows] = requantize(whole, multiplier, shift, lo, hi, bias)
            continue
        scaled = buffer[: len(part)]
        np.copyto(scaled, part)
        scaled *= factor
        scaled += half
        np.floor(scaled, out=scaled)
        if bound * steepest >= min(-lo, hi):  # else nothing can saturate
            np.clip(scaled, lo, hi, out=scaled)
        np.copyto(out[i : i + rows], scaled, casting="unsafe")
    return out.reshape(acc.shape)


def _bound(acc: Any) -> int:
    """The greatest |acc|: known of float32, which `fast_matmul` gives only below 2**24, and of
    codes by their type."""
    if acc.dtype == np.float32:
        return FLOAT32_EXACT
    return largest_code(acc.dtype) if acc.itemsize < 4 else max(-int(acc.min()), int(acc.max()))


def in_rows(kernel: Callable[..., IntArray], *arrays: IntArray) -> IntArray:
    """Return `kernel(*arrays)` for a kernel of rows, arrays [..., C] alike, cut into blocks."""
    first = arrays[0]
    rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
    step = max(1, ROWS // first.shape[-1])
    if len(rows[0]) <= step:
        return kernel(*arrays)
    blocks = (slice(i, i + step) for i in range(0, len(rows[0]), step))
    return np.concatenate([kernel(*(part[i] for part in rows)) for i in blocks]).reshape(
        first.shape
    )


def _largest(bias: IntArray | None) -> int:
    return 0 if bias is None else max(-int(bias.min()), int(bias.max()))


@cache
def code_dtype(lo: int, hi: int) -> np.dtype[Any]:
    """Return the narrowest integer type that holds [lo, hi].

    >>> code_dtype(-8, 7), code_dtype(0, 255), code_dtype(-32768, 32767)
    (dtype('int8'), dtype('uint8'), dtype('int16'))
    """
    kind = "uint" if lo >= 0 else "int"
    for width in (8, 16, 32):
        info = np.iinfo(f"{kind}{width}")
        if info.min <= lo and hi <= info.max:
            return np.dtype(f"{kind}{width}")
    raise AssertionError(f"[{lo}, {hi}] is wider than 32 bits")


def direct(kernel: Callable[[IntArray], IntArray], codes: IntArray) -> IntArray:
    """Run a unary kernel on every code."""
    return kernel(codes)


def tabulated(kernel: Callable[[IntArray], IntArray], codes: IntArray) -> IntArray:
    """Run a unary kernel once on each of the 256 codes of an 8-bit type, then look up."""
    if codes.itemsize > 1:
        return kernel(codes)
    unsigned = np.arange(256, dtype=np.uint8)  # bytes index the table whatever their sign
    return np.take(kernel(unsigned.view(codes.dtype)), codes.view(np.uint8))


def fast_bits(x: IntArray) -> IntArray:
    """Return the same as `bit_length`: the exponent of a float64, which holds an int32 exactly."""
    return np.asarray(np.frexp(x.astype(np.float64))[1])


def fast_root(n: IntArray) -> IntArray:
    """Return the same as `i_sqrt`. A root that is no integer is at least 2**-17 from one, and
    float64 errs by less than 2**-37 below 2**31."""
    return np.sqrt(n.astype(np.float64)).astype(np.int32)


PLAIN = Arithmetic(plain_matmul, requantize, direct, bit_length, i_sqrt)
FAST = Arithmetic(fast_matmul, fast_requantize, tabulated, fast_bits, fast_root)
