"""Files: tensors read safely, and everything written whole or not at all.

A file is written under a temporary name beside its own and then renamed, which is atomic on one
file system: a reader never sees half of it, and a writer that dies leaves the old one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Arrays = dict[str, NDArray[Any]]


def read_tensors(path: Path, only: Sequence[str] | None = None) -> tuple[Arrays, dict[str, str]]:
    """Return the tensors of a safetensors file (or `only` some) and its metadata.

    Raises FileNotFoundError, or ValueError if the file is not a whole safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys() if only is None else only
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
    except (TypeError, AttributeError) as error:
        found = f"{str(path)!r} holds a dtype that NumPy lacks ({error})"
        raise ValueError(f"{found}; save it as float32 or float16") from None


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: dict[str, str]
) -> None:
    """Write a safetensors file whole or not at all; the same content is the same bytes.

    Raises FileNotFoundError or IsADirectoryError where no file can be written.
    """
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    write_bytes(writable(path), in_order(save(arrays, metadata)))


def in_order(raw: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted by key: the library leaves the order of
    a hash table, which differs from run to run."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; FileNotFoundError if its directory is missing."""
    write_bytes(writable(path), text.encode("utf-8"))


def writable(path: Path) -> Path:
    """Return `path` if a file can be written there, else raise OSError that says why not."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no directory {str(path.parent)!r} to write {path.name!r} to")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory; name a file")
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: to a temporary name, then renamed, so that it is whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
