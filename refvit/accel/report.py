"""The report of a simulation: rows and totals, as a terminal table, JSON, HTML and a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from itertools import groupby
from typing import Any

from refvit.accel.energy import NOT_MODELLED
from refvit.accel.machine import Machine

SUMMED = (
    "macs",
    "cycles",
    "compute_cycles",
    "stall_cycles",
    "sram_bytes",
    "dram_bytes",
    "us",
    "uj_low",
    "uj_high",
)
COLOURS = {"compute": "#0072b2", "memory": "#d55e00", "vector": "#009e73"}  # Okabe and Ito


@dataclass(frozen=True)
class Row:
    """One layer: cycles from first load to last store, of which the unit computes
    `compute_cycles`; bytes in all; microseconds; microjoules by the two energy tables; and
    `bound`, one of compute, memory, vector. `utilization` is MACs / (cycles x PEs)."""

    name: str
    op: str
    group: str
    macs: int
    cycles: int
    compute_cycles: int
    stall_cycles: int
    utilization: float
    sram_bytes: int
    dram_bytes: int
    us: float
    uj_low: float
    uj_high: float
    bound: str


@dataclass(frozen=True)
class Report:
    """What one forward of `batch` images at `bits` costs on `machine`."""

    machine: Machine
    bits: int
    batch: int
    rows: tuple[Row, ...]

    @cached_property
    def totals(self) -> Mapping[str, float]:
        """The sums of the rows, and the utilization of the whole."""
        return total(self.rows, self.machine)

    @property
    def groups(self) -> list[tuple[str, tuple[Row, ...]]]:
        """Consecutive rows of the same block."""
        return [(name, tuple(rows)) for name, rows in groupby(self.rows, lambda row: row.group)]

    def to_json(self) -> str:
        """Return machine, rows, totals and what is not modelled, as JSON."""
        return json.dumps(
            {
                "machine": asdict(self.machine),
                "bits": self.bits,
                "batch": self.batch,
                "rows": [asdict(row) for row in self.rows],
                "totals": dict(self.totals),
                "not_modelled": list(NOT_MODELLED),
            },
            indent=2,
        )

    def to_trace(self) -> str:
        """Return a Chrome trace: the forward, its blocks inside it, their layers inside those."""
        events = [_event("forward", 0.0, self.totals["us"], {})]
        at = 0.0
        for name, rows in self.groups:
            events.append(_event(name, at, sum(row.us for row in rows), {}))
            for row in rows:
                about = {"bound": row.bound, "cycles": row.cycles, "dram_bytes": row.dram_bytes}
                events.append(_event(row.name, at, row.us, about))
                at += row.us
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})

    def table(self, groups: bool = True) -> str:
        """Return a table for a terminal: a line a block, or a line a layer with `groups=False`."""
        m = self.machine
        lines = [
            f"{m.name}: {m.rows}x{m.cols} {m.dataflow}, "
            f"folds {'overlap' if m.overlap else 'in series'}, {m.clock_mhz:g} MHz, "
            f"{m.dram_bytes_per_cycle:g} DRAM bytes a cycle, {self.bits}-bit codes, "
            f"batch {self.batch}",
            f"{'layer':<22}{'cycles':>12}{'util.':>8}{'DRAM bytes':>13}{'us':>11}"
            f"{'uJ low - high':>20}  bound by",
        ]
        if groups:
            lines += [_line(name, total(rows, m), _bound(rows)) for name, rows in self.groups]
        else:
            lines += [_line(row.name, asdict(row), row.bound) for row in self.rows]
        lines.append(_line("total", self.totals, _bound(self.rows)))
        lines.append(f"Not modelled: {', '.join(NOT_MODELLED)}. Energy: two 45 nm tables.")
        return "\n".join(lines)

    def to_html(self) -> str:
        """Return one self-contained page: a bar of time a layer, coloured by bound; the table."""
        longest = max(row.us for row in self.rows)
        bars = "".join(_bar(i, row, longest) for i, row in enumerate(self.rows))
        height = 16 * len(self.rows) + 8
        cells = "".join(_cells(row.name, asdict(row), row.bound) for row in self.rows)
        legend = " ".join(f'<span style="color:{c}">&#9632; {b}</span>' for b, c in COLOURS.items())
        heads = "".join(
            f"<th>{h}</th>"
            for h in (
                "layer",
                "cycles",
                "utilization",
                "DRAM bytes",
                "us",
                "uJ low",
                "uJ high",
                "bound",
            )
        )
        title, last = escape(self.machine.name), _cells("total", self.totals, _bound(self.rows))
        cost = "{us:,.1f} us, {uj_low:,.1f} to {uj_high:,.1f} uJ".format(**self.totals)
        return (
            f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<style>{STYLE}</style><h1>{title}: {cost}</h1>"
            f"<p>Time of each layer, bound by {legend}</p>"
            f'<svg viewBox="0 0 900 {height}" role="img" aria-label="time by layer">{bars}</svg>'
            f"<table><tr>{heads}</tr>{cells}{last}</table>"
            f"<p>Not modelled: {escape(', '.join(NOT_MODELLED))}.</p></html>"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.table())}</pre>"


STYLE = (
    "body{font:14px system-ui;margin:2em auto;max-width:960px;color:#222}"
    "td,th{text-align:right;padding:2px 10px}td:first-child,th:first-child{text-align:left}"
    "svg{width:100%;font-size:11px}"
)


def total(rows: tuple[Row, ...], machine: Machine) -> dict[str, float]:
    """Return the sums over `rows`, and their joint utilization."""
    sums = {key: sum(getattr(row, key) for row in rows) for key in SUMMED}
    slots = sums["cycles"] * machine.rows * machine.cols
    return sums | {"utilization": sums["macs"] / slots if slots else 0.0}


def _bound(rows: tuple[Row, ...]) -> str:
    """What binds most of the time of `rows`, with its share."""
    times = {kind: sum(row.us for row in rows if row.bound == kind) for kind in COLOURS}
    kind, whole = max(times, key=lambda k: times[k]), sum(times.values())
    return f"{kind} {times[kind] / whole:.0%}" if whole else kind


def _line(name: str, x: Mapping[str, Any], bound: str) -> str:
    energy = f"{x['uj_low']:,.2f} - {x['uj_high']:,.2f}"
    return (
        f"{name:<22}{x['cycles']:>12,}{x['utilization']:>8.1%}{x['dram_bytes']:>13,}"
        f"{x['us']:>11,.2f}{energy:>20}  {bound}"
    )


def _cells(name: str, x: Mapping[str, Any], bound: str) -> str:
    values = (
        escape(name),
        f"{x['cycles']:,}",
        f"{x['utilization']:.1%}",
        f"{x['dram_bytes']:,}",
        f"{x['us']:,.2f}",
        f"{x['uj_low']:,.2f}",
        f"{x['uj_high']:,.2f}",
        bound,
    )
    return "<tr>" + "".join(f"<td>{value}</td>" for value in values) + "</tr>"


def _bar(index: int, row: Row, longest: float) -> str:
    y, width = 16 * index + 4, 640 * row.us / longest
    return (
        f'<text x="0" y="{y + 10}">{escape(row.name)}</text><rect x="170" y="{y}" height="12" '
        f'width="{width:.2f}" fill="{COLOURS[row.bound]}"/>'
        f'<text x="{175 + width:.1f}" y="{y + 10}">{row.us:,.2f} us</text>'
    )


def _event(name: str, at: float, us: float, about: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "X", "ts": at, "dur": us, "pid": 0, "tid": 0, "args": about}
