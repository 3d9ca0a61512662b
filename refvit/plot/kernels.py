"""Errors of kernels by family: one colour, dash and marker for each, in every picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.plot.base import BLUE, GREY, LINES, axes

# family: colour, dashes, marker
STYLES = {
    "refvit": (BLUE, "-", "o"),
    "I-BERT": (LINES[1], "--", "s"),
    "I-BERT, shift 0": (GREY, "--", "D"),
    "I-ViT": (LINES[2], "-.", "^"),
    "log2": (LINES[3], ":", "v"),
}


def families(x: NDArray[Any], errors: Mapping[str, NDArray[Any]], ax: Any = None) -> Any:
    """Draw a line for each family of kernels, its errors [n] over x [n], on logarithmic axes, with
    a dozen markers at most. Its colour, dashes and marker are the same in every picture."""
    ax = axes(ax)
    for name, error in errors.items():
        colour, dashes, marker = STYLES[name]
        ax.plot(
            x, error, dashes, color=colour, linewidth=2, marker=marker, markersize=6, label=name,
            markevery=max(1, len(np.asarray(x)) // 10),
        )  # fmt: skip
    ax.set(xscale="log", yscale="log")
    ax.grid(alpha=0.3)
    return ax
