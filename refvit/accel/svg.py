"""Scalable vector graphics in a few words: text, boxes, lines, dots and scales, as XML.

A picture takes the colour of the text around it (`currentColor`), so it is read on light and on
dark pages, and it needs no script, font or style from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # wanted in a file of its own only


def picture(label: str, width: float, height: float, parts: Sequence[str]) -> str:
    """Return an inline picture of that size in pixels, which fills the width it is given."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'font-size="11" font-family="system-ui, sans-serif" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def standalone(drawn: str) -> str:
    """Return an inline picture as the text of a file: with its namespace, black on white."""
    ground = 'style="background:#fff;color:#222"'
    return drawn.replace("<svg ", f"<svg{NAMESPACE} {ground} ", 1) + "\n"


def text(x: float, y: float, said: str, anchor: str = "start", more: str = "") -> str:
    """Return a line of text: `anchor` is start, middle or end."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{place}{more}>{escape(said)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, about: str = "") -> str:
    """Return a filled box; `about` is shown where the pointer rests on it."""
    size = f'width="{max(0.0, width):.3f}" height="{max(0.0, height):.2f}"'
    start = f'<rect x="{x:.3f}" y="{y:.2f}" {size} fill="{colour}"'
    return f"{start}><title>{escape(about)}</title></rect>" if about else f"{start}/>"


def dot(x: float, y: float, radius: float, colour: str, about: str, more: str = "") -> str:
    """Return a filled circle with its explanation."""
    where = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
    return f'<circle {where} fill="{colour}"{more}><title>{escape(about)}</title></circle>'


def line(points: Sequence[tuple[float, float]], more: str = ' stroke="currentColor"') -> str:
    """Return a line through points."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none"{more}/>'


@dataclass(frozen=True)
class Scale:
    """From values in [low, high] to pixels in [start, end], on a linear or logarithmic scale."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value.

        >>> Scale(1, 100, 0, 50, log=True)(10)
        25.0
        """
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low / 1e6))
        span = (high - low) or 1.0
        return self.start + (at - low) / span * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values within the scale: 1, 2 and 5 times powers of ten where these are at
        least three, else others that lie evenly.

        >>> Scale(0, 10, 0, 1).ticks(), Scale(3, 60, 0, 1, log=True).ticks()
        ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [5.0, 10.0, 20.0, 50.0])
        """
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = [float(f"{k}e{power}") for power in powers for k in (1, 2, 5)]
            inside = [value for value in every if self.low <= value <= self.high]
            if len(inside) >= 3:
                return inside
        rough = (self.high - self.low or 1.0) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def bottom_axis(scale: Scale, y: float, label: str) -> list[str]:
    """Return a horizontal axis under `y`, its ticks and its label."""
    parts = [line([(scale.start, y), (scale.end, y)])]
    for tick in scale.ticks():
        x = scale(tick)
        parts += [line([(x, y), (x, y + 4)]), text(x, y + 15, f"{tick:,g}", "middle")]
    return [*parts, text((scale.start + scale.end) / 2, y + 30, label, "middle")]


def left_axis(scale: Scale, x: float, label: str) -> list[str]:
    """Return a vertical axis left of `x`, its ticks, and its label above it."""
    parts = [line([(x, scale.start), (x, scale.end)])]
    for tick in scale.ticks():
        y = scale(tick)
        parts += [line([(x - 4, y), (x, y)]), text(x - 7, y + 4, f"{tick:,g}", "end")]
    return [*parts, text(x - 40, scale.end - 8, label)]
