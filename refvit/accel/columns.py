"""Columns of a table for a terminal: as wide as what they hold, so that they never touch."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def columns(lines: Sequence[Sequence[str]], right: Collection[str] = (), gap: int = 2) -> list[str]:
    """Return lines of cells as text: `gap` spaces between columns, none behind the last.

    The first line is the heads; those columns whose head is in `right` end at the same place, the
    others begin there. Every line has as many cells.

    >>> print("\\n".join(columns([("of", "bytes"), ("weights", "9"), ("", "1,024")], ["bytes"])))
    of       bytes
    weights      9
             1,024
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ends = [head in right for head in lines[0]]
    return [
        (" " * gap)
        .join(
            cell.rjust(width) if end else cell.ljust(width)
            for cell, width, end in zip(line, widths, ends, strict=True)
        )
        .rstrip()
        for line in lines
    ]
