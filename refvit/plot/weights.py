"""Pictures of weight matrices: the matrix itself, and how far each of its rows reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, LINES, axes
from refvit.quant import code_range, symmetric

FloatArray = NDArray[Any]


def weight_map(weight: FloatArray, ax: Any = None) -> Any:
    """Draw a matrix [rows, columns] as a heat map, white at 0, with a bar that tells its values."""
    ax = axes(ax)
    reach = np.abs(weight).max()
    shown = ax.imshow(weight, cmap="PuOr", vmin=-reach, vmax=reach, interpolation="nearest")
    ax.figure.colorbar(shown, ax=ax, location="left", shrink=0.8, label="weight")
    ax.set(xlabel="input (column)", ylabel="output (row)")
    ax.yaxis.set_label_position("right")
    ax.yaxis.tick_right()
    return ax


def row_ranges(weight: FloatArray, bits: int, ax: Any = None) -> Any:
    """Draw a bar for every row, as long as its max|w|, up to the dashed line of the whole matrix;
    the upper axis counts the codes that it reaches on the one symmetric grid of `bits` bits."""
    ax = axes(ax)
    reach = np.abs(weight).max(1)
    scale = float(symmetric(reach.max(), bits).scale)
    top = code_range(bits)[1]
    ax.barh(range(len(reach)), reach, height=0.85, color=BLUE)
    ax.axvline(reach.max(), color=LINES[1], linestyle="--", linewidth=1.5)
    ax.set(xlim=(0, 1.06 * reach.max()), ylim=(len(reach) - 0.5, -0.5), xlabel="max|w| of the row")
    above = ax.secondary_xaxis("top")
    codes = np.arange(0, top + 1, -(-top // 8))
    above.set_xticks(codes * scale, [str(code) for code in codes])
    above.set_xlabel(f"greatest code on one {bits}-bit grid")
    return ax
