"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.pictures import attention, confusion, curves, histogram, layers, patches, ranges
from refvit.plot.ptq import accuracy_by_bits, roundings, sensitivities
from refvit.plot.qat import losses, staircase

__all__ = [
    "BLUE",
    "GREY",
    "LINES",
    "accuracy_by_bits",
    "attention",
    "axes",
    "confusion",
    "curves",
    "histogram",
    "layers",
    "losses",
    "patches",
    "picture",
    "ranges",
    "roundings",
    "sensitivities",
    "staircase",
]
