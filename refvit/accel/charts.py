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
from refvit.accel.tracks import in_steps

# Colours that stay apart for the colour-blind (Okabe and Ito 2008).
BOUND_COLOURS = {"compute": "#0072b2", "memory": "#d55e00", "vector": "#009e73",
                 "host": "#cc79a7"}  # fmt: skip
PART_COLOURS = {"array": "#0072b2", "sram": "#e69f00", "dram": "#d55e00", "vector": "#009e73"}
WIDE, PITCH = 900, 18  # pixels: of a picture, of a line of bars
LEFT = 150  # before the bars
LANES = {"array": 48, "port": 98, "vector": 148}  # of the timeline: their upper edges
LANE_COLOURS = {"array": "#0072b2", "port": "#d55e00", "vector": "#009e73", "host": "#cc79a7"}
TALL, BOUND_TOP, BASE = 40, 194, 210  # of a lane; where the line of bounds and the axis lie
LEVELS = 3  # lines of names over the timeline


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
    """Draw when the array, the DRAM port and the vector unit, or a host, are busy: a box is as wide
    as its step lasts, a layer and what is fused behind it, and as high as the share of that time in
    which the unit works; below, what binds each layer."""
    total = fsum(row.us for row in rows)
    scale = Scale(0.0, total or 1.0, 60, 885)
    named = {"vector": "host"} if any(row.unit == "host" for row in rows) else {}
    parts = [text(0, top + 36, named.get(lane, lane)) for lane, top in LANES.items()]
    parts.append(text(0, BOUND_TOP + 9, "bound by"))
    parts += [line([(60, top + TALL), (885, top + TALL)]) for top in LANES.values()]
    at = 0.0
    for step in in_steps(rows):
        us = fsum(row.us for row in step)
        if us:
            parts += _step(step, us, scale(at), scale(at + us))
        at += us
    parts += [*_bounds(rows, scale), *_names(rows, scale), *bottom_axis(scale, BASE, "us")]
    return picture("timeline", WIDE, BASE + 36, parts)


def _step(step: Sequence[Row], us: float, start: float, end: float) -> list[str]:
    """Return the boxes of one step, one in the lane of each unit that it uses."""
    name = " + ".join([step[0].name, *(row.op for row in step[1:])])
    parts, shares = [], busy(step)
    said = ", ".join(f"{unit} busy {share:.0%}" for unit, share in shares.items())
    for unit, share in shares.items():
        tall = TALL * share
        top = LANES["vector" if unit == "host" else unit] + TALL - tall
        about = f"{name}: {us:,.4g} us, {said}"
        parts.append(box(start, top, end - start, tall, LANE_COLOURS[unit], about))
    return parts


def busy(step: Sequence[Row]) -> dict[str, float]:
    """Return the share of the cycles of a step, a layer and what is fused behind it, in which each
    unit that it uses works: in [0, 1], as cycles are rounded.

    >>> from dataclasses import replace
    >>> row = Row("x", "linear", "x", 8, 10, 6, 4, 0, 0, 0, *[0.0] * 8, "", "array")
    >>> busy([replace(row, array_cycles=5, memory_cycles=4, vector_cycles=2)])
    {'array': 0.5, 'port': 0.4, 'vector': 0.2}
    """
    works = {
        "array": sum(row.array_cycles for row in step),
        "port": sum(row.memory_cycles for row in step),
        "vector": sum(row.vector_cycles for row in step if row.unit != "host"),
        "host": sum(row.compute_cycles for row in step if row.unit == "host"),
    }
    whole = sum(row.cycles for row in step)
    return {unit: min(1.0, cycles / whole) for unit, cycles in works.items() if cycles and whole}


def _bounds(rows: Sequence[Row], scale: Scale) -> list[str]:
    """Return a box for every layer in the colour of what binds it."""
    parts, at = [], 0.0
    for row in rows:
        start, width = scale(at), scale(at + row.us) - scale(at)
        if row.cycles:
            about = f"{row.name}: {row.us:,.4g} us, bound by {row.bound}"
            parts.append(box(start, BOUND_TOP, width, 10, BOUND_COLOURS[row.bound], about))
        at += row.us
    return parts


def _names(rows: Sequence[Row], scale: Scale) -> list[str]:
    """Return the parts of the model over the timeline: a tick, and its name on the first of three
    lines that has room for it; the last ones end where the picture does."""
    parts, at, free = [], 0.0, [-math.inf] * LEVELS
    for part in folds(rows):
        x, wide = scale(at), 7.0 * len(part.name)
        at += fsum(row.us for row in part.rows)
        ends = x + 2 + wide > WIDE
        left = WIDE - wide if ends else x + 2
        level = next((n for n in range(LEVELS) if left >= free[n]), None)
        top = 42 if level is None else 4 + 13 * level
        faint = ' stroke="currentColor" stroke-opacity="0.25"'
        parts.append(line([(x, top), (x, BOUND_TOP + 10)], faint))
        if level is not None:
            place = (WIDE, "end") if ends else (left, "start")
            parts.append(text(place[0], 12 + 13 * level, part.name, place[1]))
            free[level] = left + wide + 8
    return parts
