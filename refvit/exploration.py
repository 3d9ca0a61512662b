"""What an exploration found: points, the Pareto front, and both as table, CSV, JSON and picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.columns import columns
from refvit.accel.energy import NOT_MODELLED
from refvit.accel.report import csv_of
from refvit.accel.scatter import scatter
from refvit.accel.svg import standalone
from refvit.accel.sweep import NEAR, distinct, pareto

OBJECTIVES: Mapping[str, int] = MappingProxyType(  # 1: less is better; -1: more is
    {"us": 1, "cycles": 1, "uj_low": 1, "uj_high": 1, "dram_bytes": 1, "pes": 1, "sram_bytes": 1,
     "utilization": -1, "top1": -1}
)  # fmt: skip
LABELS = {"uj_low": "uJ, low estimate", "uj_high": "uJ, high estimate", "pes": "PEs",
          "dram_bytes": "DRAM bytes", "sram_bytes": "bytes of SRAM"}  # fmt: skip
SHOWN = 40  # lines of a table
STYLE = (
    "body{font:13px/1.5 system-ui,sans-serif;margin:2em auto;padding:0 1em;max-width:1000px;"
    "overflow-x:auto;"
    "color:#222;background:#fff}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{text-align:right;padding:1px 8px;white-space:nowrap}"
    "th:nth-child(-n+3),td:nth-child(-n+3){text-align:left}svg{width:100%}tr.front{font-weight:bold}"
)


@dataclass(frozen=True)
class Point:
    """A machine and a recipe: top-1 (None: not measured), cycles, microseconds, microjoules by
    the two tables, DRAM bytes, utilization, PEs, bytes of SRAM; `front`: on the Pareto front."""

    machine: str
    recipe: str
    top1: float | None
    cycles: int
    us: float
    uj_low: float
    uj_high: float
    dram_bytes: int
    utilization: float
    pes: int
    sram_bytes: int
    front: bool = False


def marked(points: Sequence[Point], objectives: Sequence[str]) -> list[Point]:
    """Return the points, those on the front marked: of points of it that differ by no more than
    0.1 % in every objective, the best on the whole.

    Where top-1 was not measured it counts for nothing, and each recipe has a front of its own: of
    two, the one with fewer bits would always seem better. Raises ValueError if no objective is
    left.
    """
    measured = points[0].top1 is not None
    asked = [name for name in objectives if name != "top1" or measured]
    if not asked:
        raise ValueError("the only objective, top1, was not measured: give data, or us or uj_high")
    every = np.stack([costs(points, name) for name in asked], 1)
    recipes = np.array(["" if measured else point.recipe for point in points])
    front = np.zeros(len(points), bool)
    for name in np.unique(recipes):
        best = np.flatnonzero(recipes == name)[pareto(every[recipes == name])]
        front[best[distinct(every[best])]] = True
    return [replace(point, front=bool(on)) for point, on in zip(points, front, strict=True)]


def costs(points: Sequence[Point], name: str) -> NDArray[np.float64]:
    """Return an objective [n] so that less is better."""
    return OBJECTIVES[name] * np.array([getattr(point, name) for point in points], np.float64)


@dataclass(frozen=True)
class Exploration:
    """The points of a grid of machines, in its order for each recipe, and what they are of."""

    machines: str
    points: tuple[Point, ...]
    objectives: tuple[str, ...]
    batch: int
    left_out: int
    source: str
    count: int
    model: str = ""

    @property
    def front(self) -> list[Point]:
        """The points that no other is better than, fastest first."""
        return sorted((p for p in self.points if p.front), key=lambda p: (p.us, p.uj_high))

    @property
    def about(self) -> str:
        """One or two lines on the grid, the front and the accuracy."""
        measured = f"top-1 of {self.count:,} images of {self.source} in integers; " * bool(
            self.source
        )
        out = f", {self.left_out:,} impossible ones left out" * bool(self.left_out)
        return (
            f"{self.machines}: {len(self.points):,} points{out}\n{measured}"
            f"batch {self.batch}; {self._fronts} "
            f"(of points within {NEAR:.1%} of each other in all of these, the best)"
        )

    @property
    def _fronts(self) -> str:
        """How many points are on the front, or on that of each recipe, by which objectives."""
        asked = ", ".join(name for name in self.objectives if name != "top1" or self.source)
        left = "; top1 was not measured and counts for nothing" * ("top1" in self.objectives)
        if self.source:
            return f"{len(self.front):,} on the Pareto front: {asked}"
        counts = Counter(point.recipe for point in self.front)
        each = ", ".join(f"{recipe} {count:,}" for recipe, count in counts.items())
        return f"on the Pareto front of each recipe: {asked}; {each}{left}"

    @property
    def drawn(self) -> str:
        """The title of the picture and of the page."""
        return f"{self.model}: {len(self.points):,} points, batch {self.batch}".removeprefix(": ")

    def table(self, every: bool = False) -> str:
        """Return a table for a terminal, fastest first, * before the points on the front.

        Unless `every` is asked for, more than 40 points are those of the front, and of a front of
        more than 40 every so manyth.
        """
        lines = self.points if every or len(self.points) <= SHOWN else self.front
        shown = sorted(lines, key=lambda p: (p.us, p.uj_high))
        if not every and len(shown) > SHOWN:
            shown = [shown[i] for i in np.linspace(0, len(shown) - 1, SHOWN).astype(int)]
        text = [self.about, *columns([HEADS, *map(_line, shown)], right=COLUMNS)]
        if len(shown) < len(self.points):
            text.append(f"{len(shown):,} of {len(self.points):,} points are shown; --all shows all")
        text.append(f"Not modelled: {', '.join(NOT_MODELLED)}. Energy: two 45 nm tables.")
        return "\n".join(text)

    def to_csv(self) -> str:
        """Return the points as CSV with a head line; top1 is empty where it was not measured."""
        return csv_of(Point, self.points)

    def as_json(self) -> dict[str, Any]:
        """Return everything as data for JSON."""
        keys = ("model", "machines", "objectives", "batch", "left_out", "source", "count")
        points = [asdict(point) for point in self.points]
        about = {key: getattr(self, key) for key in keys}
        return about | {"points": points, "not_modelled": list(NOT_MODELLED)}

    def to_json(self) -> str:
        """Return the same as text."""
        return json.dumps(self.as_json(), indent=1)

    def picture(self) -> str:
        """Return the points as inline SVG: the first two objectives that are costs, a colour for
        each recipe, and large dots for the front."""
        asked = [name for name in self.objectives if OBJECTIVES[name] > 0]
        x, y = [*asked, *(name for name in ("us", "uj_high") if name not in asked)][:2]
        groups: dict[str, list[Point]] = {}
        for point in self.points:
            said = "" if point.top1 is None else f", top-1 {point.top1:.2%}"
            groups.setdefault(f"{point.recipe}{said}", []).append(point)
        return scatter(
            {name: [(getattr(p, x), getattr(p, y), p.front, p.machine) for p in points]
             for name, points in groups.items()}, LABELS.get(x, x), LABELS.get(y, y), self.drawn
        )  # fmt: skip

    def to_svg(self) -> str:
        """Return the picture as the text of an SVG file."""
        return standalone(self.picture())

    def to_html(self) -> str:
        """Return one self-contained page: the picture, and the front as a table."""
        heads = "".join(f"<th>{head}</th>" for head in ("recipe", "machine", *COLUMNS))
        about = escape(self.about).replace("\n", "<br/>")
        return (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
            f"<title>{escape(self.drawn)}</title>"
            f"<style>{STYLE}</style></head><body><h1>{escape(self.drawn)}</h1><p>{about}</p>"
            f"{self.picture()}<table><tr>{heads}</tr>{''.join(map(_cells, self.front))}</table>"
            f"<p>Not modelled: {escape(', '.join(NOT_MODELLED))}.</p></body></html>"
        )

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(self.about)}</p>{self.picture()}</div>"


COLUMNS = ("top-1", "us", "uJ low", "uJ high", "util.", "DRAM bytes", "PEs", "SRAM KB")
HEADS = (" ", "machine", "recipe", *COLUMNS)


def values(point: Point) -> list[str]:
    """Return the figures of a point as text, one for each of `COLUMNS`."""
    right = "-" if point.top1 is None else f"{point.top1:.2%}"
    energy = (f"{point.uj_low:,.2f}", f"{point.uj_high:,.2f}")
    rest = (f"{point.dram_bytes:,}", f"{point.pes:,}", f"{point.sram_bytes / 1024:,.0f}")
    return [right, f"{point.us:,.2f}", *energy, f"{point.utilization:.1%}", *rest]


def _line(point: Point) -> tuple[str, ...]:
    return ("*" if point.front else " ", point.machine, point.recipe, *values(point))


def _cells(point: Point) -> str:
    cells = (point.recipe, point.machine, *values(point))
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
