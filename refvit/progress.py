"""One line that shows how far long work has come, on a terminal or in a notebook only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """A status line on stderr: `label  done/total  rate  time left  note`.

    It is first drawn after a second and then at most five times a second; where stderr is neither
    a terminal nor a notebook's it is not drawn at all, so that logs stay clean.
    """

    def __init__(self, label: str, total: int, unit: str = "images", done: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.began = time.monotonic()
        self.drawn = 0.0
        self.width = 0
        self.live = sys.stderr.isatty() or "ipykernel" in sys.modules

    def advance(self, count: int, note: str = "") -> None:
        """Say that `count` more units are done; `note` is shown behind the figures."""
        self.done += count
        now = time.monotonic()
        if self.live and now - self.began > 1 and now - self.drawn > 0.2:
            self.drawn = now
            self._draw(self.line(now - self.began) + (f"  {note}" if note else ""))

    def line(self, seconds: float) -> str:
        """Return the text for `seconds` of work."""
        rate = (self.done - self.first) / max(seconds, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        share = f"{self.done:,}/{self.total:,} {self.unit}"
        return f"{self.label}  {share}  {rate:,.0f}/s  {clock(left)} left"

    def close(self) -> None:
        """Wipe the line."""
        if self.live and self.width:
            self._draw("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _draw(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = len(text)


def clock(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def track(items: Iterable[T], label: str, total: int, size: int = 1) -> Iterator[T]:
    """Yield `items`, each worth `size` units of `total`, while the line shows how far it is."""
    bar = Progress(label, total)
    try:
        for item in items:
            yield item
            bar.advance(min(size, total - bar.done))
    finally:
        bar.close()
