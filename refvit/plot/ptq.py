"""Pictures of post-training quantization: accuracy against bits, sensitivity by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import DASHES, GREY, LINES, MARKERS, axes
from refvit.quant import Sensitivity


def accuracy_by_bits(
    bits: Sequence[int],
    named: Mapping[str, Sequence[float]],
    count: int,
    exact: float,
    chance: float,
    ax: Any = None,
) -> Any:
    """Draw accuracies [bits] by name over equally spaced widths, the most bits first.

    Every mark has a bar of two standard errors, as it was counted on `count` images; lines across
    are the float model's accuracy, `exact`, and that of guessing, `chance`.
    """
    ax = axes(ax)
    for number, (name, found) in enumerate(named.items()):
        p = np.asarray(found, np.float64)
        spread = 2 * np.sqrt(p * (1 - p) / count)
        ax.errorbar(
            np.arange(len(bits)) + 0.06 * (number - (len(named) - 1) / 2), 100 * p, 100 * spread,
            color=LINES[number], marker=MARKERS[number], linestyle=DASHES[number], linewidth=2,
            markersize=7, capsize=3, label=name,
        )  # fmt: skip
    ax.axhline(100 * exact, color="black", linewidth=1, label="float")
    ax.axhline(100 * chance, color=GREY, linewidth=1, linestyle=":", label="guessing")
    ax.set_xticks(range(len(bits)), [str(b) for b in bits])
    ax.set(xlabel="bits of a code", ylabel="top-1 accuracy, %", ylim=(0, 103))
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False, loc="lower left")
    return ax


def sensitivities(found: Sensitivity, ax: Any = None) -> Any:
    """Draw a row for each layer and a mark for each width: what rounding this layer alone costs,
    on a logarithmic scale. What costs nothing that can be told is at the left edge."""
    ax = axes(ax)
    places, least = np.arange(len(found.layers)), 1e-6
    costs = np.maximum(found.costs, least)
    for k, bits in enumerate(found.widths):
        ax.plot(costs[:, k], places, MARKERS[k], color=LINES[k], markersize=6, label=f"{bits} bits")
    ax.hlines(places, costs.min(1), costs.max(1), color=GREY, linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="mean KL from the float model, this layer alone rounded")
    ax.set_yticks(places, found.layers, fontsize=9)
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(found.widths))
    ax.grid(axis="x", alpha=0.3)
    return ax


def roundings(
    weights: NDArray[Any], outputs: NDArray[Any], chosen: Mapping[str, tuple[float, float]],
    ax: Any = None,
) -> Any:  # fmt: skip
    """Draw random roundings as points, the error of their weights against that of their output, and
    `chosen` ones, (weights, output) by name, as marks."""
    ax = axes(ax)
    ax.plot(
        weights, outputs, ".", color=GREY, markersize=4, alpha=0.6, label="up or down by chance"
    )
    for number, (name, (x, y)) in enumerate(chosen.items()):
        ax.plot([x], [y], MARKERS[number], color=LINES[number], markersize=10, label=name)
    ax.set(xlabel="error of the weights", ylabel="error of the output", yscale="log")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
