"""A timeline of the stepped array: what every PE does in every cycle, drawn as SVG.

Each PE is a lane and each clock cycle a column. A lane's upper half is filled while the PE
multiplies, its lower half while it shifts: weights on their way in (ws, is), finished sums on their
way out (os). Dots below the last row are results as they are latched. Nothing is drawn from a
formula: the marks are recorded from `step_gemm`, and only the phases above them are the closed
form's, so that the two can be compared by eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from refvit.accel.stepped import Int, step_gemm
from refvit.accel.systolic import ceil_div, gemm_cycles, mapping, require_sizes

CELLS = 20_000  # PEs x cycles that a picture can show
WORK, MOVE, LEAVE, INK = "#0072b2", "#e69f00", "#009e73", "#222"  # Okabe and Ito 2008
LEFT, TOP, LANE, GAP = 74, 66, 13, 5  # pixels: of labels, of the heading, of a lane, between rows


@dataclass(frozen=True)
class Timeline:
    """One GEMM on the stepped array, cycle by cycle.

    `moves` and `works` [cycles, rows, cols] say which PEs shift and which multiply, `leaves`
    [cycles, cols] below which columns a result is latched.
    """

    gemm: tuple[int, int, int]
    dataflow: str
    overlap: bool
    moves: NDArray[np.bool_]
    works: NDArray[np.bool_]
    leaves: NDArray[np.bool_]

    def __repr__(self) -> str:
        _, rows, cols = self.works.shape
        M, K, N = self.gemm
        about = f"{self.dataflow} on {rows} x {cols} PEs, M={M} K={K} N={N}"
        return f"Timeline({about}, overlap={self.overlap}: {self.cycles} cycles)"

    @property
    def cycles(self) -> int:
        return len(self.works)

    @property
    def phases(self) -> list[tuple[str, int]]:
        """The closed form, term by term: (name, cycles) in order of time, in all `cycles`."""
        _, rows, cols = self.works.shape
        a, b, time = mapping(*self.gemm, self.dataflow)
        folds, skew = ceil_div(a, rows) * ceil_div(b, cols), ("skew R+C-2", rows + cols - 2)
        period = max(time, rows)
        if self.dataflow == "os":
            stream = ("F max(T,R)", folds * period) if self.overlap else ("stream T", time)
            terms = [stream, ("drain R", rows), skew]
        else:
            stream = ("(F-1) max(T,R) + T", (folds - 1) * period + time)
            terms = [("load R", rows), stream if self.overlap else ("stream T", time), skew]
        return terms if self.overlap else terms * folds

    def to_svg(self) -> str:
        """Return the picture as one self-contained SVG."""
        return _draw(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()


def timeline(
    M: int, K: int, N: int, rows: int, cols: int, dataflow: str = "ws", overlap: bool = False
) -> Timeline:
    """Return the timeline of one GEMM, stepped clock edge by clock edge.

    Raises ValueError for sizes below 1, an unknown dataflow, or more than 20,000 PEs x cycles.

    >>> timeline(6, 4, 3, 4, 3).cycles, gemm_cycles(6, 4, 3, 4, 3)
    (15, 15)
    """
    M, K, N, rows, cols = require_sizes(M=M, K=K, N=N, rows=rows, cols=cols)
    cycles = gemm_cycles(M, K, N, rows, cols, dataflow, overlap)
    if rows * cols * cycles > CELLS:
        raise ValueError(
            f"a timeline of {rows * cols} PEs and {cycles} cycles is too large to read; "
            f"ask for a tile of at most {CELLS} PEs x cycles, as in timeline(6, 4, 3, 4, 3)"
        )
    seen: list[tuple[Int, ...]] = []
    a, b = np.ones((M, K), np.int8), np.ones((K, N), np.int8)
    step_gemm(a, b, rows, cols, dataflow, overlap, lambda _, *marks: seen.append(marks))
    moves, works, leaves = (np.array(marks, bool) for marks in zip(*seen, strict=True))
    return Timeline((M, K, N), dataflow, overlap, moves, works, leaves)


def _draw(line: Timeline) -> str:
    """The whole picture: heading, phases, lanes, results, axis."""
    cycles, rows, cols = line.works.shape
    cell = max(4.0, min(24.0, 900 / cycles))
    bottom = TOP + rows * (cols * LANE + GAP)
    width, height = LEFT + cycles * cell + 16, bottom + cols * 6 + 34
    parts = [_heading(line), _phases(line, cell)]
    for r, c in np.ndindex(rows, cols):
        y = TOP + r * (cols * LANE + GAP) + c * LANE
        parts.append(_text(LEFT - 6, y + 9, f"PE {r},{c}", "end"))
        parts.append(_marks(line.works[:, r, c], y, 6, cell, WORK))
        parts.append(_marks(line.moves[:, r, c], y + 6, 5, cell, MOVE))
    for t, c in zip(*np.nonzero(line.leaves), strict=True):
        x, y = LEFT + (t + 0.5) * cell, bottom + 4 + 6 * c
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="2.4" fill="{LEAVE}"/>')
    parts.append(_text(LEFT - 6, bottom + 8, "results", "end"))
    step = max(1, round(26 / cell))
    ticks = range(0, cycles, step)
    parts += [_text(LEFT + (t + 0.5) * cell, height - 12, str(t), "middle") for t in ticks]
    parts.append(_text(LEFT - 6, height - 12, "cycle", "end"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" font-family="system-ui, sans-serif" '
        f'font-size="9" fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>"
    )


def _heading(line: Timeline) -> str:
    """What is drawn, and the key of its colours."""
    _, rows, cols = line.works.shape
    (M, K, N), folds = line.gemm, "overlapped" if line.overlap else "in series"
    moving = "shifts a sum out" if line.dataflow == "os" else "shifts a weight in"
    title = f"{line.dataflow} on {rows} x {cols} PEs: M={M} K={K} N={N}, folds {folds}"
    key, x = [_text(8, 16, f"{title}, {line.cycles} cycles", size=12)], 8
    for colour, said in ((WORK, "multiplies"), (MOVE, moving), (LEAVE, "result latched")):
        key.append(f'<rect x="{x}" y="24" width="9" height="9" fill="{colour}"/>')
        key.append(_text(x + 13, 32, said))
        x += 24 + 6 * len(said)
    return "".join(key)


def _phases(line: Timeline, cell: float) -> str:
    """The terms of the closed form as brackets above the lanes; a name where there is room."""
    parts, x = [], float(LEFT)
    for name, cycles in line.phases:
        end = x + cycles * cell
        parts.append(
            f'<path d="M{x + 1:.1f} 60v-5H{end - 1:.1f}v5" fill="none" stroke="{INK}"/>'
            if cycles
            else ""
        )
        if len(name) * 4.6 < end - x:
            parts.append(_text((x + end) / 2, 51, name, "middle"))
        x = end
    return "".join(parts)


def _marks(on: NDArray[np.bool_], y: int, height: int, cell: float, colour: str) -> str:
    """A mark in each cycle in which something is so."""
    return "".join(
        f'<rect x="{LEFT + t * cell:.1f}" y="{y}" width="{cell - 0.8:.1f}" height="{height}" '
        f'fill="{colour}"/>'
        for t in np.flatnonzero(on)
    )


def _text(x: float, y: float, said: str, anchor: str = "start", size: int = 9) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(said)}</text>'
    )
