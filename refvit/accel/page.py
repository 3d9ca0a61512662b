"""The report as HTML: a table that folds, and three pictures in inline SVG, all in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from refvit.accel.charts import BOUND_COLOURS as BOUND_COLOURS
from refvit.accel.charts import LANE_COLOURS, PART_COLOURS, energy, roof, timeline
from refvit.accel.fold import Fold, folds
from refvit.accel.machine import Machine
from refvit.accel.row import Row, total

STYLE = (
    ".refvit{font:13px/1.5 system-ui,sans-serif;max-width:960px}.refvit svg{width:100%}"
    ".refvit .row{display:grid;grid-template-columns:minmax(13em,2fr) repeat(6,1fr) 9em;"
    "column-gap:10px;white-space:nowrap;text-align:right;font-variant-numeric:tabular-nums}"
    ".refvit .row>:first-child,.refvit .row>:last-child{text-align:left}"
    ".refvit summary{list-style:none;cursor:pointer}"
    ".refvit summary::-webkit-details-marker{display:none}"
    ".refvit summary .row>:first-child::before{content:'\\25b8 '}"
    ".refvit details[open]>summary .row>:first-child::before{content:'\\25be '}"
    ".refvit summary:hover{background:#8883}.refvit .head,.refvit .total{font-weight:bold}"
    ".refvit .head{border-bottom:1px solid}.refvit .total{border-top:1px solid}"
    ".refvit details>.row>:first-child,.refvit details details .row>:first-child"
    "{padding-left:1.5em}.refvit details details>.row>:first-child{padding-left:3em}"
    ".refvit details details,.refvit details>.row{background:#8881}"
    ".refvit h2{font-size:1.1em;margin:1.5em 0 .3em}.refvit .pictures>summary{font-weight:bold}"
)
PAGE = "body{margin:2em auto;padding:0 1em;max-width:960px;color:#222;background:#fff}"
HEADS = ("layer", "cycles", "util.", "DRAM bytes", "us", "uJ low", "uJ high", "bound by")

Bound = Callable[[tuple[Row, ...]], str]


def page(
    machine: Machine, rows: tuple[Row, ...], about: str, notes: str, bound: Bound, name: str = ""
) -> str:
    """Return the whole page: `name` says what was run, `about` is its first line, `notes` its last,
    and `bound` says what binds rows. It needs nothing from elsewhere, and folds without a
    script."""
    title = escape(name or machine.name)
    cost = "{us:,.1f} us, {uj_low:,.1f} to {uj_high:,.1f} uJ".format(**total(rows, machine))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"/><style>{PAGE}{STYLE}</style></head>'
        f'<body><div class="refvit"><h1>{title}: {cost}</h1><p>{escape(about)}</p>'
        f"{table(machine, rows, bound)}{pictures(machine, rows)}"
        f"<p>{escape(notes)}</p></div></body></html>"
    )


def fragment(machine: Machine, rows: tuple[Row, ...], about: str, notes: str, bound: Bound) -> str:
    """Return the same for a notebook: its table, and the pictures folded away."""
    return (
        f'<div class="refvit"><style>{STYLE}</style><p>{escape(about)}</p>'
        f"{table(machine, rows, bound)}"
        f'<details class="pictures"><summary>Roofline, energy, timeline</summary>'
        f"{pictures(machine, rows)}</details><p>{escape(notes)}</p></div>"
    )


def pictures(machine: Machine, rows: Sequence[Row]) -> str:
    """Return the three charts, each under a line that says how to read it."""
    host = any(row.unit == "host" for row in rows)
    said = [name for name in BOUND_COLOURS if host or name != "host"]
    bounds = legend({name: BOUND_COLOURS[name] for name in said})
    units = legend({name: LANE_COLOURS[name] for name in LANE_COLOURS if host or name != "host"})
    return (
        f"<h2>Roofline: what each GEMM reaches, bound by {bounds}</h2>{roof(machine, rows)}"
        f"<h2>Energy by {escape(machine.energy)}: {legend(PART_COLOURS)}; lines from the low to "
        f"the high estimate</h2>{energy(rows)}"
        f"<h2>Timeline: share of the time of a step, a layer and what streams behind it, in which "
        f"{units} works; bound by {bounds}</h2>"
        f"{timeline(machine, rows)}"
    )


def legend(colours: Mapping[str, str]) -> str:
    """Return the names, each after a square of its colour."""
    return " ".join(
        f'<span style="color:{colour}">&#9632; {name}</span>' for name, colour in colours.items()
    )


def table(machine: Machine, rows: tuple[Row, ...], bound: Bound) -> str:
    """Return a line for every part of the model, which unfolds to its layers, and the totals."""
    lines = [_cells(HEADS, "head")]
    lines += [_part(machine, part, bound, "") for part in folds(rows)]
    lines.append(_cells(_values("total", total(rows, machine), bound(rows)), "total"))
    return f'<div role="table" aria-label="layers">{"".join(lines)}</div>'


def _part(machine: Machine, part: Fold, bound: Bound, above: str) -> str:
    name = part.name.removeprefix(above)
    if not part.parts:
        return _cells(_values(name, vars(part.rows[0]), part.rows[0].bound))
    sums = _cells(_values(name, total(part.rows, machine), bound(part.rows)))
    inside = "".join(_part(machine, x, bound, f"{part.name}.") for x in part.parts)
    return f"<details><summary>{sums}</summary>{inside}</details>"


def _values(name: str, x: Mapping[str, Any], bound: str) -> list[str]:
    counts = (f"{x['cycles']:,}", f"{x['utilization']:.1%}", f"{x['dram_bytes']:,}")
    return [name, *counts, *(f"{x[key]:,.2f}" for key in ("us", "uj_low", "uj_high")), bound]


def _cells(values: Sequence[str], kind: str = "") -> str:
    role = "columnheader" if kind == "head" else "cell"
    spans = "".join(f'<span role="{role}">{escape(value)}</span>' for value in values)
    return f'<div role="row" class="row{" " + kind if kind else ""}">{spans}</div>'
