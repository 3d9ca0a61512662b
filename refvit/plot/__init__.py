"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.accelerator import energy, gantt, grid, roof, units
from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.codesign import front
from refvit.plot.costs import costs
from refvit.plot.dataflow import dataflow
from refvit.plot.datafree import gallery, spans
from refvit.plot.grids import levels, sawtooth, staircase
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
from refvit.plot.weights import row_ranges, weight_map

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
    "front",
    "gallery",
    "gantt",
    "grid",
    "heat",
    "histogram",
    "layers",
    "levels",
    "pairs",
    "patches",
    "picture",
    "ranges",
    "roof",
    "row_ranges",
    "sawtooth",
    "spans",
    "staircase",
    "token_grid",
    "units",
    "weight_map",
    "windows",
]
