"""IDX files, the format of MNIST and Fashion-MNIST: read, checked, and said what is wrong.

A file is a magic number (two zero bytes, a type, a count of axes), the sizes as big-endian 32-bit
integers, then the data (LeCun, Cortes and Burges, "The MNIST database", file formats). Files may
be packed by gzip.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 0x08
SPLITS = {"train": "train", "test": "t10k"}


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file as an array of `axes` axes.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong: not IDX, another
    type or number of axes, or data of another length than its sizes say.
    """
    raw = _content(path)
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise ValueError(f"{str(path)!r} is not an IDX file: its magic number is {raw[:4].hex()}")
    if raw[2] != UNSIGNED_BYTE or raw[3] != axes:
        raise ValueError(
            f"{str(path)!r}: wanted unsigned bytes of {axes} axes (magic 0000{UNSIGNED_BYTE:02x}"
            f"{axes:02x}), found magic {raw[:4].hex()}"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4)) if _whole(raw, axes) else ()
    size, found = int(np.prod(shape, dtype=np.int64)), len(raw) - 4 - 4 * axes
    if not shape or size != found:
        raise ValueError(f"{str(path)!r}: its sizes {list(shape)} say {size} bytes, it has {found}")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _whole(raw: bytes, axes: int) -> bool:
    return len(raw) >= 4 + 4 * axes


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked where it is gzip."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {str(path)!r}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{str(path)!r} is not a whole gzip file: {error}") from None


def find(folder: Path, split: str, what: str) -> Path:
    """Return the file of `split`'s images or labels in `folder`, packed or not, by its usual name.

    Raises FileNotFoundError that says which names were looked for.
    """
    axes = 3 if what == "images" else 1
    stem = f"{SPLITS[split]}-{what}-idx{axes}-ubyte"
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx")):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no {stem} or {stem}.gz in {str(folder)!r}")


def read_split(folder: Path, split: str, classes: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return images [n, H, W, 1] uint8 and labels [n] int64 of a split, `train` or `test`.

    Labels may be missing only where images are: raises FileNotFoundError or ValueError for a
    missing or damaged file, for counts that differ, or for a label that is no class.
    """
    images = read_idx(find(folder, split, "images"), 3)
    file = find(folder, split, "labels")
    labels = read_idx(file, 1).astype(np.int64)
    if len(images) != len(labels):
        raise ValueError(f"{str(file)!r} has {len(labels)} labels for {len(images)} images")
    if len(labels) == 0:
        raise ValueError(f"{str(file)!r} is empty")
    if labels.max() >= classes:
        raise ValueError(
            f"{str(file)!r}: label {labels.max()} at {labels.argmax()}, but there are {classes} "
            "classes"
        )
    return images[..., None], labels
