"""A picture of what versions of a model cost, side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from refvit.plot.base import BLUE, GREY, axes

HEIGHT = 0.36  # of a bar; its text stands above it


def costs(
    names: Sequence[str],
    values: Sequence[float],
    ax: Any = None,
    *,
    highs: Sequence[float] = (),
    least: Collection[str] = (),
    form: str = "{:,.0f}",
) -> Any:
    """Draw a bar for each name and its value above it, written by `form`; the first one is grey.

    `highs` are the high ends of estimates whose low ends are the values: a lighter bar, and both
    ends written. The names in `least` have hatched bars, and "at least" before the value.
    """
    ax = axes(ax)
    places, ends = range(len(names)), highs or values
    colours = [GREY if place == 0 else BLUE for place in places]
    for place, (name, value, end) in enumerate(zip(names, values, ends, strict=True)):
        hatch = "///" if name in least else ""
        look = {"height": HEIGHT, "color": colours[place], "hatch": hatch, "edgecolor": "white"}
        ax.barh(place + 0.15, end, alpha=0.4 if end > value else 1.0, **look)
        ax.barh(place + 0.15, value, **look)
        said = form.format(value) + (f" to {form.format(end)}" if end > value else "")
        said = f"at least {said}" if name in least else said
        ax.text(0.02 * max(ends), place - 0.08, said, fontsize=11, va="bottom")
    ax.set(xlim=(0, 1.02 * max(ends)), xticks=[], ylim=(len(names) - 0.55, -0.5))
    ax.set_yticks([place + 0.15 for place in places], names, fontsize=11)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return ax
