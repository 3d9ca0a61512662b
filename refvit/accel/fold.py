"""Layers folded into the parts of a model, as a tree: blocks, or stages and their blocks.

A fold has its rows in order and shows their sums; unfolded it shows its parts, which are folds
again or single layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby

from refvit.accel.row import Row


@dataclass(frozen=True)
class Fold:
    """A part of a model: its name, its rows, and the parts it unfolds into, none for one layer."""

    name: str
    rows: tuple[Row, ...]
    parts: tuple[Fold, ...] = ()


def folds(rows: Sequence[Row]) -> tuple[Fold, ...]:
    """Return the parts of a model in order: a fold for every group of more than one layer.

    What lies in a stage is folded once more, into its blocks.
    """
    return _folded(rows, lambda row: row.group)


def _folded(rows: Sequence[Row], key: Callable[[Row], str]) -> tuple[Fold, ...]:
    found = []
    for name, run in groupby(rows, key):
        inside = tuple(run)
        if len(inside) == 1:
            found.append(Fold(inside[0].name, inside))
        else:
            found.append(Fold(name, inside, _folded(inside, _below(name))))
    return tuple(found)


def _below(name: str) -> Callable[[Row], str]:
    """Return what a row in the part `name` belongs to there: a numbered part, or itself."""
    numbered = re.compile(re.escape(name) + r"\.\w+\.\d+(?=\.)")

    def part(row: Row) -> str:
        match = numbered.match(row.name)
        return match[0] if match else row.name

    return part


def walk(parts: Sequence[Fold], depth: int = 0) -> Iterator[tuple[int, Fold]]:
    """Yield every fold and layer with its depth, from the top."""
    for part in parts:
        yield depth, part
        yield from walk(part.parts, depth + 1)


def opened(parts: Sequence[Fold], patterns: Sequence[str]) -> set[str]:
    """Return the names of the folds that `patterns` unfold, and of those that they lie in.

    Patterns are those of `fnmatch`. Raises ValueError for one that no fold matches.
    """
    every = [fold for _, fold in walk(parts) if fold.parts]
    names = [fold.name for fold in every]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(fold.name for fold in parts if fold.parts)
            raise ValueError(f"nothing to unfold matches {pattern!r}; there are {known or 'none'}")
    wanted = [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]
    return {name for name in names if any(n == name or n.startswith(f"{name}.") for n in wanted)}
