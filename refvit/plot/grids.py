"""Pictures of linear grids: the staircase, the sawtooth of its error, and where levels lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, GREY, LINES, axes
from refvit.quant import QParams, dequantize, fake_quantize

FloatArray = NDArray[Any]
RED = LINES[1]


def ends(grid: QParams) -> tuple[float, float]:
    """Return the least and greatest value that a grid of one scale holds."""
    lo, hi = grid.range
    return lo * float(grid.scale), hi * float(grid.scale)


def _beyond(grid: QParams, x: FloatArray, ax: Any, said: str = "") -> None:
    """Hatch where x is clipped, and say so."""
    lo, hi = ends(grid)
    for left, right in ((x.min(), lo), (hi, x.max())):
        if left < right:
            ax.axvspan(left, right, facecolor=GREY, alpha=0.3, hatch="//", edgecolor="white")
            place = ((left + right) / 2, 0.5)
            ax.text(*place, said, transform=ax.get_xaxis_transform(), ha="center", va="center")
    ax.set_xlim(x.min(), x.max())
    ax.grid(alpha=0.3)


def staircase(grid: QParams, x: FloatArray, ax: Any = None) -> Any:
    """Draw x [n], in ascending order, rounded to a grid of one scale, over x; where x is clipped is
    hatched. The right axis counts codes."""
    ax = axes(ax)
    _beyond(grid, x, ax, "clipped")
    ax.plot(x, x, "--", color=GREY, linewidth=1.2, label="x itself")
    ax.plot(x, fake_quantize(x, grid), color=BLUE, linewidth=2, label="x on the grid")
    ax.set(ylabel="value on the grid", ylim=(x.min(), x.max()))
    ax.legend(frameon=False, loc="upper left")
    codes = np.arange(grid.lo, grid.hi + 1)
    if len(codes) <= 16:
        right = ax.twinx()
        right.set(ylim=ax.get_ylim(), ylabel="code")
        right.set_yticks(dequantize(codes, grid, np.float64), [str(code) for code in codes])
    return ax


def sawtooth(grid: QParams, x: FloatArray, ax: Any = None) -> Any:
    """Draw the error of rounding x [n], in ascending order, to a grid of one scale, between the
    dashed lines of half a step."""
    ax = axes(ax)
    _beyond(grid, x, ax)
    half = float(grid.scale) / 2
    ax.plot(x, fake_quantize(x, grid) - x, color=RED, linewidth=2, label="error")
    ax.axhline(0, color="black", linewidth=0.6)
    for side in (half, -half):
        label = "half a step, either way" if side > 0 else None
        ax.axhline(side, color="black", linestyle="--", linewidth=1, label=label)
    ax.set(xlabel="x", ylabel="error")
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def levels(named: Mapping[str, QParams], lo: float, hi: float, ax: Any = None) -> Any:
    """Draw a line for each grid of one scale, a mark for each of its values, a ring around zero;
    data from lo to hi is shaded."""
    ax = axes(ax)
    ax.axvspan(lo, hi, color=GREY, alpha=0.25, linewidth=0)
    for place, grid in enumerate(named.values()):
        codes = np.arange(grid.lo, grid.hi + 1)
        values = dequantize(codes, grid, np.float64)
        within = (values >= lo - grid.scale / 2) & (values <= hi + grid.scale / 2)
        ax.plot(values, np.full(len(values), place), "-", color=GREY, linewidth=0.8, zorder=1)
        for chosen, marker, colour in ((within, "o", BLUE), (~within, "x", RED)):
            ax.plot(
                values[chosen], np.full(chosen.sum(), place), marker, color=colour, markersize=6
            )
        ax.plot(0, place, "o", mfc="none", color="black", markersize=12)
    ax.set(yticks=range(len(named)), yticklabels=list(named), ylim=(len(named) - 0.5, -0.5))
    ax.set_xlabel("value")
    return ax
