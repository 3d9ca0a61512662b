"""The report as one self-contained HTML page: two charts in inline SVG and the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from refvit.accel.energy import NOT_MODELLED
from refvit.accel.machine import Machine
from refvit.accel.row import Row

# Colours that stay apart for the colour-blind (Okabe and Ito 2008).
BOUND_COLOURS = {"compute": "#0072b2", "memory": "#d55e00", "vector": "#009e73"}
PART_COLOURS = {"array": "#0072b2", "sram": "#e69f00", "dram": "#d55e00", "vector": "#009e73"}
STYLE = (
    "body{font:14px system-ui;margin:2em auto;max-width:960px;color:#222;background:#fff}"
    "table{border-collapse:collapse}tr:last-child{font-weight:bold}"
    "td,th{text-align:right;padding:2px 10px}td:first-child,th:first-child{text-align:left}"
    "svg{width:100%;font-size:11px}"
)
HEADS = ("layer", "cycles", "utilization", "DRAM bytes", "us", "uJ low", "uJ high", "bound by")
PITCH, LEFT, WIDTH = 16, 170, 640  # pixels: of a row, before the bars, of the longest bar


def page(machine: Machine, rows: tuple[Row, ...], totals: Mapping[str, float], bound: str) -> str:
    """Return the page; `bound` says what binds the whole."""
    title = escape(machine.name)
    cost = "{us:,.1f} us, {uj_low:,.1f} to {uj_high:,.1f} uJ".format(**totals)
    times = [[(row.us, BOUND_COLOURS[row.bound])] for row in rows]
    energies = [
        [(getattr(row, f"uj_{part}"), colour) for part, colour in PART_COLOURS.items()]
        for row in rows
    ]
    names, missing = [row.name for row in rows], escape(", ".join(NOT_MODELLED))
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}: {cost}</h1>"
        f"<p>Time of each layer, bound by {legend(BOUND_COLOURS)}</p>"
        f"{chart('time by layer', names, times, 'us')}"
        f"<p>Energy of each layer by {escape(machine.energy)}: {legend(PART_COLOURS)}</p>"
        f"{chart('energy by layer', names, energies, 'uJ')}"
        f"{table(rows, totals, bound)}<p>Not modelled: {missing}.</p></html>"
    )


def legend(colours: Mapping[str, str]) -> str:
    """Return the names, each after a square of its colour."""
    return " ".join(
        f'<span style="color:{colour}">&#9632; {name}</span>' for name, colour in colours.items()
    )


def chart(label: str, names: list[str], stacks: list[list[tuple[float, str]]], unit: str) -> str:
    """Return a bar a row, made of (value, colour) end to end, on one scale from 0."""
    longest = max(sum(value for value, _ in stack) for stack in stacks) or 1.0
    bars = "".join(
        _bar(PITCH * i + 4, name, stack, WIDTH / longest, unit)
        for i, (name, stack) in enumerate(zip(names, stacks, strict=True))
    )
    height = PITCH * len(names) + 8
    return f'<svg viewBox="0 0 900 {height}" role="img" aria-label="{label}">{bars}</svg>'


def _bar(y: int, name: str, stack: list[tuple[float, str]], scale: float, unit: str) -> str:
    parts, x = [f'<text x="0" y="{y + 10}">{escape(name)}</text>'], float(LEFT)
    for value, colour in stack:
        width = value * scale
        parts.append(f'<rect x="{x:.2f}" y="{y}" height="12" width="{width:.2f}" fill="{colour}"/>')
        x += width
    whole = sum(value for value, _ in stack)
    return "".join(parts) + f'<text x="{x + 5:.1f}" y="{y + 10}">{whole:,.2f} {unit}</text>'


def table(rows: tuple[Row, ...], totals: Mapping[str, float], bound: str) -> str:
    """Return a line a layer and one of totals."""
    lines = [_cells(HEADS, "th")]
    lines += [_cells(_values(row.name, vars(row), row.bound)) for row in rows]
    return f"<table>{''.join(lines)}{_cells(_values('total', totals, bound))}</table>"


def _values(name: str, x: Mapping[str, Any], bound: str) -> list[str]:
    counts = (f"{x['cycles']:,}", f"{x['utilization']:.1%}", f"{x['dram_bytes']:,}")
    return [name, *counts, *(f"{x[key]:,.2f}" for key in ("us", "uj_low", "uj_high")), bound]


def _cells(values: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values) + "</tr>"
