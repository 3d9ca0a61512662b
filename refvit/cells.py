"""Cells of a table: pure functions of their names, computed anywhere, kept as they finish.

A cell may be computed by any `concurrent.futures.Executor`, one of a cluster too; a table that was
stopped goes on where it ended, and a file refuses to go on with anything but what it holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from refvit.files import digest, read_json, write_text
from refvit.model import Model
from refvit.progress import Progress
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Source, content_of

Key = tuple[str, str]  # the first two fields of a cell: what was done, and the recipe
Cell = TypeVar("Cell", bound=Any)  # a frozen dataclass
KNOWN = ("model", "source", "content", "digest", "code", "version")  # each has a rule of its own
SECONDS = 2.0  # for which what is finished may wait to be written
NAMED = ("recipes", "routes")  # what only the cells that are named so belong to; others may join


def filled(
    what: str,
    kind: type[Cell],
    cell: Callable[[str, str], Cell],
    wanted: Sequence[Key],
    about: dict[str, Any],
    executor: Executor | None = None,
    kept: Path | None = None,
    unit: str = "cells",
    size: Callable[[Key], int] = lambda key: 1,
) -> list[Cell]:
    """Return the cell of every key in `wanted`; those in the file `kept` are not computed again.

    `about`, which begins with `identity`, is what the cells belong to; ValueError if those of the
    file belong to another. The file is written when a cell finishes, in whatever order `executor`
    finishes them (of hundreds, with those that finish next, or every two seconds). If one fails,
    those that have not begun are cancelled and its error is raised; what is finished stays in the
    file.
    A line on a terminal shows how far it is, in `unit`s, of which a key has `size`.
    """
    done, named = restored(kept, kind, about)
    left = [key for key in dict.fromkeys(wanted) if key not in done]
    total, rest = sum(map(size, dict.fromkeys(wanted))), sum(map(size, left))
    bar = Progress(what, total, unit, done=total - rest)
    keep = Keeper(kept, about | named)
    try:
        for key, found in as_finished(cell, left, executor):
            done[key] = found
            bar.advance(size(key), " ".join(key))
            keep(done.values())
    finally:
        bar.close()
        if left:
            keep(done.values(), last=True)
    return [done[key] for key in wanted]


class Keeper:
    """Writes cells to a file, if there is one: each that finishes while they are few; when a
    fiftieth has joined where they are many, as long tables would take the square of their length;
    and whatever is new after `SECONDS`, or ten times what it took to write, if that is longer.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path, self.about, self.written = path, about, 0
        self.due = time.monotonic() + SECONDS

    def __call__(self, cells: Collection[Any], last: bool = False) -> None:
        """Write all the cells, unless too few are new; at last all that are."""
        new = len(cells) - self.written
        began = time.monotonic()
        few = new < self.written // 50 and began < self.due
        if self.path is None or not new or (few and not last):
            return
        entries = {"cells": [asdict(entry) for entry in cells]}
        write_text(self.path, json.dumps(self.about | entries, indent=1) + "\n")
        self.written = len(cells)
        ended = time.monotonic()
        self.due = ended + max(SECONDS, 10 * (ended - began))


def as_finished(
    cell: Callable[[str, str], Cell], keys: Sequence[Key], executor: Executor | None
) -> Iterator[tuple[Key, Cell]]:
    """Yield cells as they finish: in turn, or in whatever order `executor` finishes them.

    When one fails, the others are cancelled; those that run on all the same, as the running ones
    of a pool do, are yielded before its error is raised.
    """
    if executor is None:
        yield from ((key, cell(*key)) for key in keys)
        return
    futures = {executor.submit(cell, *key): key for key in keys}
    waiting, error = set(futures), None
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                error = error or future.exception()
                if not future.exception():
                    yield futures[future], future.result()
            if error:
                waiting = {future for future in waiting if not future.cancel()}
        if error:
            raise error
    finally:
        for future in waiting:
            future.cancel()


def identity(model: Model, source: Source, recipes: Sequence[str]) -> dict[str, Any]:
    """Return what results belong to: the source, and digests of the model, of the source's images
    where it has one, and of each recipe."""
    content = content_of(source)
    return {
        "model": Path(model.source).name,
        "digest": model_digest(model),
        "source": source.name,
        **({"content": content} if content else {}),
        "recipes": {name: recipe_digest(name) for name in recipes},
    }


def recipe_digest(name: str) -> str:
    """Return a digest of what a recipe says, whatever its file is called."""
    return digest(find_recipe(name).to_toml().encode())


def model_digest(model: Model) -> str:
    """Return a digest of what a model computes: its weights, its configuration, how it is fed."""
    tensors = (name.encode() + np.asarray(t).tobytes() for name, t in model.params.items())
    return digest(repr((model.config, model.preprocess)).encode(), *tensors)


def restored(
    kept: Path | None, kind: type[Cell], about: dict[str, Any]
) -> tuple[dict[Key, Cell], dict[str, dict[str, Any]]]:
    """Return the cells in a file by their keys, none if there is no file; and the recipes and what
    else is `NAMED` of the file and of the table that is asked for."""
    asked = {key: about[key] for key in NAMED if key in about}
    if kept is None or not kept.exists():
        return {}, asked
    found = read_json(kept)
    for key, wanted in {**dict.fromkeys(asked, dict), "cells": list}.items():
        if not isinstance(found.get(key), wanted):
            raise ValueError(f"{str(kept)!r} is not a grid of cells: it has no {key}")
    other = difference(found, about)
    if other is not None:
        raise ValueError(f"{str(kept)!r} {other}; name a new file")
    if found.get("code") != about.get("code"):
        versions = f"{found.get('version', 'unknown')}, this is {about.get('version', 'another')}"
        told = f"was made by other code, whose figures may differ (version {versions})"
        raise ValueError(f"{str(kept)!r} {told}; delete it or name a new file")
    try:
        cells = [cell_of(kind, entry) for entry in found["cells"]]
    except ValueError as error:
        raise ValueError(f"{str(kept)!r} is not a grid of cells: {error}") from None
    return {key_of(c): c for c in cells}, {key: found[key] | asked[key] for key in asked}


def key_of(cell: Any) -> Key:
    """Return the first two fields of a cell."""
    first, second, *_ = get_type_hints(type(cell))
    return getattr(cell, first), getattr(cell, second)


def grid_table(
    cells: Sequence[Cell],
    corner: str,
    head: Callable[[str], str],
    shown: Callable[[Cell | None], str],
    foot: str,
    size: Callable[[int], str],
) -> str:
    """Return a table with a row for each first and a column for each second key of `cells`, and the
    bytes of each column in its last row.

    Each cell is `shown`, None where there is none; `head` and `size` are as wide. `corner` and
    `foot`, padded to one width, begin the first and the last row.
    """
    found = {key_of(cell): cell for cell in cells}
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    sizes = {column: cell.bytes for (_, column), cell in reversed(found.items())}
    lines = [corner + "".join(map(head, columns))]
    for row in rows:
        each = "".join(shown(found.get((row, column))) for column in columns)
        lines.append(f"{row:<{len(corner)}}{each}")
    lines.append(foot + "".join(size(sizes[column]) for column in columns))
    return "\n".join(line.rstrip() for line in lines)


def difference(found: dict[str, Any], about: dict[str, Any]) -> str | None:
    """Return the first thing in which a file differs from what is asked for; None if it is that."""
    rest = [key for key in about if key not in (*KNOWN, *NAMED)]
    same = same_images(found, about)
    for key in ("model", *rest) if same else ("model", "source", *rest):
        if found.get(key) != about[key]:
            old, new = ("all" if each is None else each for each in (found.get(key), about[key]))
            return f"holds results of {key} {old}, asked are {new}"
    if same is False:
        return f"holds results of when {about['source']} had other images"
    if found.get("digest") != about["digest"]:
        return f"holds results of another model {about['model']}: its weights or fields differ"
    for name, lines in about["recipes"].items():
        if found["recipes"].get(name, lines) != lines:
            return f"holds results of when recipe {name!r} said something else"
    for route, asked in about.get("routes", {}).items():
        held = found["routes"].get(route, asked)
        for part in held | asked:
            old, new = held.get(part), asked.get(part)
            if old != new:
                return f"holds results of {route} on {part} {old}, asked are {new}"
    return None


def same_images(found: dict[str, Any], about: dict[str, Any]) -> bool | None:
    """Say whether a file is of the images that are asked for, wherever they lie; None where one of
    the two has no digest of them, and the name of the source decides."""
    held, asked = found.get("content"), about.get("content")
    return held == asked if held and asked else None


def cell_of(kind: type[Cell], entry: Any) -> Cell:
    """Return the cell that an object of JSON says; ValueError for other fields or other types."""
    kinds = get_type_hints(kind)
    if not isinstance(entry, dict):
        raise ValueError(f"a cell is {entry!r:.60}, wanted an object")
    for name in sorted(kinds.keys() ^ entry.keys()):
        raise ValueError(f"a cell {'has an unknown' if name in entry else 'lacks'} {name!r}")
    for name, wanted in kinds.items():
        plain = get_origin(wanted) or wanted
        if type(entry[name]) not in ((int, float) if plain is float else (plain,)):
            raise ValueError(f"{name} of a cell is {entry[name]!r:.60}, wanted {plain.__name__}")
    found: Cell = kind(**entry)
    return found
