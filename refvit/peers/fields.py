"""Fields of a peer's settings, read with their types checked: the line says which was wrong."""

from __future__ import annotations

from typing import Any


def whole(about: dict[str, Any], key: str, default: int) -> int:
    """Return a whole number; ValueError names the field that is none."""
    value = about.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} is a whole number, got {value!r:.60}")
    return value


def real(about: dict[str, Any], key: str, default: float) -> float:
    """Return a number as a float."""
    value = about.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is a number, got {value!r:.60}")
    return float(value)


def flag(about: dict[str, Any], key: str, default: bool) -> bool:
    """Return true or false."""
    value = about.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is true or false, got {value!r:.60}")
    return value


def wholes(about: dict[str, Any], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple."""
    value = about.get(key, default)
    numbers = isinstance(value, list | tuple) and all(type(n) is int for n in value)
    if not numbers:
        raise ValueError(f"{key} is a list of whole numbers, got {value!r:.60}")
    return tuple(value)


def pair(size: Any, key: str = "a size") -> tuple[int, int]:
    """Return (height, width): of one number, a list of two, or {height, width}."""
    both = [size, size] if isinstance(size, int) and not isinstance(size, bool) else size
    if isinstance(both, dict):
        both = [both.get("height"), both.get("width")]
    good = isinstance(both, list | tuple) and len(both) == 2
    if not good or not all(type(n) is int for n in both):
        shown = list(both) if isinstance(both, list | tuple) else both
        raise ValueError(f"{key} is a whole number or a list of two, got {shown!r:.60}")
    return both[0], both[1]
