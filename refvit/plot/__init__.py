"""Pictures; every function draws on, and returns, matplotlib Axes.

A notebook makes a figure, hands its Axes to these, and ends the cell with `picture(fig, alt)`.
"""

from refvit.plot.base import BLUE, GREY, LINES, axes, picture
from refvit.plot.codesign import front
from refvit.plot.datafree import gallery, spans
from refvit.plot.pictures import attention, confusion, curves, histogram, layers, patches, ranges

__all__ = [
    "BLUE",
    "GREY",
    "LINES",
    "attention",
    "axes",
    "confusion",
    "curves",
    "front",
    "gallery",
    "histogram",
    "layers",
    "patches",
    "picture",
    "ranges",
    "spans",
]
