"""Replay: someone else's outputs against the expected ones of a vectors directory.

A user puts `output.npy` or `output.hex` into the folder of any site; `expected` beside it is what
the engine gave. Before anything is compared, it and the inputs are held against the digests in the
manifest. Where both kinds are there, both count. A site without an output is said to have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refvit.files import read_json
from refvit.integer.codefile import Layout, read_hex, read_npy, sha256
from refvit.matching import perhaps
from refvit.progress import Progress

IntArray = NDArray[Any]
FORMAT = "refvit-vectors"
VERSION = 1
MANIFEST = "manifest.json"
OUTPUT, EXPECTED = "output", "expected"
NAME = re.compile(r"\w[\w.]*")  # of a site or a file: it leads to no other folder
AGAIN = "write the vectors again"


@dataclass(frozen=True)
class Mismatch:
    """The first code of `site` that is not the expected one, in C order, and in which file.

    `found` is text where a simulator wrote x or z. `differing` of the `size` codes are wrong.
    """

    site: str
    index: tuple[int, ...]
    expected: int
    found: int | str
    differing: int
    size: int
    file: str


@dataclass(frozen=True)
class Replay:
    """How many of `sites` have an output (`given`), and how many of these match; `first` is the
    first mismatch in the order of the forward, `failing` names the sites of all."""

    sites: int
    given: int
    matching: int
    first: Mismatch | None
    failing: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is an output, and every one is what was expected."""
        return self.first is None and self.given > 0

    def text(self) -> str:
        """Return the first mismatch, if there is one, and the counts."""
        if self.given == 0:
            return f"none of {self.sites} sites has an {OUTPUT}.hex or {OUTPUT}.npy to check"
        counts = f"{self.matching} of {self.given} outputs match"
        if self.given < self.sites:
            counts += f"; {self.sites - self.given} sites have none"
        if self.first is None:
            return counts
        at, also = self.first, ", ".join(self.failing[1:])
        lines = [
            f"{at.site}{list(at.index)}: expected {at.expected}, found {at.found}, in {at.file}",
            f"{at.differing:,} of {at.size:,} codes differ at this site; {counts}",
        ]
        return "\n".join([*lines, f"also at {also}"] if also else lines)

    def as_json(self) -> dict[str, Any]:
        """Return the same as data for JSON."""
        return {"ok": self.ok, **asdict(self)}


class File(NamedTuple):
    """What the manifest says of one pair of files."""

    layout: Layout
    sha256: str
    hex_sha256: str


class Site(NamedTuple):
    """What the manifest says of one operator: its folder and its files by name."""

    site: str
    files: dict[str, File]


def replay(folder: str | Path, sites: str = "*") -> Replay:
    """Return how the outputs in `folder` compare with the expected ones, at the sites that match
    the glob `sites`.

    Raises FileNotFoundError or ValueError, in one line, for a manifest, input or expected output
    that is not as it was written, and for an output that cannot be read; behind the first mismatch,
    an output that cannot be read is one that does not match.
    """
    folder = Path(folder)
    entries = read_manifest(folder)
    chosen = set(select([entry.site for entry in entries], sites))
    bar, first, given = Progress("replay", len(chosen), "sites"), None, 0
    failing: list[str] = []
    for entry in entries:
        if entry.site not in chosen:
            continue
        expected = verified(folder / entry.site, entry)
        paths = outputs_of(folder / entry.site)
        given += bool(paths)
        try:
            found = compare(paths, entry, expected)
            failing += [entry.site] if found else []
            first = first or found
        except (ValueError, OSError):
            if first is None:
                raise
            failing.append(entry.site)
        bar.advance(1, entry.site)
    bar.close()
    return Replay(len(chosen), given, given - len(failing), first, tuple(failing))


def outputs_of(folder: Path) -> list[Path]:
    """Return the outputs that someone put into the folder of a site."""
    paths = (folder / f"{OUTPUT}.{kind}" for kind in ("hex", "npy"))
    return [path for path in paths if path.is_file()]


def read_manifest(folder: Path) -> list[Site]:
    """Return the sites of a vectors directory in the order of the forward.

    Raises FileNotFoundError if there is no manifest, ValueError if it is not one of refvit.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no directory {str(folder)!r}")
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no vectors: it has no {MANIFEST}")
    about = read_json(path)
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        raise ValueError(f"{str(path)!r} is not a manifest of refvit's vectors, version {VERSION}")
    try:
        return [_site(entry) for entry in about["sites"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error!r}; {AGAIN}") from None


def _site(entry: Any) -> Site:
    """Return one entry of the manifest; KeyError, TypeError or ValueError if it is none."""
    files = {name: _file(about) for name, about in entry["files"].items()}
    for name in (entry["site"], *files):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} names no site and no file")
    if EXPECTED not in files:
        raise ValueError(f"{entry['site']} has no expected output")
    return Site(entry["site"], files)


def _file(about: Any) -> File:
    layout = Layout(tuple(map(int, about["shape"])), int(about["bits"]), bool(about["signed"]))
    if not 1 <= layout.bits <= 32 or min(layout.shape, default=1) < 1:
        raise ValueError(f"no codes have {layout}")
    return File(layout, str(about["sha256"]), str(about["hex_sha256"]))


def select(names: Sequence[str], glob: str) -> list[str]:
    """Return the names that match `glob` (`fnmatch`); ValueError says which is near if none does.

    >>> select(["embed", "blocks.0.add1", "blocks.0.add2"], "*.add?")
    ['blocks.0.add1', 'blocks.0.add2']
    """
    chosen = [name for name in names if fnmatchcase(name, glob)]
    if not chosen:
        known = (
            f"there are {len(names)} from {names[0]} to {names[-1]}" if names else "none is there"
        )
        raise ValueError(f"no site matches {glob!r}{perhaps(glob, names)}; {known}")
    return chosen


def verified(folder: Path, entry: Site) -> IntArray:
    """Return the expected output; ValueError if it or another file but the output was changed."""
    codes = {}
    for name, file in entry.files.items():
        binary, text = folder / f"{name}.npy", folder / f"{name}.hex"
        try:
            codes[name] = read_npy(binary, file.layout)
            digests = sha256(codes[name].tobytes()), sha256(text.read_bytes())
        except (ValueError, OSError) as error:
            raise ValueError(f"{error}; {AGAIN}") from None
        for path, found, written in zip((binary, text), digests, file[1:], strict=True):
            if found != written:
                raise ValueError(f"{str(path)!r} is not as it was written; {AGAIN}")
    return codes[EXPECTED]


def compare(paths: Sequence[Path], entry: Site, expected: IntArray) -> Mismatch | None:
    """Return the first mismatch of the outputs of one site."""
    layout = entry.files[EXPECTED].layout
    for path in paths:
        undefined: dict[int, str] = {}
        if path.suffix == ".npy":
            found = read_npy(path, layout)
        else:
            found, undefined = read_hex(path, layout)
        differing = np.flatnonzero(found != expected)
        if differing.size:
            at = int(differing[0])
            index = tuple(map(int, np.unravel_index(at, expected.shape)))
            code, said = int(expected.flat[at]), undefined.get(at, int(found.flat[at]))
            counts = differing.size, expected.size, path.name
            return Mismatch(entry.site, index, code, said, *counts)
    return None
