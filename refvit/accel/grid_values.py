"""The values of a grid's word, as they are said: numbers, ranges, truth, names and lists."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

MOST = 1_000_000  # machines of a grid, and values of a range
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)([KM]?)")
UNITS = {"": 1, "K": 1024, "M": 1024**2}
TRUTH = {"true": True, "false": False}


def values_of(item: str, kind: type, word: str) -> Iterator[Any]:
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


def _list(said: str, kind: type, word: str) -> Any:
    """Return items joined by +: whole numbers where the first is one, else names."""
    if said in ("", "none"):
        return () if said else _name(said, kind, word)
    items = said.split("+")
    if items[0].isdecimal():
        return tuple(_number(item, int, word) for item in items)
    return tuple(_name(item, kind, word) for item in items)


READERS: dict[type, Callable[[str, type, str], Any]] = {bool: _truth, str: _name, tuple: _list}
