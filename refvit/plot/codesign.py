"""Pictures of an exploration: what designs cost, and the front of those that none dominates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refvit.exploration import LABELS, Point
from refvit.plot.base import LINES, axes

MARKERS = ("o", "s", "^", "D", "v", "P")


def front(points: Sequence[Point], x: str = "us", y: str = "uj_high", ax: Any = None) -> Any:
    """Draw points of an exploration, small and pale, by two of their figures; those on the front
    large, joined by a line for each recipe, which the legend names with its top-1."""
    ax = axes(ax)
    for k, recipe in enumerate(dict.fromkeys(point.recipe for point in points)):
        mine = [point for point in points if point.recipe == recipe]
        colour, marker = LINES[k % len(LINES)], MARKERS[k % len(MARKERS)]
        ax.scatter(
            [getattr(p, x) for p in mine],
            [getattr(p, y) for p in mine],
            s=26,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidth=0.8,
            alpha=0.5,
        )
        best = sorted((p for p in mine if p.front), key=lambda p: float(getattr(p, x)))
        top1 = "" if mine[0].top1 is None else f", {mine[0].top1:.1%} right"
        said = "" if best else ": none on the front"
        ax.plot([getattr(p, x) for p in best], [getattr(p, y) for p in best], markersize=9,
                linewidth=1.5, markeredgecolor="black", label=f"{Path(recipe).stem}{top1}{said}",
                color=colour, marker=marker)  # fmt: skip
    words = {"us": "microseconds", "top1": "top-1"} | LABELS
    ax.set(xlabel=words.get(x, x), ylabel=words.get(y, y))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax
