"""The report of a simulation: rows and totals, as a terminal table, JSON, HTML and a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from itertools import groupby
from typing import Any

from refvit.accel.energy import NOT_MODELLED, assumption
from refvit.accel.machine import Machine
from refvit.accel.page import page
from refvit.accel.row import BOUNDS, Row, total


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
                "energy_assumption": assumption(self.bits),
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
        energy = "; ".join(filter(None, ("two 45 nm tables", assumption(self.bits))))
        lines.append(f"Not modelled: {', '.join(NOT_MODELLED)}. Energy: {energy}.")
        return "\n".join(lines)

    def to_html(self) -> str:
        """Return one self-contained page: bars of time and of energy a layer, and the table."""
        return page(self.machine, self.rows, self.totals, _bound(self.rows))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.table())}</pre>"


def _bound(rows: tuple[Row, ...]) -> str:
    """What binds most of the time of `rows`, with its share."""
    times = {kind: sum(row.us for row in rows if row.bound == kind) for kind in BOUNDS}
    kind, whole = max(times, key=lambda k: times[k]), sum(times.values())
    return f"{kind} {times[kind] / whole:.0%}" if whole else kind


def _line(name: str, x: Mapping[str, Any], bound: str) -> str:
    energy = f"{x['uj_low']:,.2f} - {x['uj_high']:,.2f}"
    return (
        f"{name:<21} {x['cycles']:>11,} {x['utilization']:>7.1%} {x['dram_bytes']:>12,} "
        f"{x['us']:>10,.2f} {energy:>19}  {bound}"
    )


def _event(name: str, at: float, us: float, about: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "X", "ts": at, "dur": us, "pid": 0, "tid": 0, "args": about}
