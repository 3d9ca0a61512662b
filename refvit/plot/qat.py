"""Pictures of quantization-aware training: gradients over a staircase, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refvit.autodiff import Var, backward
from refvit.plot.base import BLUE, DASHES, GREY, LINES, axes
from refvit.quant import LearnedGrid, QParams, fake_quantize


def slopes(grid: QParams, axs: Sequence[Any]) -> Sequence[Any]:
    """Draw, on three Axes with one x, the values of a grid with one scale, what straight-through
    takes for their slope, and LSQ's slope for the step, before its gradient scale."""
    step, lo, hi = float(grid.scale), grid.lo, grid.hi
    x = np.linspace((lo - 2) * step, (hi + 2) * step, 2001)
    leaves: list[Any] = [Var(x), Var(np.full_like(x, step))]
    backward(np.sum(LearnedGrid(grid, leaves[1], count=1).round(leaves[0])))
    slope, of_step = leaves[0].grad, leaves[1].grad * np.sqrt(hi)
    axs[0].plot(x, np.clip(x, lo * step, hi * step), "--", color=GREY, label="the ramp it follows")
    axs[0].plot(x, fake_quantize(x, grid), color=BLUE, linewidth=2, label="on the grid")
    axs[0].set(ylabel="value")
    axs[1].plot(x, slope, "--", color=GREY, linewidth=2, label="straight-through")
    axs[1].axhline(0, color=BLUE, linewidth=2, label="true: 0, and at a jump none")
    jumps = (np.arange(lo, hi) + 0.5) * step
    axs[1].plot(jumps, np.zeros(len(jumps)), "o", color=BLUE, markerfacecolor="white")
    axs[1].set(ylabel="slope for x", ylim=(-0.25, 1.6), yticks=(0, 1))
    axs[2].axhline(0, color="black", linewidth=0.5)
    axs[2].plot(x, of_step, color=LINES[1], linewidth=2, label="LSQ")
    axs[2].set(ylabel="slope for the step", xlabel="x", yticks=(lo, 0, hi))
    for ax, place in zip(axs, ("upper left", "upper right", "upper left"), strict=True):
        ax.axvspan(x[0], lo * step, color=GREY, alpha=0.15, linewidth=0)
        ax.axvspan(hi * step, x[-1], color=GREY, alpha=0.15, linewidth=0)
        ax.legend(frameon=False, loc=place, ncols=2)
        ax.set_xlim(x[0], x[-1])
    return axs


def losses(named: Mapping[str, Sequence[float]], ax: Any = None, window: int = 10) -> Any:
    """Draw losses [steps] by name: points, and a line through the mean of the last `window`."""
    ax = axes(ax)
    for number, (name, found) in enumerate(named.items()):
        y = np.asarray(found, np.float64)
        totals = np.cumsum(np.concatenate([[0.0], y]))
        first = np.maximum(np.arange(1, len(y) + 1) - window, 0)
        mean = (totals[1:] - totals[first]) / (np.arange(1, len(y) + 1) - first)
        ax.plot(y, ".", color=LINES[number], markersize=3, alpha=0.4)
        ax.plot(mean, DASHES[number], color=LINES[number], linewidth=2, label=name)
    ax.set(xlabel="step", ylabel="loss")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax
