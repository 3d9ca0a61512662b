"""Grids of machines: presets, and fields that take several values, in a small readable syntax.

    edge32 edge16 rows=8,16,32 cols=8:64:8 sram_a_bytes=sram_b_bytes=64K:512K:*2 dataflow=os,ws
    fused=none,requantize+gelu,requantize+gelu+add passes.softmax=2,3 widths=8+16,4+8+16
    energy=horowitz45,accelergy45 nonlinear=vector,host residency=true,false

Words without an equals sign are machines to start from (edge32 if there is none): presets or TOML
files. The others give a field of `Machine` its values: a list with commas, of values or of ranges
`first:last` and `first:last:step`, both ends included, where a step `*2` multiplies. K and M are
1,024 and 1,048,576. A value of a field that is itself a list has its items joined by +, or is
`none`; `passes.softmax` is a field of `Passes`. `nonlinear` and `residency` are options of
`simulate`, swept as if they were the machine's. Several fields before the values take the same one.
The grid is every combination; the last word changes fastest.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from refvit.accel.energy import TABLES
from refvit.accel.grid_values import MOST, values_of
from refvit.accel.machine import Machine, Passes
from refvit.accel.machine import machine as find_machine
from refvit.accel.possible import FUSABLE
from refvit.accel.simulate import NONLINEAR
from refvit.accel.systolic import DATAFLOWS

RANGE = 8  # values, of which more are said as a range
NAMES = ("name", "source", "passes")  # no values, and what is swept field by field
OPTIONS: Mapping[str, Any] = MappingProxyType({"nonlinear": "vector", "residency": True})
CHOICES: Mapping[str, Collection[Any]] = MappingProxyType(
    {
        "dataflow": DATAFLOWS,
        "energy": tuple(TABLES),
        "nonlinear": NONLINEAR,
        "fused": FUSABLE,
        "widths": range(1, 33),
    }
)


@dataclass(frozen=True)
class Axis:
    """Fields of a machine that take the same values, one after the other."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return "=".join((*self.names, spanned(self.values) or ",".join(map(shown, self.values))))


def spanned(values: Sequence[Any]) -> str:
    """Return many whole numbers at one distance as a range, "" for other values.

    >>> spanned(range(8, 129, 8)), spanned((8, 16))
    ('8:128:8', '')
    """
    if len(values) <= RANGE or any(type(value) is not int for value in values):
        return ""
    step = values[1] - values[0]
    if step < 1 or any(b - a != step for a, b in pairwise(values)):
        return ""
    return ":".join(map(shown, (values[0], values[-1], step)[: 3 if step > 1 else 2]))


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
        """Return the machine of that number; ValueError if it is impossible.

        Its name says every value of the number, those of options of `simulate` too.
        """
        base, values = self.values(number)
        if not values:
            return base
        said = " ".join(f"{'='.join(axis.names)}={shown(value)}" for axis, value in values)
        change = {name: value for axis, value in values for name in axis.names}
        passes = {name[7:]: change.pop(name) for name in [*change] if name.startswith("passes.")}
        change = {name: value for name, value in change.items() if name not in OPTIONS}
        if passes:
            change["passes"] = replace(base.passes, **passes)
        return replace(base, **change, name=f"{base.name} {said}")

    def options(self, number: int) -> dict[str, Any]:
        """Return the options of `simulate` of that number: those that are swept.

        >>> parse_grid(["rows=8,16", "nonlinear=vector,host"]).options(1)
        {'nonlinear': 'host'}
        """
        _, values = self.values(number)
        return {name: value for axis, value in values for name in axis.names if name in OPTIONS}

    def values(self, number: int) -> tuple[Machine, list[tuple[Axis, Any]]]:
        """Return the base of that number, and each axis with its value."""
        found: list[tuple[Axis, Any]] = []
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis.values))
            found.insert(0, (axis, axis.values[at]))
        return self.bases[number], found


def shown(value: Any) -> str:
    """Return a value as a grid says it.

    >>> shown(65536), shown(8.0), shown(True), shown((4, 8)), shown(())
    ('64K', '8', 'true', '4+8', 'none')
    """
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
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


def kinds(base: Machine) -> dict[str, type]:
    """Return what can be swept, and of which kind its values are: fields, passes, options."""
    known = {f.name: type(getattr(base, f.name)) for f in fields(base) if f.name not in NAMES}
    known |= {f"passes.{each.name}": int for each in fields(Passes)}
    return known | {name: type(value) for name, value in OPTIONS.items()}


def _axis(word: str, base: Machine, taken: list[str]) -> Axis:
    """Return the axis that one word says."""
    *names, said = word.split("=")
    known = kinds(base)
    for place, name in enumerate(names):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{word!r}: a machine has no {name!r}; {hint}")
        if name in taken or name in names[:place]:
            raise ValueError(f"{word!r}: {name} is said twice")
    kind = known[names[0]]
    if any(known[name] is not kind for name in names):
        raise ValueError(f"{word!r}: {' and '.join(names)} are of different kinds")
    values = [value for item in said.split(",") for value in values_of(item, kind, word)]
    if len(set(values)) < len(values):
        raise ValueError(f"{word!r} says a value twice")
    for name in names:
        _choose(name, values, word)
    return Axis(tuple(names), tuple(values))


def _choose(name: str, values: Sequence[Any], word: str) -> None:
    """Refuse a name that is none of those there are, and a list with an item twice."""
    for value in values:
        items = value if isinstance(value, tuple) else (value,)
        wrong = [item for item in items if item not in CHOICES.get(name, items)]
        if wrong:
            raise ValueError(f"{word!r}: no {name} {wrong[0]!r}; there are "
                             f"{', '.join(map(str, CHOICES[name]))}")  # fmt: skip
        if len(set(items)) < len(items):
            raise ValueError(f"{word!r}: {shown(value)} says an item twice")
