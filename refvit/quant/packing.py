"""Codes of fewer than eight bits, packed: two 4-bit codes to a byte, eight 3-bit codes to three."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import code_range

IntArray = NDArray[Any]


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes that `count` codes of `bits` bits take.

    >>> packed_bytes(5, 4), packed_bytes(8, 3)
    (3, 3)
    """
    if count < 0 or bits < 1:
        raise ValueError(f"there is no stream of {count} codes of {bits} bits")
    return -(-count * bits // 8)


def check_width(bits: int) -> None:
    """Raise ValueError for a width that is not packed: codes of more than a byte are kept whole."""
    if not 1 <= bits <= 8:
        raise ValueError(f"codes of 1 to 8 bits are packed; asked for {bits}")


def pack(codes: IntArray, bits: int) -> NDArray[np.uint8]:
    """Return the codes, in C order, as a stream of `bits` bits each, two's complement.

    The first code is in the lowest bits of the first byte; what is left of the last byte is 0.
    Raises ValueError for a width outside 1..8 and for codes that do not fit, signed or unsigned as
    their dtype.

    >>> pack(np.array([1, -2, 7], np.int8), 4)
    array([225,   7], dtype=uint8)
    """
    check_width(bits)
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes are integers; got {codes.dtype}")
    signed = np.issubdtype(codes.dtype, np.signedinteger)
    lo, hi = code_range(bits, bool(signed))
    if codes.size and (codes.min() < lo or codes.max() > hi):
        raise ValueError(f"codes in [{codes.min()}, {codes.max()}] do not fit {bits} bits")
    columns = np.unpackbits(codes.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    return np.packbits(columns[:, :bits], bitorder="little")


def unpack(
    stream: NDArray[np.uint8], bits: int, shape: tuple[int, ...], dtype: Any = np.int8
) -> IntArray:
    """Return the codes [*shape] of 8-bit `dtype` that `pack` wrote; ValueError for another length
    or a width outside 1..8.

    >>> unpack(np.array([225, 7], np.uint8), 4, (3,))
    array([ 1, -2,  7], dtype=int8)
    """
    check_width(bits)
    count = int(np.prod(shape))
    if stream.dtype != np.uint8 or stream.shape != (packed_bytes(count, bits),):
        raise ValueError(
            f"{count} codes of {bits} bits are {packed_bytes(count, bits)} bytes, found "
            f"{stream.dtype} {list(stream.shape)}"
        )
    columns = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    filled = np.zeros((count, 8), np.uint8)
    filled[:, :bits] = columns
    if np.issubdtype(dtype, np.signedinteger):
        filled[:, bits:] = columns[:, -1:]  # the sign
    return np.asarray(np.packbits(filled, axis=1, bitorder="little").view(dtype).reshape(shape))
