"""A tree of layers as text: a module's line has the sums of what is under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def tree_lines(rows: Sequence[Row], every: bool) -> list[str]:
    """Return one line for each layer and module of `rows`, indented by depth.

    A row has `layer` (a dotted name), `op`, `shape`, `params` and `macs`. Of modules that follow
    each other and are alike, the first is shown and the rest are counted, unless `every`.
    """
    return list(_lines([(row["layer"].split("."), row) for row in rows], 0, every))


def _lines(rows: list[tuple[list[str], Row]], depth: int, every: bool) -> Iterable[str]:
    before: Any = None
    alike: list[str] = []
    for name, group in _groups(rows):
        shape = [(path[1:], row["op"], row["shape"], row["params"]) for path, row in group]
        if not every and len(group) > 1 and shape == before:
            alike.append(name)
            continue
        yield from _alike(alike, depth)
        alike, before = [], shape
        yield _line(name, group, depth)
        if len(group) > 1 or len(group[0][0]) > 1:
            yield from _lines(
                [(path[1:], row) for path, row in group if path[1:]], depth + 1, every
            )
    yield from _alike(alike, depth)


def _groups(rows: list[tuple[list[str], Row]]) -> list[tuple[str, list[tuple[list[str], Row]]]]:
    """Split rows by the first part of their paths, in order of appearance."""
    groups: dict[str, list[tuple[list[str], Row]]] = {}
    for path, row in rows:
        groups.setdefault(path[0], []).append((path, row))
    return list(groups.items())


def _line(name: str, group: list[tuple[list[str], Row]], depth: int) -> str:
    params, macs = (sum(row[key] for _, row in group) for key in ("params", "macs"))
    label, alone = "  " * depth + name, len(group) == 1 and len(group[0][0]) == 1
    op = group[0][1]["op"] if alone else ""
    shape = " x ".join(map(str, _without_batch(group[0][1]["shape"]))) if alone else ""
    return f"{label:<30}{op:<12}{shape:<20}{params:>13,}{macs:>18,}"


def _without_batch(shape: Sequence[int]) -> Sequence[int]:
    """One image is not said; windows, which stand in its place, are."""
    return shape[1:] if shape[0] == 1 and len(shape) > 1 else shape


def _alike(names: list[str], depth: int) -> Iterable[str]:
    if names:
        which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        yield "  " * depth + f"{which}: the same, {len(names)} more"
