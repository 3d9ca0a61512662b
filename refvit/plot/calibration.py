"""Pictures of values before a grid: where observers clip them, and which levels a grid has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, GREY, LINES, axes

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
ROW = 0.11  # of the height of the axes, what the levels of one grid take


def thresholds(values: NDArray[Any], ends: Mapping[str, float], ax: Any = None) -> Any:
    """Draw how magnitudes are spread, and a line at each named clipping point, its share of values
    beyond beside it."""
    ax = axes(ax)
    magnitudes = np.abs(values).ravel()
    counts, _, _ = ax.hist(magnitudes, bins=120, color=GREY, alpha=0.6)
    top = counts.max()
    ax.set(yscale="log", xlabel="magnitude", ylabel="how many values", xlim=(0, None))
    ax.set_ylim(0.7, top * 10 ** (0.35 * len(ends) + 0.4))
    for number, (name, end) in enumerate(ends.items()):
        colour, dash = LINES[number % len(LINES)], DASHES[number % len(DASHES)]
        height = top * 10 ** (0.35 * (len(ends) - number))
        ax.plot([end, end], [0.7, height], linestyle=dash, color=colour, linewidth=2, label=name)
        beyond = np.mean(magnitudes > end * (1 + 1e-6))
        said = f"{name} {end:.2f}, {'nothing' if not beyond else f'{beyond:.2%}'} beyond "
        ax.text(end, height, said, ha="right", va="top", fontsize=11)
    return ax


def values_and_levels(
    values: NDArray[Any], grids: Mapping[str, NDArray[Any]], ax: Any = None, log: bool = False
) -> Any:
    """Draw how values are spread, and under it a row of ticks for each grid: its levels.

    With `log` the axis is logarithmic, and what is not above 0 is left out.
    """
    ax = axes(ax)
    flat = values.ravel()
    flat = flat[flat > 0] if log else flat
    least, most = float(flat.min()), float(flat.max())
    bins = np.geomspace(least, most, 90) if log else np.linspace(least, most, 120)
    ax.hist(flat, bins=bins, color=GREY, alpha=0.6)
    if log:
        ax.set_xscale("log")
    for number, (name, points) in enumerate(grids.items()):
        colour = LINES[number % len(LINES)] if number else BLUE
        lower = -ROW * (number + 1)
        across = ax.get_xaxis_transform()
        shown = points[points > 0] if log else points
        ax.vlines(shown, lower, lower + 0.8 * ROW, color=colour, transform=across, clip_on=False,
                  linewidth=1.4, label=name)  # fmt: skip
        ax.text(1.01, lower + 0.4 * ROW, name, color=colour, transform=ax.transAxes, va="center",
                fontsize=10)  # fmt: skip
    height = ax.get_window_extent().height * 72 / ax.figure.dpi  # in points, as `pad` is
    ax.tick_params(axis="x", which="both", pad=4 + height * ROW * len(grids), length=0)
    ax.set_ylabel("how many values")
    return ax
