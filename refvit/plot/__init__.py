"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.calibration import levels, thresholds
from refvit.plot.channels import accuracies, channels
from refvit.plot.pictures import attention, confusion, curves, histogram, layers, patches, ranges

__all__ = [
    "BLUE",
    "GREY",
    "LINES",
    "accuracies",
    "attention",
    "axes",
    "channels",
    "confusion",
    "curves",
    "histogram",
    "layers",
    "levels",
    "patches",
    "picture",
    "ranges",
    "thresholds",
]
