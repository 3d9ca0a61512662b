"""The drawing of a roofline: logarithmic axes, the roof, a numbered dot for every kind of layer.

Layers that are alike are one dot with their number beside it in the key, which is ordered by the
time they take at the roof. Dots lie on the roof, as nothing but the roof is known of them here;
what the drawing tells is how far from the ridge they are, and what share of the time they take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from html import escape

from refvit.accel.gpus import FORMATS, Gpu
from refvit.accel.roofline import Dot, Roofline

COLOURS = {"linear": "#0072b2", "matmul": "#e69f00", "other": "#009e73"}  # Okabe and Ito 2008
MEANS = {"linear": "GEMM with weights", "matmul": "GEMM of activations", "other": "vector operator"}
INK, FAINT, ROOF = "#222222", "#dddddd", "#d55e00"
LEFT, TOP, WIDTH, HEIGHT = 84, 46, 470, 320  # pixels: the plot; its key is to the right
KEY, SHOWN = 20, 17  # pixels between plot and key; lines of the key


def kinds(rows: Iterable[Dot]) -> list[tuple[str, int, Dot]]:
    """Return (name, how many, one of them) for layers that are alike in all but their block.

    >>> rows = [Dot(f"blocks.{i}.mlp.fc1", "linear", 8, 2.0, 4.0, 1.0, "memory") for i in (0, 1)]
    >>> [(name, count) for name, count, _ in kinds(rows)]
    [('mlp.fc1', 2)]
    """
    found: dict[tuple[str, int, float], list[Dot]] = {}
    for row in rows:
        name = re.sub(r"blocks\.\d+\.", "", row.name)
        found.setdefault((name, row.ops, row.bytes), []).append(row)
    return [(name, len(alike), alike[0]) for (name, _, _), alike in found.items()]


def unit(roof: Roofline) -> str:
    """Return the name of the arithmetic: a GPU's format, or the width of an array's codes."""
    named = isinstance(roof.machine, Gpu) and roof.bits in FORMATS
    return FORMATS[roof.bits] if named else f"{roof.bits}-bit"


def label(roof: Roofline) -> str:
    """Return the same, and where codes of that width are not what the machine has, what it does."""
    said, machine = unit(roof), roof.machine
    if isinstance(machine, Gpu):
        return f"{said} at INT8" if roof.bits == 4 and machine.int4 is None else said
    if roof.bits > max(machine.widths):
        return f"{said}, not stored"
    return said if roof.stored_bits == roof.bits else f"{said} as {roof.stored_bits}"


def draw(roof: Roofline) -> str:
    """Return the SVG."""
    merged = sorted(kinds(roof.rows), key=lambda kind: -kind[1] * kind[2].us)
    peak = roof.peak * roof.clock_mhz / 1e3
    x_axis = _decades([row.intensity for row in roof.rows] + [2 * roof.ridge])
    y_axis = _decades([row.gops for row in roof.rows] + [1.5 * peak])
    points = _points(merged, x_axis, y_axis)
    fusion = "fused" if roof.fused else "nothing fused"
    on = f"{roof.model} on {roof.machine.name}" if roof.model else roof.machine.name
    title = f"{on}, {label(roof)}, batch {roof.batch}, {fusion}"
    parts = [_text(8, 18, title, size=14), _grid(x_axis, y_axis)]
    parts += [_roof(roof, peak, x_axis, y_axis), *points, _legend(), _key(merged, roof)]
    width, height = LEFT + WIDTH + KEY + 400, TOP + HEIGHT + 44
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" fill="{INK}">'
        f"<title>{escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _decades(values: list[float]) -> tuple[float, float]:
    """Whole powers of ten around the values, as exponents."""
    logs = [math.log10(value) for value in values]
    return math.floor(min(logs)), math.ceil(max(logs))


def _x(value: float, axis: tuple[float, float]) -> float:
    return LEFT + WIDTH * (math.log10(value) - axis[0]) / (axis[1] - axis[0])


def _y(value: float, axis: tuple[float, float]) -> float:
    return TOP + HEIGHT * (axis[1] - math.log10(value)) / (axis[1] - axis[0])


def _grid(x_axis: tuple[float, float], y_axis: tuple[float, float]) -> str:
    """A line and a label a decade, and what the axes are."""
    parts = []
    for power in range(int(x_axis[0]), int(x_axis[1]) + 1):
        x = _x(10.0**power, x_axis)
        parts.append(f'<path d="M{x:.1f} {TOP}v{HEIGHT}" stroke="{FAINT}"/>')
        parts.append(_text(x, TOP + HEIGHT + 15, _number(10.0**power), "middle"))
    for power in range(int(y_axis[0]), int(y_axis[1]) + 1):
        y = _y(10.0**power, y_axis)
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="{FAINT}"/>')
        parts.append(_text(LEFT - 6, y + 4, _number(10.0**power), "end"))
    parts.append(_text(LEFT + WIDTH / 2, TOP + HEIGHT + 34, "operations a byte", "middle"))
    parts.append(_text(LEFT - 52, TOP - 10, "1e9 operations a second"))
    return "".join(parts)


def _roof(
    roof: Roofline, peak: float, x_axis: tuple[float, float], y_axis: tuple[float, float]
) -> str:
    """The slope of the bandwidth and the flat of the peak, with ridge and model marked."""
    speed = peak / roof.ridge  # 1e9 bytes a second
    start = max(10.0 ** x_axis[0], 10.0 ** y_axis[0] / speed)
    ridge, flat = _x(roof.ridge, x_axis), _y(peak, y_axis)
    slope = f"M{_x(start, x_axis):.1f} {_y(start * speed, y_axis):.1f}L{ridge:.1f} {flat:.1f}"
    model = _x(roof.intensity, x_axis)
    return (
        f'<path d="{slope}H{LEFT + WIDTH}" fill="none" stroke="{ROOF}" stroke-width="2"/>'
        f'<path d="M{model:.1f} {TOP + HEIGHT}V{TOP}" stroke="{INK}" stroke-dasharray="4 3"/>'
        + _text(model - 4, TOP + HEIGHT - 8, f"model {roof.intensity:,.1f}", "end")
        + _text(LEFT + WIDTH, flat - 8, f"ridge {roof.ridge:,.1f}, peak {peak:,.0f}", "end")
    )


def _points(
    merged: list[tuple[str, int, Dot]], x_axis: tuple[float, float], y_axis: tuple[float, float]
) -> list[str]:
    """A dot for each kind, and beside those that lie together their numbers."""
    parts, places = [], []
    for number, (name, count, row) in enumerate(merged, 1):
        x, y = _x(row.intensity, x_axis), _y(row.gops, y_axis)
        about = (
            f"{number} {name} ({count}): {row.intensity:,.4g} operations a byte, "
            f"{row.gops:,.4g} 1e9 operations a second, {row.us:,.4g} us each, bound by {row.bound}"
        )
        parts.append(_dot(x, y, COLOURS.get(row.op, COLOURS["other"]), about))
        places.append((x, y, number))
    return [*parts, *_numbers(sorted(place for place in places if place[2] <= SHOWN))]


def _numbers(places: list[tuple[float, float, int]]) -> list[str]:
    """The numbers of dots, those of dots that lie together on one line right below them, lower
    where another line would hide it."""
    parts: list[str] = []
    taken: list[tuple[float, float, float]] = []
    for (x, y), numbers in _together(places):
        said = " ".join(map(str, sorted(numbers)))
        low, end = min(y + 15, TOP + HEIGHT - 5), x + 8 + 6.5 * len(said)
        while any(x + 8 < right and left < end and abs(low - at) < 12 for left, right, at in taken):
            low += 12
        taken.append((x + 8, end, low))
        parts.append(_text(x + 8, low, said))
    return parts


def _together(
    places: list[tuple[float, float, int]],
) -> list[tuple[tuple[float, float], list[int]]]:
    """Return places within 12 pixels of the first of them as one: its place, their numbers.

    >>> _together([(0, 0, 1), (5, 5, 3), (40, 0, 2)])
    [((0, 0), [1, 3]), ((40, 0), [2])]
    """
    found: list[tuple[tuple[float, float], list[int]]] = []
    for x, y, number in places:
        near = (n for (a, b), n in found if abs(x - a) < 12 and abs(y - b) < 12)
        numbers = next(near, None)
        if numbers is None:
            found.append(((x, y), [number]))
        else:
            numbers.append(number)
    return found


def _dot(x: float, y: float, colour: str, about: str) -> str:
    """A dot that says what it is where the pointer rests on it."""
    where = f'cx="{x:.1f}" cy="{y:.1f}" r="4.5"'
    return f'<circle {where} fill="{colour}"><title>{escape(about)}</title></circle>'


def _legend() -> str:
    """What the colours of dots are, over the key."""
    parts, x = [], LEFT + WIDTH + KEY
    for op, colour in COLOURS.items():
        said = MEANS[op]
        parts += [_dot(x + 4, TOP - 24, colour, said), _text(x + 14, TOP - 20, said)]
        x += 30 + 6 * len(said)
    return "".join(parts)


def _key(merged: list[tuple[str, int, Dot]], roof: Roofline) -> str:
    """What the numbers are, what bounds each, and its share of the time at the roof."""
    x, parts = LEFT + WIDTH + KEY, []
    parts.append(_text(x, TOP, "kind of layer (how many): share of the time, bound"))
    for number, (name, count, row) in enumerate(merged[:SHOWN], 1):
        y, colour = TOP + 18 * number, COLOURS.get(row.op, COLOURS["other"])
        share = count * row.us / roof.us
        said = f"{number} {name} ({count}): {share:.1%}, {row.bound}"
        parts.append(_dot(x + 4, y - 4, colour, said))
        parts.append(_text(x + 14, y, said))
    if len(merged) > SHOWN:
        rest = sum(count * row.us for _, count, row in merged[SHOWN:]) / roof.us
        more = f"and {len(merged) - SHOWN} more kinds: {rest:.1%}"
        parts.append(_text(x + 14, TOP + 18 * (SHOWN + 1), more))
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(x: float, y: float, said: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        'paint-order="stroke" stroke="#fff" stroke-width="3">'
        f"{escape(said)}</text>"
    )
