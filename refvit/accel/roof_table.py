"""A roofline as text and as JSON: a line a layer or a kind of layer, and a model by width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refvit.accel.roof_chart import kinds, unit
from refvit.accel.roofline import Dot, Roofline

HEAD = (
    f"{'layer':<46}{'each':>5}{'MFLOP':>10}{'KB':>10}{'op/B':>8}{'GOP/s':>10}"
    f"{'of peak':>9}{'us':>9}  bound by"
)


def title(roof: Roofline) -> str:
    """Return one line on the machine, the width and what is fused."""
    peak, speed = roof.peak * roof.clock_mhz / 1e6, roof.peak / roof.ridge * roof.clock_mhz / 1e3
    fusion = "fused" if roof.fused else "nothing fused"
    return (
        f"{roof.machine.name}: peak {peak:,.4g} TOP/s at {unit(roof)}, memory {speed:,.4g} GB/s, "
        f"ridge {roof.ridge:,.1f} op/B; batch {roof.batch}, {fusion}"
    )


def layer_lines(roof: Roofline, every: bool) -> list[str]:
    """Return the table: a line a kind of layer or, with `every`, a layer; then the model's."""
    rows = [(row.name, 1, row) for row in roof.rows] if every else kinds(roof.rows)
    peak = roof.peak * roof.clock_mhz / 1e3
    lines = [HEAD, *(_line(name, count, row, peak) for name, count, row in rows)]
    lines.append(
        f"{'the model':<46}{len(roof.rows):>5}{roof.ops / 1e6:>10,.1f}{roof.bytes / 1e3:>10,.1f}"
        f"{roof.intensity:>8.1f}{roof.gops:>10,.1f}{roof.gops / peak:>9.1%}{roof.us:>9,.1f}"
        f"  memory {roof.memory_bound:.0%} of the time"
    )
    return lines


def _line(name: str, count: int, row: Dot, peak: float) -> str:
    return (
        f"{name:<46}{count:>5}{row.ops / 1e6:>10,.2f}{row.bytes / 1e3:>10,.1f}"
        f"{row.intensity:>8.2f}{row.gops:>10,.1f}{row.gops / peak:>9.1%}{row.us:>9,.2f}"
        f"  {row.bound}"
    )


def grid_lines(grid: Sequence[Roofline]) -> list[str]:
    """Return a table of the model by machine, width and fusion."""
    lines = [
        f"{'machine':<12}{'width':<8}{'':<9}{'GFLOP':>8}{'MB':>9}{'op/B':>8}{'ridge':>8}"
        f"{'GOP/s':>11}{'us':>13}  memory-bound"
    ]
    for roof in grid:
        lines.append(
            f"{roof.machine.name:<12}{unit(roof):<8}{'fused' if roof.fused else 'unfused':<9}"
            f"{roof.ops / 1e9:>8.3f}{roof.bytes / 1e6:>9.1f}{roof.intensity:>8.1f}"
            f"{roof.ridge:>8.1f}{roof.gops:>11,.1f}{roof.us:>13,.1f}  "
            f"{roof.memory_bound:.0%} of the time"
        )
    return lines


def summary(roof: Roofline) -> dict[str, Any]:
    """Return the model's own figures as data."""
    keys = ("bits", "batch", "fused", "peak", "ridge", "clock_mhz", "ops", "bytes", "intensity")
    more = ("attainable", "gops", "us", "memory_bound")
    about = {key: getattr(roof, key) for key in (*keys, *more)}
    return {"machine": roof.machine.name, "width": unit(roof)} | about


def as_json(roof: Roofline) -> dict[str, Any]:
    """Return machine, totals and every layer as data."""
    about = summary(roof) | {"machine": asdict(roof.machine)}
    return about | {"rows": [asdict(row) for row in roof.rows]}
