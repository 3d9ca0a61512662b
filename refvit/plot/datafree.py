"""Pictures of images that are made without data, and of the ranges they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import LINES, axes

HATCHES = ("", "///", "...")  # beside the colours, for who does not see them
GAP = 2  # pixels between images


def gallery(named: Mapping[str, NDArray[np.uint8]], ax: Any = None) -> Any:
    """Draw a row of images [n, H, W, 3] for each name, in one picture."""
    ax = axes(ax)
    rows = [np.pad(images, ((0, 0), (GAP,) * 2, (GAP,) * 2, (0, 0)), constant_values=255)
            for images in named.values()]  # fmt: skip
    height = rows[0].shape[1]
    ax.imshow(np.concatenate([np.concatenate([*row], 1) for row in rows]), interpolation="nearest")
    ax.set(xticks=[])
    ax.set_yticks([height * (k + 0.5) for k in range(len(rows))], list(named), fontsize=11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def spans(
    named: Mapping[str, Sequence[tuple[float, float]]], sites: Sequence[str], ax: Any = None
) -> Any:
    """Draw the range (lo, hi) of every site, a bar for each name, over the largest magnitude that
    the first name has there."""
    ax = axes(ax)
    first = next(iter(named.values()))
    unit = np.array([max(abs(lo), abs(hi)) for lo, hi in first])
    thick = 0.8 / len(named)
    for k, (name, ends) in enumerate(named.items()):
        low, high = np.array(ends).T / unit
        places = np.arange(len(sites)) + (k - (len(named) - 1) / 2) * thick
        ax.barh(places, high - low, thick, low, color=LINES[k], hatch=HATCHES[k % len(HATCHES)],
                edgecolor="white", linewidth=0, label=name)  # fmt: skip
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(sites)), sites, fontsize=10)
    ax.set(
        ylim=(len(sites) - 0.5, -0.5), xlabel=f"range, largest magnitude of {next(iter(named))} = 1"
    )
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(named))
    return ax
