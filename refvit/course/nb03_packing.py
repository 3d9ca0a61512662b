"""The exercises of notebook 03 on packing: two codes of 4 bits in a byte, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
INT4 = st.integers(-8, 7)
CODES = draw.vectors(1, 6, INT4, np.int8)


def pack_nibbles(codes: Array) -> Array:
    """Return codes [n] (int8, each from -8 to 7, n >= 1) as bytes, uint8 [(n + 1) // 2], in two's
    complement: the first of two codes in the lower 4 bits, the second in the upper. Where the last
    has no partner, its upper 4 bits are 0.
    """
    lower = codes.view(np.uint8) & 15
    lower = np.append(lower, np.zeros(len(lower) % 2, np.uint8))
    return lower[0::2] | (lower[1::2] << 4)


def _low(codes: Array) -> Array:
    kept = codes.view(np.uint8) & 15
    return np.append(kept, np.zeros(len(kept) % 2, np.uint8))


def _unmasked(codes: Array) -> Array:
    even = np.append(codes, np.zeros(len(codes) % 2, np.int8)).astype(np.int8)
    return (even[0::2] | (even[1::2] << 4)).view(np.uint8)


def _sign_bit(codes: Array) -> Array:
    kept = _low((np.abs(codes) & 7 | np.where(codes < 0, 8, 0)).astype(np.int8))
    packed: Array = kept[0::2] | (kept[1::2] << 4)
    return packed


PACK = Exercise(
    id="nb03.pack_nibbles",
    title="two codes in a byte",
    answer=pack_nibbles,
    cases=st.tuples(CODES),
    truth=lambda codes: quant.pack(codes, 4),
    returns="bytes",
    edges=((np.array([-1, 0], np.int8),), (np.array([-8, -8, -1], np.int8),)),
    hints=(
        "codes.view(np.uint8) & 15 keeps the lower 4 bits of each code, -1 becomes 15.",
        "x[0::2] are the first of each two, x[1::2] the second; append a 0 where n is odd.",
        "lower[0::2] | (lower[1::2] << 4)",
    ),
    wrong=(
        Wrong("upper_first", "the first code in the upper 4 bits",
              lambda codes: (_low(codes)[0::2] << 4) | _low(codes)[1::2]),
        Wrong("unmasked", "a negative first code whose sign fills the upper 4 bits", _unmasked),
        Wrong("shifted", "codes moved to 0 to 15 by adding 8, which is not two's complement",
              lambda codes: _low(codes + np.int8(8))[0::2] | (_low(codes + np.int8(8))[1::2] << 4)),
        Wrong("sign_bit", "a sign bit and a magnitude, which is not two's complement", _sign_bit),
        Wrong("drops_odd", "a last code without partner that is lost",
              lambda codes: _low(codes[: len(codes) // 2 * 2])[0::2]
              | (_low(codes[: len(codes) // 2 * 2])[1::2] << 4)),
        Wrong("unsigned_wide", "bytes in a wider dtype",
              lambda codes: quant.pack(codes, 4).astype(np.int64)),
        Wrong("one_each", "a byte for every code", lambda codes: codes.view(np.uint8) & 15),
    ),
)  # fmt: skip


def unpack_nibbles(stream: Array, count: int) -> Array:
    """Return the `count` codes, int8 from -8 to 7, that are packed two to a byte in `stream`
    (uint8 [(count + 1) // 2]), the first of two in the lower 4 bits, in two's complement.
    """
    both = np.stack([stream & 15, stream >> 4], axis=1).reshape(-1)[:count]
    codes = both.astype(np.int8)
    return np.where(codes > 7, codes - 16, codes)


def _halves(stream: Array, first: int = 0) -> Array:
    parts = [stream & 15, stream >> 4]
    both: Array = np.stack([parts[first], parts[1 - first]], axis=1).reshape(-1).astype(np.int8)
    return both


def _signed(both: Array) -> Array:
    codes: Array = np.where(both > 7, both - 16, both).astype(np.int8)
    return codes


def _magnitude(stream: Array, count: int) -> Array:
    both = _halves(stream)[:count]
    return np.where(both > 7, 8 - both, both).astype(np.int8)


UNPACK = Exercise(
    id="nb03.unpack_nibbles",
    title="two codes out of a byte",
    answer=unpack_nibbles,
    cases=CODES.map(lambda codes: (quant.pack(codes, 4), len(codes))),
    truth=lambda stream, count: quant.unpack(stream, 4, (count,)),
    returns="codes",
    edges=((np.array([0xF8], np.uint8), 2), (np.array([0x7F, 0x08], np.uint8), 3)),
    hints=(
        "stream & 15 are the first codes of each byte, stream >> 4 the second; "
        "np.stack(..., axis=1).reshape(-1) brings them in order.",
        "A 4-bit code above 7 is negative: 16 less.",
    ),
    wrong=(
        Wrong("unsigned", "codes from 0 to 15: those above 7 are negative",
              lambda stream, count: _halves(stream)[:count]),
        Wrong("upper_first", "the upper 4 bits first",
              lambda stream, count: _signed(_halves(stream, 1))[:count]),
        Wrong("all", "one code too many where the count is odd",
              lambda stream, count: _signed(_halves(stream))),
        Wrong("blocks", "first all lower halves, then all upper ones",
              lambda stream, count: _signed(
                  np.concatenate([stream & 15, stream >> 4]).astype(np.int8))[:count]),
        Wrong("shifted", "codes less 8, as if 8 had been added before packing",
              lambda stream, count: _halves(stream)[:count] - np.int8(8)),
        Wrong("sign_bit", "a sign bit and a magnitude, which is not two's complement", _magnitude),
        Wrong("wide", "codes in a wider dtype",
              lambda stream, count: _signed(_halves(stream))[:count].astype(np.int64)),
    ),
)  # fmt: skip


def packing_tells_apart(pack: Any, a: Array, b: Array) -> bool:
    """Return whether pack(a) and pack(b), both uint8 arrays, are the same exactly when a and b are:
    codes int8 [n], each from -8 to 7.

    This is a property: true of every packing that loses nothing, and false of a faulty one for some
    a and b.
    """
    return np.array_equal(pack(a), pack(b)) == np.array_equal(a, b)


def _pairs() -> st.SearchStrategy[tuple[Array, Array]]:
    """Draw codes twice: the same, or one of them changed."""

    def changed(codes: Array, place: int, code: int) -> tuple[Array, Array]:
        other = codes.copy()
        other[place % len(codes)] = code
        return codes, other

    return st.builds(changed, CODES, st.integers(0, 5), INT4)


def lower_first(codes: Array) -> Array:
    """Return codes packed as in this notebook."""
    return quant.pack(codes, 4)


def upper_first(codes: Array) -> Array:
    """Return codes packed in the other order, which loses nothing either."""
    return (_low(codes)[0::2] << 4) | _low(codes)[1::2]


TELLS_APART = Exercise(
    id="nb03.packing_tells_apart",
    title="a property: nothing is lost in packing",
    answer=packing_tells_apart,
    cases=_pairs(),
    returns="property",
    edges=((lower_first, np.array([-1, 0], np.int8), np.array([-1, -1], np.int8)),
           (lower_first, np.array([7], np.int8), np.array([-8], np.int8)),
           (upper_first, np.array([3], np.int8), np.array([-3], np.int8)),
           (upper_first, np.array([1, 2], np.int8), np.array([2, 1], np.int8)),
           (lower_first, np.array([1, 0, 2], np.int8), np.array([2, 0, 1], np.int8))),
    hints=(
        "np.array_equal(x, y) tells whether two arrays are the same.",
        "Two things are either both the same or both different: the two answers are equal.",
    ),
    tried=Tried(
        right=(lower_first, upper_first),
        faulty=(
            Wrong("unmasked", "a negative first code that spoils the second", _unmasked),
            Wrong("magnitudes", "codes without their sign",
                  lambda codes: lower_first(np.minimum(np.abs(codes), 7).astype(np.int8))),
            Wrong("saturates", "a least code of -7: -8 becomes it",
                  lambda codes: lower_first(np.maximum(codes, -7))),
            Wrong("drops_odd", "a last code without partner that is lost",
                  lambda codes: lower_first(codes[: len(codes) // 2 * 2])),
            Wrong("sums", "the sum of each two",
                  lambda codes: np.add.reduceat(codes, np.arange(0, len(codes), 2)).view(np.uint8)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda pack, a, b: True),
        Wrong("lengths", "a comparison of lengths, which say nothing of what is packed",
              lambda pack, a, b: len(pack(a)) == len(pack(b)) == (len(a) + 1) // 2),
        Wrong("same_only", "equal bytes, also where the codes differ",
              lambda pack, a, b: np.array_equal(pack(a), pack(b))),
        Wrong("different_only", "different bytes, also where the codes are the same",
              lambda pack, a, b: not np.array_equal(pack(a), pack(b))),
        Wrong("every_byte", "bytes that all differ, where one code was changed",
              lambda pack, a, b: np.array_equal(a, b) or bool(np.all(pack(a) != pack(b)))),
        Wrong("sums", "a comparison of sums, which other codes may have too",
              lambda pack, a, b: (pack(a).sum() == pack(b).sum()) == (a.sum() == b.sum())),
    ),
)  # fmt: skip
