"""Grids of machines: presets, and fields that take several values, in a small readable syntax.

    edge32 edge16 rows=8,16,32 cols=8:64:8 sram_a_bytes=sram_b_bytes=64K:512K:*2 dataflow=os,ws

Words without an equals sign are machines to start from (edge32 if there is none): presets or TOML
files. The others give a field of `Machine` its values: a list with commas, of values or of ranges
`first:last` and `first:last:step`, both ends included, where a step `*2` multiplies. K and M are
1,024 and 1,048,576. Several fields before the values take the same one. The grid is every
combination; the last word changes fastest.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from refvit.accel.machine import Machine
from refvit.accel.machine import machine as find_machine

MOST = 1_000_000  # machines of a grid
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)([KM]?)")
UNITS = {"": 1, "K": 1024, "M": 1024**2}
TRUTH = {"true": True, "false": False}
NAMES = ("name", "source")  # say nothing that could be swept


@dataclass(frozen=True)
class Axis:
    """Fields of a machine that take the same values, one after the other."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return "=".join((*self.names, ",".join(map(shown, self.values))))


@dataclass(frozen=True)
class Grid:
    """Every base with every combination of the values of the axes; as long as there are of them.

    >>> grid = parse_grid(["edge16", "rows=8:32:*2", "cols=16,32"])
    >>> len(grid), grid.machine(4).name
    (6, 'edge16 rows=32 cols=16')
    """

    bases: tuple[Machine, ...]
    axes: tuple[Axis, ...] = ()

    def __len__(self) -> int:
        return len(self.bases) * math.prod(len(axis.values) for axis in self.axes)

    def __str__(self) -> str:
        return " ".join([base.name for base in self.bases] + [str(axis) for axis in self.axes])

    def machine(self, number: int) -> Machine:
        """Return the machine of that number; ValueError if it is impossible."""
        change: dict[str, Any] = {}
        said: list[str] = []
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis.values))
            change |= dict.fromkeys(axis.names, axis.values[at])
            said.insert(0, f"{'='.join(axis.names)}={shown(axis.values[at])}")
        base = self.bases[number]
        return replace(base, **change, name=" ".join((base.name, *said))) if change else base


def shown(value: Any) -> str:
    """Return a value as a grid says it.

    >>> shown(65536), shown(8.0), shown(True)
    ('64K', '8', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        kilo = value >= 4096 and value % 1024 == 0
        return f"{value // 1024:g}K" if kilo else f"{value:.12g}"
    return str(value)


def parse_grid(words: Sequence[str]) -> Grid:
    """Return the grid that `words` say.

    Raises ValueError, in one line, for an unknown machine or field, a field said twice, a value
    that is not of the field's kind, a range that is empty, or more than a million machines.
    """
    bases = [find_machine(word) for word in words if "=" not in word] or [find_machine("edge32")]
    axes: list[Axis] = []
    for word in words:
        if "=" in word:
            axes.append(_axis(word, bases[0], [name for axis in axes for name in axis.names]))
    repeated = [base.name for base in bases if bases.count(base) > 1]
    if repeated:
        raise ValueError(f"machine {repeated[0]!r} is in the grid twice")
    grid = Grid(tuple(bases), tuple(axes))
    if len(grid) > MOST:
        raise ValueError(f"the grid has {len(grid):,} machines; give at most {MOST:,}")
    return grid


def _axis(word: str, base: Machine, taken: list[str]) -> Axis:
    """Return the axis that one word says."""
    *names, said = word.split("=")
    known = [field.name for field in fields(base) if field.name not in NAMES]
    for place, name in enumerate(names):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{word!r}: a machine has no {name!r}; {hint}")
        if name in taken or name in names[:place]:
            raise ValueError(f"{word!r}: {name} is said twice")
    kind = type(getattr(base, names[0]))
    if any(type(getattr(base, name)) is not kind for name in names):
        raise ValueError(f"{word!r}: {' and '.join(names)} are of different kinds")
    if kind not in (int, float, bool, str):
        raise ValueError(f"{word!r}: {names[0]} cannot be swept; say it in a TOML file")
    values = [value for item in said.split(",") for value in _values(item, kind, word)]
    if len(set(values)) < len(values):
        raise ValueError(f"{word!r} says a value twice")
    return Axis(tuple(names), tuple(values))


def _values(item: str, kind: type, word: str) -> Iterator[Any]:
    """Yield the values of one item of a list: itself, or those of a range."""
    read = READERS.get(kind, _number)
    first, *rest = item.split(":")
    if not rest:
        yield read(first, kind, word)
        return
    if len(rest) > 2 or read is not _number:
        raise ValueError(f"{word!r}: a range is of numbers, first:last or first:last:step")
    start, end = _number(first, kind, word), _number(rest[0], kind, word)
    times = len(rest) == 2 and rest[1].startswith("*")
    step = _number(rest[1].removeprefix("*"), kind, word) if len(rest) == 2 else 1
    if start > end or step <= (1 if times else 0) or (times and start <= 0):
        raise ValueError(f"{word!r}: the range {item!r} is empty or has no end")
    count = math.log(end / start, step) if times else (end - start) / step
    if count >= MOST:
        raise ValueError(f"{word!r}: the range {item!r} has over {MOST:,} values")
    for k in range(math.floor(count + 1e-9) + 1):
        yield kind(start * step**k if times else start + k * step)


def _number(said: str, kind: type, word: str) -> Any:
    match = NUMBER.fullmatch(said)
    value = float(match[1]) * UNITS[match[2]] if match else math.nan
    if not math.isfinite(value) or (kind is int and value != int(value)):
        what = "a whole number, as in 16 or 64K" if kind is int else "a number, as in 8 or 0.5"
        raise ValueError(f"{word!r}: {said!r} is not {what}")
    return kind(value)


def _truth(said: str, kind: type, word: str) -> Any:
    if said not in TRUTH:
        raise ValueError(f"{word!r}: {said!r} is neither true nor false")
    return TRUTH[said]


def _name(said: str, kind: type, word: str) -> Any:
    if not said:
        raise ValueError(f"{word!r} says an empty value")
    return said


READERS: dict[type, Callable[[str, type, str], Any]] = {bool: _truth, str: _name}
