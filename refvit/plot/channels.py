"""Pictures of channels, of which a few may be far larger than the others, and of what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, DASHES, GREY, LINES, MARKERS, axes


def channels(
    reach: NDArray[Any], half_step: float, marked: NDArray[np.integer[Any]], ax: Any = None
) -> Any:
    """Draw a bar for max|y| of every channel [C] on a logarithmic scale, those in `marked` hatched
    and red; what lies below the line at `half_step` gets the code 0."""
    ax = axes(ax)
    at = np.arange(len(reach))
    outlier = np.isin(at, marked)
    ax.bar(at[~outlier], reach[~outlier], color=BLUE, width=0.8)
    if outlier.any():
        ax.bar(at[outlier], reach[outlier], color=LINES[1], width=0.8, hatch="///")
    ax.axhspan(1e-9, half_step, color=GREY, alpha=0.45, zorder=3)
    ax.axhline(half_step, color="black", linestyle="--", linewidth=1, zorder=4)
    ax.set(yscale="log", xlabel="channel", xlim=(-0.8, len(reach) - 0.2))
    return ax


def accuracies(
    x: NDArray[Any] | Mapping[str, NDArray[Any]],
    named: Mapping[str, NDArray[Any]],
    chance: float,
    ax: Any = None,
) -> Any:
    """Draw a line with markers for each name, its accuracies [n], shares of 1, in per cent over x
    [n], which may differ by name; chance is a thin line."""
    ax = axes(ax)
    for number, (name, shares) in enumerate(named.items()):
        places = x[name] if isinstance(x, Mapping) else x
        ax.plot(
            places, 100 * np.asarray(shares), DASHES[number % len(DASHES)], linewidth=2,
            marker=MARKERS[number % len(MARKERS)], color=LINES[number % len(LINES)], label=name,
        )  # fmt: skip
    ax.axhline(100 * chance, color="black", linestyle=":", linewidth=1)
    ax.text(0.45, 100 * chance + 1, "chance", transform=ax.get_yaxis_transform(), fontsize=10)
    ax.set(ylim=(0, 102), ylabel="top-1 accuracy, %")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=10)
    return ax
