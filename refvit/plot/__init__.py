"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.accelerator import energy, gantt, grid, roof, units
from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.calibration import thresholds, values_and_levels
from refvit.plot.channels import accuracies, channels
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
from refvit.plot.ptq import accuracy_by_bits, roundings, sensitivities
from refvit.plot.qat import losses, slopes
from refvit.plot.tokens import pairs, token_grid, windows
from refvit.plot.weights import row_ranges, weight_map

__all__ = [
    "BLUE",
    "GREY",
    "LINES",
    "accuracies",
    "accuracy_by_bits",
    "attention",
    "axes",
    "channels",
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
    "losses",
    "pairs",
    "patches",
    "picture",
    "ranges",
    "roof",
    "roundings",
    "row_ranges",
    "sawtooth",
    "sensitivities",
    "slopes",
    "spans",
    "staircase",
    "thresholds",
    "token_grid",
    "units",
    "values_and_levels",
    "weight_map",
    "windows",
]
