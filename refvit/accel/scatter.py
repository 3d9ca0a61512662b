"""A cloud of points and its front, in inline SVG on logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

from refvit.accel.svg import Scale, bottom_axis, dot, left_axis, line, picture, text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
WIDE, HIGH, LEGEND = 900, 480, 640  # pixels; where the names begin

Dot = tuple[float, float, bool, str]  # x, y, on the front, its name


def scatter(
    groups: Mapping[str, Sequence[Dot]], x_label: str, y_label: str, title: str = ""
) -> str:
    """Draw the dots of every group in its colour: small ones, and large ones for the front, which
    say their names. Of small dots on one pixel one is drawn, so that a picture stays small."""
    dots = [each for group in groups.values() for each in group]
    x = Scale(min(d[0] for d in dots) / 1.1, max(d[0] for d in dots) * 1.1, 75, LEGEND - 30, True)
    y = Scale(min(d[1] for d in dots) / 1.1, max(d[1] for d in dots) * 1.1, HIGH - 45, 40, True)
    parts = [*bottom_axis(x, HIGH - 45, x_label), *left_axis(y, 75, y_label)]
    fronts: list[str] = []
    for number, (name, group) in enumerate(groups.items()):
        colour = COLOURS[number % len(COLOURS)]
        small = {(round(x(d[0])), round(y(d[1]))) for d in group if not d[2]}
        parts += [f'<circle cx="{a}" cy="{b}" r="2" fill="{colour}" fill-opacity="0.4"/>'
                  for a, b in sorted(small)]  # fmt: skip
        fronts += _front([d for d in group if d[2]], x, y, colour, name, (x_label, y_label))
        parts += [dot(LEGEND, 26 + 16 * number, 5, colour, name),
                  text(LEGEND + 12, 30 + 16 * number, name)]  # fmt: skip
    head = text(WIDE / 3, 14, title, "middle", ' font-size="13"') if title else ""
    tall = max(HIGH, 40 + 16 * len(groups))
    return picture(title or "Pareto front", WIDE, tall, [head, *parts, *fronts])


def _front(
    dots: Sequence[Dot], x: Scale, y: Scale, colour: str, name: str, labels: tuple[str, str]
) -> list[str]:
    """Return the large dots of a group, and a line through those that fall from left to right:
    the others are on the front for what the picture does not show."""
    ordered = sorted(dots)
    lowest = list(accumulate((d[1] for d in ordered), min))
    steps = [d for d, low in zip(ordered, [math.inf, *lowest], strict=False) if d[1] < low]
    parts = []
    if len(steps) > 1:
        points = [(x(d[0]), y(d[1])) for d in steps]
        parts.append(line(points, f' stroke="{colour}" stroke-opacity="0.7"'))
    for a, b, _, machine in ordered:
        about = f"{machine}, {name}: {labels[0]} {a:,.6g}, {labels[1]} {b:,.6g}"
        parts.append(dot(x(a), y(b), 4, colour, about, ' stroke="currentColor"'))
    return parts
