"""What every picture shares: colours, Axes when none are given, and a way into a notebook.

matplotlib is not needed to run refvit: it comes with the `notebooks` extra and is imported only
here, when a picture is asked for. Colours are those of Okabe and Ito, safe for the colour-blind.
"""

from __future__ import annotations

import io
from typing import Any

BLUE, GREY = "#0072b2", "#999999"
PIXELS_PER_INCH = 90  # of pictures in notebooks
LINES = (BLUE, "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
MARKERS = "osD^vP"  # beside the colours, for who does not see them; and dashes
DASHES = ("-", "--", "-.", ":", (0, (5, 1)))


def axes(ax: Any = None) -> Any:
    """Return `ax`, or new Axes; ImportError says which extra brings matplotlib."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'refvit[notebooks]'") from None
    return pyplot.subplots()[1]


def picture(figure: Any, alt: str) -> Any:
    """Return a figure as the output of a notebook's cell: a PNG that says what it shows in `alt`,
    one or two sentences for readers who do not see it. The figure is closed."""
    from IPython.display import Image
    from matplotlib import pyplot

    figure.savefig(drawn := io.BytesIO(), format="png", dpi=PIXELS_PER_INCH, bbox_inches="tight")
    pyplot.close(figure)
    return Image(drawn.getvalue(), alt=alt)  # type: ignore[no-untyped-call]
