"""Taps: functions `(site, value) -> value` that watch or change what flows through `FloatOps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tap = Callable[[str, Any], Any]


def untouched(site: str, value: Any) -> Any:
    """The tap that does nothing."""
    return value


def compose(*taps: Tap) -> Tap:
    """Return the tap that applies `taps` from left to right.

    >>> compose(lambda s, v: v + 1, lambda s, v: v * 10)("x", 1)
    20
    """

    def tap(site: str, value: Any) -> Any:
        for each in taps:
            value = each(site, value)
        return value

    return tap


class Record:
    """A tap that keeps every value by site, for plots, tests and lockstep.

    >>> record = Record()
    >>> record("blocks.0.add1", 3.0), record.values
    (3.0, {'blocks.0.add1': 3.0})
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __call__(self, site: str, value: Any) -> Any:
        if site in self.values:
            raise ValueError(f"site {site!r} occurs twice in one forward; sites must be unique")
        self.values[site] = value
        return value
