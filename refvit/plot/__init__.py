"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.accelerator import energy, gantt, grid, roof, units
from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.costs import costs
from refvit.plot.dataflow import dataflow
from refvit.plot.kernels import families
from refvit.plot.pictures import (
    attention,
    confusion,
    curves,
    heat,
    histogram,
    layers,
    patches,
    ranges,
)
from refvit.plot.tokens import pairs, token_grid, windows

__all__ = [
    "BLUE",
    "GREY",
    "LINES",
    "attention",
    "axes",
    "confusion",
    "costs",
    "curves",
    "dataflow",
    "energy",
    "families",
    "gantt",
    "grid",
    "heat",
    "histogram",
    "layers",
    "pairs",
    "patches",
    "picture",
    "ranges",
    "roof",
    "token_grid",
    "units",
    "windows",
]
