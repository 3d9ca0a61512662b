"""Two answers compared: first their kind, then their shape, then every element.

A judge returns "" for an answer that will do, else one clause that says what is wrong with it and,
where there is a usual remedy, names it. Integers are compared exactly; reals within a part of
the largest magnitude expected, never within a fixed distance, which near zero accepts anything.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floats"}
WHOLE = (int, np.integer)
REAL = (int, float, Fraction, np.integer, np.floating)


def equal(found: Any, expected: Any, *arguments: Any, within: float = 0.0) -> str:
    """Return "" if `found` is `expected`, or what is wrong.

    `within` is a share of the largest expected magnitude, for reals; integers, booleans and text
    are to be equal. NaN equals NaN. An integer array has to have the dtype expected, unless that
    is int64, which stands for any integers; a float array may be of any width.

    >>> equal(np.array([1, 2]), np.array([1, 3]))
    'at [1] it is 2, expected 3'
    >>> equal([1, 2], np.array([1, 2]))
    'it is a list, expected an array: np.array(...) makes one'
    >>> equal(0.5, np.inf, within=1e-9)
    'it is 0.5, expected inf'
    >>> equal(1 + 2.0**-28, 1.0, within=1e-9)
    'it is 1.0000000037252903, expected 1'
    """
    if isinstance(expected, np.ndarray):
        return _arrays(found, expected, within)
    if isinstance(expected, tuple | list):
        return _items(found, expected, within)
    return _scalars(found, expected, within)


def closely(within: float) -> Callable[..., str]:
    """Return a judge that takes reals within that share of the largest magnitude expected."""
    return partial(equal, within=within)


def _items(found: Any, expected: Any, within: float) -> str:
    kind = type(expected).__name__
    if not isinstance(found, tuple | list):
        cure = f": {kind}(...) makes one" if isinstance(found, np.ndarray) else ""
        return f"it is {_a(found)}, expected {_a(expected)} of {len(expected)}{cure}"
    if len(found) != len(expected):
        return f"it has {len(found)} items, expected {len(expected)}"
    for place, (one, wanted) in enumerate(zip(found, expected, strict=True)):
        trouble = equal(one, wanted, within=within)
        if trouble:
            return f"item {place} of the {kind}: {trouble}"
    return ""


def _scalars(found: Any, expected: Any, within: float) -> str:
    if isinstance(found, np.ndarray) and found.ndim == 0:
        found = found[()]
    if isinstance(expected, bool | np.bool_):
        if not isinstance(found, bool | np.bool_):
            cure = ": np.all(...) makes one" if isinstance(found, np.ndarray) else ""
            return f"it is {_a(found)}, expected True or False{cure}"
        return "" if found == expected else f"it is {bool(found)}, expected {bool(expected)}"
    if isinstance(expected, WHOLE):
        if isinstance(found, bool | np.bool_) or not isinstance(found, WHOLE):
            return f"it is {_a(found)}, expected a whole number: int(...) makes one"
        return "" if found == expected else f"it is {found}, expected {expected}"
    if isinstance(expected, REAL):
        if isinstance(found, bool | np.bool_) or not isinstance(found, REAL):
            return f"it is {_a(found)}, expected a number"
        near = _near(np.float64(found), np.float64(expected), within)
        return "" if near else f"it is {_unlike(float(found), float(expected))}"
    if type(found) is not type(expected):
        return f"it is {_a(found)}, expected {_a(expected)}"
    return "" if found == expected else f"it is {found!r}, expected {expected!r}"


def _arrays(found: Any, expected: NDArray[Any], within: float) -> str:
    if not isinstance(found, np.ndarray):
        if isinstance(found, np.generic) and expected.ndim == 0:
            found = np.asarray(found)
        else:
            return f"it is {_a(found)}, expected an array: np.array(...) makes one"
    trouble = _dtype(found.dtype, expected.dtype)
    if trouble:
        return trouble
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, expected {expected.shape}"
    wrong = np.argwhere(~_near(found, expected, within))
    if not len(wrong):
        return ""
    index = tuple(map(int, wrong[0]))
    at = f"at {list(index)} it" if index else "it"
    return f"{at} is {_unlike(found[index], expected[index])}"


def _dtype(found: np.dtype[Any], expected: np.dtype[Any]) -> str:
    if expected.kind in "iu" and found.kind not in "iu":
        asked = "integers" if expected == np.int64 else str(expected)
        cast = "int64" if expected == np.int64 else expected
        return f"its dtype is {found}, expected {asked}: .astype(np.{cast}) makes them"
    if expected.kind in "iu" and expected != np.int64 and found != expected:
        return f"its dtype is {found}, expected {expected}: .astype(np.{expected}) makes them"
    if (expected.kind == "f" and found.kind != "f") or (expected.kind == "b" and found.kind != "b"):
        cure = ": .astype(np.float64) makes them" if expected.kind == "f" else ""
        return f"its dtype is {found}, expected {KINDS[expected.kind]}{cure}"
    return ""


def _near(found: Any, expected: Any, within: float) -> Any:
    if np.asarray(expected).dtype.kind != "f" or not within:
        same = np.equal(found, expected)
        nan = np.not_equal(found, found) & np.not_equal(expected, expected)
        return same | nan
    finite = np.abs(np.extract(np.isfinite(expected), expected))
    room = within * np.max(finite, initial=0.0)
    with np.errstate(invalid="ignore"):
        return (np.abs(np.subtract(found, expected, dtype=np.float64)) <= room) | (
            np.equal(found, expected) | (np.isnan(found) & np.isnan(expected))
        )


def _a(value: Any) -> str:
    if value is None:
        return "None"
    name = "array" if isinstance(value, np.ndarray) else type(value).__name__
    article = "an" if name[0] in "aeiou" else "a"
    shown = f" ({value!r})" if isinstance(value, int | float | str | np.generic) else ""
    return f"{article} {name}{shown:.40}"


def _unlike(found: Any, expected: Any) -> str:
    """Return two values that differ, with as many digits as that takes."""
    for digits in (6, 17):
        one, other = (_short(value, digits) for value in (found, expected))
        if one != other:
            break
    return f"{one}, expected {other}"


def _short(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float | np.floating) else str(value)
