"""Three pictures of a report: the roof and what reaches it, energy by part, and the timeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import fsum

from refvit.accel.fold import folds
from refvit.accel.machine import Machine
from refvit.accel.row import Row
from refvit.accel.svg import (
    Scale,
    bottom_axis,
    box,
    dot,
    left_axis,
    line,
    picture,
    text,
)

# Colours that stay apart for the colour-blind (Okabe and Ito 2008).
BOUND_COLOURS = {"compute": "#0072b2", "memory": "#d55e00", "vector": "#009e73"}
PART_COLOURS = {"array": "#0072b2", "sram": "#e69f00", "dram": "#d55e00", "vector": "#009e73"}
WIDE, PITCH = 900, 18  # pixels: of a picture, of a line of bars
LEFT = 150  # before the bars


def roof(machine: Machine, rows: Sequence[Row]) -> str:
    """Draw every GEMM under the roof: operations a DRAM byte against 10**9 operations a second.

    Both are of the simulation, so a dot shows what a layer reaches, not what it might; none is
    above the roof, and one without DRAM traffic is at the right end. Layers alike share a dot, and
    a number under it leads to its name.
    """
    alike = _alike(rows)
    peak = 2.0 * machine.rows * machine.cols * machine.clock_mhz / 1e3
    ridge = 2.0 * machine.rows * machine.cols / machine.dram_bytes_per_cycle
    height = max(300, 60 + 14 * len(alike))
    xs = [ridge, *(place[0] for place in alike if place[0] < math.inf)]
    x = Scale(min(xs) / 1.5, max(xs) * 2, 60, 590, log=True)
    ys = [peak, *(place[1] for place in alike)]
    y = Scale(min(ys) / 2, peak * 1.5, height - 45, 25, log=True)
    parts = _axes_and_roof(x, y, height, peak, ridge)
    level, last = 0, -math.inf
    for number, (place, names) in enumerate(sorted(alike.items()), 1):
        at = x(min(place[0], x.high))
        level, last = (level + 1 if at - last < 12 else 0), at
        parts += _numbered(number, last, y(place[1]), level, place, names)
    return picture("roofline", WIDE, height, parts)


def _alike(rows: Sequence[Row]) -> dict[tuple[float, float, str], list[str]]:
    """Return the names of GEMMs by their place: operations a byte, 10**9 a second, and bound."""
    alike: dict[tuple[float, float, str], list[str]] = {}
    for row in rows:
        if row.macs and row.us:
            intensity = 2 * row.macs / row.dram_bytes if row.dram_bytes else math.inf
            place = (intensity, 2 * row.macs / row.us / 1e3, row.bound)
            alike.setdefault(place, []).append(row.name)
    return alike


def _axes_and_roof(x: Scale, y: Scale, height: float, peak: float, ridge: float) -> list[str]:
    """Return both axes, the slope that memory allows, and the peak."""
    low = max(x.low, y.low / peak * ridge)  # where the slope comes into the picture
    slope = [(x(low), y(low / ridge * peak)), (x(ridge), y(peak)), (x(x.high), y(peak))]
    return [
        *bottom_axis(x, height - 45, "operations a DRAM byte"),
        *left_axis(y, 60, "10^9 operations a second"),
        line(slope, ' stroke="currentColor" stroke-width="1.5"'),
        text(x(x.high), y(peak) - 5, f"peak {peak:,.4g}, ridge at {ridge:,.4g}", "end"),
    ]


def _numbered(
    number: int, x: float, y: float, level: int, place: tuple[float, float, str], names: list[str]
) -> list[str]:
    """Return a dot with its number, which stands lower by its level, and its line in the list."""
    intensity, speed, bound = place
    tall = 8 + 11 * (level % 14)
    many = f" and {len(names) - 1} more" if len(names) > 1 else ""
    rate = f"{intensity:,.4g} operations a byte" if intensity < math.inf else "no DRAM bytes"
    about = f"{', '.join(names)}: {rate}, {speed:,.4g} Gop/s, {bound}"
    place_of = 30 + 14 * number
    return [
        dot(x, y, 4, BOUND_COLOURS[bound], about, ' fill-opacity="0.8"'),
        line([(x, y + 4), (x, y + tall)], ' stroke="currentColor" stroke-opacity="0.3"'),
        text(x, y + tall + 8, str(number), "middle"),
        dot(622, place_of - 4, 4, BOUND_COLOURS[bound], about),
        text(632, place_of, f"{number}  {names[0]}{many}"),
    ]


def energy(rows: Sequence[Row]) -> str:
    """Draw the energy of every part of the model, stacked by where it goes, and as a line over
    each bar the way from the low estimate to the high one."""
    bars = [(part.name, part.rows) for part in folds(rows)]
    longest = max(fsum(row.uj_high for row in inside) for _, inside in bars)
    scale = Scale(0.0, longest or 1.0, LEFT, 690)
    parts: list[str] = []
    for number, (name, inside) in enumerate(bars):
        parts += _stack(name, inside, scale, 6 + PITCH * number)
    base = PITCH * len(bars) + 10
    return picture("energy by part", WIDE, base + 36, [*parts, *bottom_axis(scale, base, "uJ")])


def _stack(name: str, rows: Sequence[Row], scale: Scale, y: float) -> list[str]:
    parts, at = [text(0, y + 11, name)], 0.0
    for kind, colour in PART_COLOURS.items():
        uj = fsum(getattr(row, f"uj_{kind}") for row in rows)
        about = f"{name}: {uj:,.4g} uJ in {kind}"
        parts.append(box(scale(at), y, scale(at + uj) - scale(at), 12, colour, about))
        at += uj
    low, high = fsum(row.uj_low for row in rows), fsum(row.uj_high for row in rows)
    ends = ((scale(low), y + 6), (scale(high), y + 6))
    parts += [line(ends)] + [line([(x, y + 3), (x, y + 9)]) for x, _ in ends]
    return [*parts, text(700, y + 11, f"{low:,.2f} to {high:,.2f} uJ")]


def timeline(machine: Machine, rows: Sequence[Row]) -> str:
    """Draw when the array, the vector unit and DRAM are busy: a box is as wide as its layer lasts,
    and as high as the share of that time in which the unit works; below, what binds it."""
    total = fsum(row.us for row in rows)
    scale = Scale(0.0, total or 1.0, 60, 885)
    lanes = {"array": 28, "vector": 78, "dram": 128}
    names = {"vector": "host"} if any(row.unit == "host" for row in rows) else {}
    parts = [text(0, top + 36, names.get(lane, lane)) for lane, top in lanes.items()]
    parts.append(text(0, 183, "bound by"))
    parts += [line([(60, top + 40), (885, top + 40)]) for top in lanes.values()]
    at = 0.0
    for row in rows:
        if row.cycles:
            for lane, share in busy(machine, row).items():
                about = f"{row.name}: {row.us:,.4g} us, {lane} busy {share:.0%}"
                width, tall = scale(at + row.us) - scale(at), 40 * share
                top = lanes[lane] + 40 - tall
                parts.append(box(scale(at), top, width, tall, PART_COLOURS[lane], about))
            about = f"{row.name}: {row.us:,.4g} us, bound by {row.bound}"
            width = scale(at + row.us) - scale(at)
            parts.append(box(scale(at), 174, width, 10, BOUND_COLOURS[row.bound], about))
        at += row.us
    return picture("timeline", WIDE, 226, [*parts, *_names(rows, scale),
                                          *bottom_axis(scale, 190, "us")])  # fmt: skip


def busy(machine: Machine, row: Row) -> dict[str, float]:
    """Return the share of a layer's time, in [0, 1], in which each unit that it uses works."""
    unit = "array" if row.macs else "vector"
    moved = row.dram_bytes / machine.dram_bytes_per_cycle
    shares = {unit: row.compute_cycles / row.cycles, "dram": moved / row.cycles}
    return {lane: min(1.0, share) for lane, share in shares.items()}  # cycles are rounded


def _names(rows: Sequence[Row], scale: Scale) -> list[str]:
    """Return the parts of the model over the timeline: a tick, and its name where there is room."""
    parts, at, free = [], 0.0, -math.inf
    for part in folds(rows):
        x = scale(at)
        parts.append(line([(x, 18), (x, 184)], ' stroke="currentColor" stroke-opacity="0.25"'))
        at += fsum(row.us for row in part.rows)
        wide = 6.5 * len(part.name)
        if x >= free and scale(at) - x > 15 and x + wide < WIDE:
            parts.append(text(x + 2, 14, part.name))
            free = x + wide + 8
    return parts
