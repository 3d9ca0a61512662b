"""Integer codes as files: `.npy`, and hexadecimal text for Verilog's `$readmemh`.

Both hold the codes in C order, the last axis fastest. In hex each code has a line: two's complement
at the width of the code, in as many digits as that needs (specification, clause 8.4). So -1 of 4
bits is `f`, of 6 bits `3f`, of 32 bits `ffffffff`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[Any]
ORDER = "C order, last axis fastest"
DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
HEX = "0123456789abcdefABCDEF"
COMMENT = re.compile(r"//[^\n]*|/\*[\s\S]*?\*/")
UNDEFINED = 1 << 40  # stands for x and z: no code is that large


@dataclass(frozen=True)
class Layout:
    """How codes of `shape` are written: `bits` of each, signed or not."""

    shape: tuple[int, ...]
    bits: int
    signed: bool

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def header(self) -> str:
        """The comment on the first line of a hex file.

        >>> Layout((2, 3), 4, True).header
        '// shape [2, 3], 4 bits signed, C order, last axis fastest'
        """
        sign = "signed" if self.signed else "unsigned"
        return f"// shape {list(self.shape)}, {self.bits} bits {sign}, {ORDER}"


def sha256(content: bytes) -> str:
    """Return the digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hex_codes(codes: IntArray, bits: int) -> bytes:
    r"""Return the codes [...] of at most 32 bits as hex lines.

    >>> hex_codes(np.array([1, -2, 7], np.int8), 4), hex_codes(np.array([-1, 5], np.int16), 9)
    (b'1\ne\n7\n', b'1ff\n005\n')
    """
    raw = codes.astype(np.int64).ravel().astype(np.uint32) & np.uint32((1 << bits) - 1)
    places = range((bits - 1) // 4 * 4, -1, -4)
    rows = np.full((raw.size, len(places) + 1), ord("\n"), np.uint8)
    for column, place in enumerate(places):
        rows[:, column] = DIGITS[(raw >> np.uint32(place)) & np.uint32(15)]
    return rows.tobytes()


def write_codes(folder: Path, name: str, codes: IntArray, layout: Layout) -> dict[str, Any]:
    """Write `name`.npy and `name`.hex into `folder`; return what the manifest says of them.

    `sha256` is that of the codes themselves, the data of the .npy, little-endian.
    """
    array = np.asarray(codes, codes.dtype.newbyteorder("<"), order="C")
    text = layout.header.encode() + b"\n" + hex_codes(array, layout.bits)
    np.save(folder / f"{name}.npy", array)
    (folder / f"{name}.hex").write_bytes(text)
    return {
        "shape": list(layout.shape),
        "dtype": array.dtype.name,
        "bits": layout.bits,
        "signed": layout.signed,
        "layout": ORDER,
        "sha256": sha256(array.tobytes()),
        "hex_sha256": sha256(text),
    }


def read_npy(path: Path, layout: Layout) -> IntArray:
    """Return the integers of a .npy file; ValueError if it is not whole, or of another shape."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise ValueError(f"{str(path)!r} is not a whole .npy file: {error}") from None
    if array.dtype.kind not in "iu":
        raise ValueError(f"{str(path)!r} holds {array.dtype}, wanted integers")
    if array.shape != layout.shape:
        raise ValueError(
            f"{str(path)!r} has shape {list(array.shape)}, wanted {list(layout.shape)}"
        )
    return array


def read_hex(path: Path, layout: Layout) -> tuple[IntArray, dict[int, str]]:
    """Return the codes [shape] int64 of a file that `$readmemh` takes, and what is undefined in it.

    Comments, `_`, several codes a line and `@address` are as Verilog has them. A code with an x or
    z digit is `UNDEFINED`, and the dictionary says which it was at its place in C order. Raises
    ValueError, with the line, for what is not hexadecimal or too wide, and for another count.
    """
    known: dict[str, int] = {}  # codes repeat
    codes: dict[int, int] = {}
    undefined: dict[int, str] = {}
    place = 0
    for number, token in tokens(path):
        if token.startswith("@"):
            place = parsed(token[1:], path, number)
            continue
        if token not in known:
            known[token] = code_of(token, layout, path, number)
        codes[place] = known[token]
        if codes[place] == UNDEFINED:
            undefined[place] = f"{token}, undefined at line {number}"
        place += 1
    size = layout.size
    if len(codes) != size or max(codes) != size - 1:
        found = f"{len(codes):,} codes, the last at {max(codes, default=0):,}"
        raise ValueError(f"{str(path)!r} has {found}; wanted {size:,}, {list(layout.shape)}")
    values = np.empty(size, np.int64)
    values[list(codes)] = list(codes.values())
    still = {place: said for place, said in undefined.items() if codes[place] == UNDEFINED}
    return values.reshape(layout.shape), still


def tokens(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every word of a hex file outside of comments, with the number of its line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    bare = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(bare.split("\n"), 1):
        for token in line.split():
            yield number, token


def code_of(token: str, layout: Layout, path: Path, number: int) -> int:
    """Return the code whose two's complement a word is, `UNDEFINED` if it has x or z digits;
    ValueError if it has too many bits or is not hexadecimal."""
    if set(token) & set("xXzZ?") and not set(token) - set("xXzZ?_" + HEX):
        return UNDEFINED
    raw = parsed(token, path, number)
    if raw >> layout.bits:
        raise ValueError(f"{str(path)!r} line {number}: {token} has more than {layout.bits} bits")
    return raw - ((raw >> (layout.bits - 1)) << layout.bits) if layout.signed else raw


def parsed(token: str, path: Path, number: int) -> int:
    """Return the number that hex digits say; ValueError for anything else."""
    digits = token.replace("_", "")
    if not digits or set(digits) - set(HEX):
        raise ValueError(f"{str(path)!r} line {number}: {token[:40]!r} is not hexadecimal")
    return int(digits, 16)
