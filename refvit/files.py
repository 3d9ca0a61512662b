"""Files: tensors read safely, and everything written whole or not at all.

A file is written under a temporary name beside its own and then renamed, which is atomic on one
file system: a reader never sees half of it, and a writer that dies leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

Arrays = dict[str, NDArray[Any]]
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_tensors(path: Path, only: Sequence[str] | None = None) -> tuple[Arrays, dict[str, str]]:
    """Return the tensors of a safetensors file (or `only` some) and its metadata.

    Raises FileNotFoundError, or ValueError if the file is not a whole safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys() if only is None else only)
            half = [name for name in names if file.get_slice(name).get_dtype() == "BF16"]
            tensors = {name: file.get_tensor(name) for name in names if name not in half}
            return tensors | _bfloats(path, half), file.metadata() or {}
    except SafetensorError as error:
        if path.suffix in PICKLES:
            raise ValueError(
                f"{str(path)!r} is a pickle, which can run code and is never read; load it in "
                "PyTorch and write it with safetensors.torch.save_file"
            ) from None
        raise ValueError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
    except (TypeError, AttributeError) as error:
        found = f"{str(path)!r} holds a dtype that NumPy lacks ({error})"
        raise ValueError(f"{found}; save it as float32, float16 or bfloat16") from None


def _bfloats(path: Path, names: Sequence[str]) -> Arrays:
    """Return bfloat16 tensors as float32: NumPy lacks the type, which is the upper half of one."""
    if not names:
        return {}
    raw = dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    return {
        name: np.left_shift(np.frombuffer(raw[name]["data"], "<u2").astype(np.uint32), 16)
        .view(np.float32)
        .reshape(raw[name]["shape"])
        for name in names
    }


def read_sharded(index: Path) -> Arrays:
    """Return the tensors of every file that a `model.safetensors.index.json` names.

    Raises FileNotFoundError for a shard that is missing, ValueError for a damaged index, a name
    that leads out of the folder, or a tensor that is not in the shard said to hold it.
    """
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise ValueError(f"{str(index)!r} has no weight_map of tensor names to file names")
    tensors: Arrays = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard:
            raise ValueError(f"{str(index)!r} names {shard!r}, which is not a file beside it")
        held, _ = read_tensors(index.parent / shard)
        absent = [name for name, file in where.items() if file == shard and name not in held]
        if absent:
            raise ValueError(f"{str(index.parent / shard)!r} lacks {absent[0]}, which {index.name}"
                             " says it holds")  # fmt: skip
        strange = [name for name in held if where.get(name) != shard]
        if strange:
            raise ValueError(f"{str(index.parent / shard)!r} holds {strange[0]}, which {index.name}"
                             " does not look for there")  # fmt: skip
        tensors |= held
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; FileNotFoundError or ValueError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{str(path)!r} holds a {type(about).__name__}, wanted an object")
    return about


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


def digest(*parts: bytes) -> str:
    """Return the first 16 digits of the sha256 of `parts`, one after the other.

    >>> digest(b"a", b"bc") == digest(b"abc")
    True
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def new_directory(path: Path) -> Path:
    """Return `path` if a directory can be made there without the loss of anything, else raise
    OSError that says why not."""
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"no directory {str(path.parent)!r} to write {path.name!r} to")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{str(path)!r} exists and is not an empty directory; name a new one")
    return path


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """Yield a new directory that becomes `out`, or vanishes if an exception comes."""
    out = out.resolve()
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    old = out.with_name(f"{out.name}.{os.getpid()}.old")
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            out.rename(old)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)
