"""A roofline as text and as JSON: a line a layer or a kind of layer, and a model by width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refvit.accel.roof_chart import kinds, label, unit
from refvit.accel.roofline import Dot, Roofline

LAYERS = ("layer", "each", "MFLOP", "KB", "op/B", "GOP/s", "of peak", "us", "bound by")
GRID = ("machine", "width", "", "GFLOP", "MB", "op/B", "ridge", "GOP/s", "us", "memory-bound")
# What a label of a width says beyond it, and what that means.
MARKS = {
    " as ": "'as' gives the width that the machine stores and multiplies codes at, for want of one "
    "as narrow",
    "not stored": "'not stored' is wider than all that the machine stores, taken as if it did, at "
    "a cycle a slice of its multiplier",
    " at INT8": "'at INT8' is a card without INT4 arithmetic: half the bytes, the same peak",
}


def title(roof: Roofline) -> str:
    """Return one line on the machine, the width and what is fused."""
    peak, speed = roof.peak * roof.clock_mhz / 1e6, roof.peak / roof.ridge * roof.clock_mhz / 1e3
    fusion = "fused" if roof.fused else "nothing fused"
    return (
        f"{roof.machine.name}: peak {peak:,.4g} TOP/s for {label(roof)}, memory {speed:,.4g} GB/s, "
        f"ridge {roof.ridge:,.1f} op/B; batch {roof.batch}, {fusion}"
    )


def layer_lines(roof: Roofline, every: bool) -> list[str]:
    """Return the table: a line a kind of layer or, with `every`, a layer; then the model's."""
    rows = [(row.name, 1, row) for row in roof.rows] if every else kinds(roof.rows)
    peak = roof.peak * roof.clock_mhz / 1e3
    lines = [LAYERS, *(_cells(name, count, row, peak) for name, count, row in rows)]
    whole = (f"{roof.ops / 1e6:,.1f}", f"{roof.bytes / 1e3:,.1f}", f"{roof.intensity:.1f}")
    speed = (f"{roof.gops:,.1f}", f"{roof.gops / peak:.1%}", f"{roof.us:,.1f}")
    bound = f"memory {roof.memory_bound:.0%} of the time"
    lines.append(("the model", f"{len(roof.rows)}", *whole, *speed, bound))
    return aligned(lines, 1)


def _cells(name: str, count: int, row: Dot, peak: float) -> tuple[str, ...]:
    work = (f"{row.ops / 1e6:,.2f}", f"{row.bytes / 1e3:,.1f}", f"{row.intensity:.2f}")
    speed = (f"{row.gops:,.1f}", f"{row.gops / peak:.1%}", f"{row.us:,.2f}")
    return (name, f"{count}", *work, *speed, row.bound)


def grid_lines(grid: Sequence[Roofline]) -> list[str]:
    """Return a table of the model by machine, width and fusion, and what its labels mean."""
    lines: list[tuple[str, ...]] = [GRID]
    for roof in grid:
        fusion = "fused" if roof.fused else "unfused"
        work = (f"{roof.ops / 1e9:,.3f}", f"{roof.bytes / 1e6:,.1f}", f"{roof.intensity:.1f}")
        speed = (f"{roof.ridge:.1f}", f"{roof.gops:,.1f}", f"{roof.us:,.1f}")
        bound = f"{roof.memory_bound:.0%} of the time"
        lines.append((roof.machine.name, label(roof), fusion, *work, *speed, bound))
    return [*aligned(lines, 3), *width_note(grid)]


def width_note(grid: Sequence[Roofline]) -> list[str]:
    """Return one line on widths that are not what they are called by, or none."""
    labels = [label(roof) for roof in grid]
    said = [means for mark, means in MARKS.items() if any(mark in each for each in labels)]
    return [f"Widths: {'; '.join(said)}."] if said else []


def aligned(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return rows of cells as text: two spaces between columns, as wide as their widest cell; the
    first `left` and the last begin together, numbers between them end together.

    >>> aligned([("layer", "us", "by"), ("eyeriss-like", "1,024", "memory")], 1)
    ['layer            us  by', 'eyeriss-like  1,024  memory']
    """
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = zip(line[:-1], wide[:-1], strict=True)
        shown = [c.ljust(w) if at < left else c.rjust(w) for at, (c, w) in enumerate(cells)]
        text.append("  ".join((*shown, line[-1])))
    return text


def summary(roof: Roofline) -> dict[str, Any]:
    """Return the model's own figures as data."""
    keys = ("bits", "batch", "fused", "peak", "ridge", "clock_mhz", "ops", "bytes", "intensity")
    more = ("attainable", "gops", "us", "memory_bound", "stored_bits")
    about = {key: getattr(roof, key) for key in (*keys, *more)}
    return {"machine": roof.machine.name, "width": unit(roof), "label": label(roof)} | about


def as_json(roof: Roofline) -> dict[str, Any]:
    """Return machine, totals and every layer as data."""
    about = {"model": roof.model} | summary(roof) | {"machine": asdict(roof.machine)}
    return about | {"rows": [asdict(row) for row in roof.rows]}
