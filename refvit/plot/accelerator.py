"""Pictures of the accelerator: a roofline, an array at work, tiles and units in time, energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refvit.accel import Report, Roofline, Row, Stage, Timeline
from refvit.accel.charts import PART_COLOURS
from refvit.accel.roof_chart import kinds
from refvit.accel.tracks import TRACKS, spans
from refvit.plot.base import BLUE, GREY, LINES, axes

MARKS = {"linear": ("o", BLUE, "GEMM with weights"), "matmul": ("s", LINES[2], "attention GEMM"),
         "other": ("^", LINES[3], "vector operator")}  # fmt: skip
DOES = {"load": (LINES[1], "", "load"), "compute": (BLUE, "", "compute"),
        "store": (LINES[2], "///", "store")}  # fmt: skip
UNITS = {"DRAM port": LINES[1], "array": BLUE, "vector unit": LINES[3], "host": LINES[4]}
PARTS = {"array": ("array: MACs, registers", ""), "sram": ("SRAM", "///"), "dram": ("DRAM", ""),
         "vector": ("vector unit", "xx")}  # fmt: skip
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 1.0, "pad": 0.5}  # behind a label


def roof(roofline: Roofline, report: Report | None = None, ax: Any = None) -> Any:
    """Draw a hollow dot for every kind of layer at the roof that its operations a byte allow.

    With the report of a simulation on the same machine a line leads from there to a full dot: the
    operations a byte of DRAM that the layer has there, and the speed it reaches. One that moves no
    byte lies at the right end; a fused layer, which takes no time of its own, has no full dot.
    """
    ax, dots = axes(ax), kinds(roofline.rows)
    right = roofline.ridge * (8 if report is None else 30)
    x = np.array([min(dot.intensity for _, _, dot in dots) / 2, roofline.ridge, right])
    ax.plot(x, _height(roofline, x), color="black", linewidth=1.5)
    ax.axvline(roofline.ridge, color=GREY, linestyle="--", linewidth=1)
    places: dict[str, tuple[float, float]] = {}
    rows = {} if report is None else {row.name: row for row in report.rows}
    for name, _, dot in dots:
        mark, colour, _ = MARKS.get(dot.op, MARKS["other"])
        places[name] = at = dot.intensity, dot.gops
        ax.plot(*at, mark, mfc="white", mec=colour, markersize=7, mew=1.5)
        row = rows.get(dot.name)
        if row is not None and row.us:
            reach = dot.ops / row.dram_bytes if row.dram_bytes else right * 0.8
            places[name] = min(reach, right * 0.8), dot.ops / row.us / 1e3
            ax.plot(*zip(at, places[name], strict=True), "-", color=colour, linewidth=1, alpha=0.5)
            ax.plot(*places[name], mark, color=colour, markersize=6)
    _name_dots(ax, places, roofline)
    _explain_dots(ax, roofline, report is not None)
    return ax


def _height(roofline: Roofline, intensity: Any) -> Any:
    """The roof over an intensity, in 10**9 operations a second."""
    peak = roofline.peak * roofline.clock_mhz / 1e3
    return np.minimum(1, intensity / roofline.ridge) * peak


def _name_dots(ax: Any, places: Mapping[str, tuple[float, float]], roofline: Roofline) -> None:
    """Name the dots, with one label for those that lie together: below them, where no roof is, or
    above the flat part of it."""
    groups: list[tuple[float, float, list[str]]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1]):
        short = name.rpartition(".")[2]
        if groups and x < 1.2 * groups[-1][0] and 0.7 < y / groups[-1][1] < 1.4:
            groups[-1][2].append(short)
        else:
            groups.append((x, y, [short]))
    for x, y, names in groups:
        flat = x > roofline.ridge and y > _height(roofline, x) / 2
        right = (-9, -9, "right") if x > 4 * roofline.ridge else (9, -9, "left")
        side, down, ha = (0, 14, "center") if flat else right
        ax.annotate(", ".join(dict.fromkeys(names)), (x, y), (side, down), ha=ha, fontsize=9,
                    textcoords="offset points", bbox=PAPER)  # fmt: skip


def _explain_dots(ax: Any, roofline: Roofline, reached: bool) -> None:
    """Say what the marks, the axes and the dashed line mean."""
    for mark, colour, said in MARKS.values():
        ax.plot([], [], mark, mfc="white", mec=colour, label=said)
    if reached:
        ax.plot([], [], "o", color="black", label="full: as simulated")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    ax.set(xscale="log", yscale="log", ylim=(None, 3 * _height(roofline, np.inf)))
    ax.set(xlabel="operations a byte", ylabel="10⁹ operations a second")
    x, y = roofline.ridge, ax.get_ylim()[0] * 1.3
    ax.text(x * 1.1, y, f"ridge {x:.0f}\ncompute bound", fontsize=9)
    ax.text(x / 1.1, y, "memory bound", fontsize=9, ha="right")


def grid(line: Timeline, ax: Any = None) -> Any:
    """Draw an array cycle by cycle: a lane for every PE, row by row, filled while it multiplies,
    with a thin bar while a weight or a sum moves through it; dots are results, latched."""
    ax = axes(ax)
    cycles, rows, cols = line.works.shape
    moves = "a sum moves out" if line.dataflow == "os" else "a weight moves in"
    for shown, place, tall, colour, said in (
        (line.works, 0.08, 0.5, BLUE, "multiplies"), (line.moves, 0.62, 0.26, LINES[2], moves),
    ):  # fmt: skip
        lanes = shown.reshape(cycles, rows * cols)
        for lane in range(rows * cols):
            runs = [(at, 0.9) for at in np.flatnonzero(lanes[:, lane])]
            ax.broken_barh(runs, (lane + place, tall), color=colour, label=None if lane else said)
    at, column = np.nonzero(line.leaves)
    ax.plot(
        at + 0.45, rows * cols + 0.5 + 0.5 * column, ".", color=LINES[1], label="result latched"
    )
    names = [f"PE {r},{c}" for r, c in np.ndindex(rows, cols)]
    ax.set_yticks(np.arange(rows * cols) + 0.5, names, fontsize=9)
    ax.set(xlim=(0, cycles), ylim=(rows * cols + 0.5 * cols + 0.5, 0), xlabel="cycle")
    ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def gantt(stages: Sequence[Stage], ax: Any = None, first: int | None = None) -> Any:
    """Draw when each tile is loaded, computed and stored, two lanes: the DRAM port, the array.

    Only the tiles before number `first` are drawn, where it is given; every box has its number if
    there is room.
    """
    ax = axes(ax)
    shown = [stage for stage in stages if first is None or stage.tile < first]
    whole = max(stage.end for stage in shown)
    for does, (colour, hatch, label) in DOES.items():
        boxes = [stage for stage in shown if stage.does == does]
        lane = 1 if does == "compute" else 0
        spans = [(stage.start, stage.end - stage.start) for stage in boxes]
        ax.broken_barh(spans, (lane + 0.1, 0.8), facecolor=colour, edgecolor="white", hatch=hatch,
                       linewidth=0.8, label=label)  # fmt: skip
        for stage in boxes:
            if stage.end - stage.start > whole / 40:
                ax.text((stage.start + stage.end) / 2, lane + 0.5, str(stage.tile), ha="center",
                        va="center", fontsize=9, color="black" if hatch else "white")  # fmt: skip
    ax.set_yticks([0.5, 1.5], ["DRAM port", "array"])
    ax.set(xlim=(0, whole), ylim=(2, 0), xlabel="cycle")
    return ax


def units(rows: Sequence[Row], ax: Any = None) -> Any:
    """Draw when the DRAM port, the array and the vector unit work through the rows of a report,
    one layer after another; every layer that takes a thirtieth of the time has its name above."""
    ax = axes(ax)
    found, at = spans(rows), 0
    tracks = [track for track in TRACKS if any(span.track == track for span in found)]
    for lane, track in enumerate(tracks):
        works = [(s.start, s.end - s.start) for s in found if s.track == track]
        ax.broken_barh(works, (lane + 0.12, 0.76), facecolor=UNITS[track])
    whole = sum(row.cycles for row in rows)
    for row in rows:
        ax.axvline(at, color=GREY, linewidth=0.6, zorder=0)
        if row.cycles > whole / 30:
            ax.text(at + row.cycles / 2, -0.08, row.name.removeprefix(f"{row.group}."), ha="left",
                    va="bottom", fontsize=9, rotation=35)  # fmt: skip
        at += row.cycles
    ax.set_yticks(np.arange(len(tracks)) + 0.5, tracks)
    ax.set(xlim=(0, whole), ylim=(len(tracks), 0), xlabel="cycle")
    return ax


def energy(rows: Sequence[Row], ax: Any = None) -> Any:
    """Draw the energy of every row as a stack of its parts, by the machine's own table, and over it
    the way from the low estimate to the high one."""
    ax = axes(ax)
    places, left = np.arange(len(rows)), np.zeros(len(rows))
    for part, (label, hatch) in PARTS.items():
        wide = np.array([getattr(row, f"uj_{part}") for row in rows])
        ax.barh(places, wide, left=left, facecolor=PART_COLOURS[part], edgecolor="white",
                hatch=hatch, linewidth=0, label=label)  # fmt: skip
        left = left + wide
    low, high = (np.array([getattr(row, f"uj_{end}") for row in rows]) for end in ("low", "high"))
    ax.errorbar((low + high) / 2, places, xerr=(high - low) / 2, fmt="none", ecolor="black",
                elinewidth=1, capsize=3, label="low to high estimate")  # fmt: skip
    ax.set_yticks(places, [row.name.removeprefix(f"{row.group}.") for row in rows], fontsize=9)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, None), xlabel="microjoules")
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return ax
