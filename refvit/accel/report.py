"""The report of a simulation: rows and totals as a terminal table, CSV, JSON, HTML and a trace."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import groupby
from typing import Any

from refvit.accel.energy import NOT_MODELLED, assumption
from refvit.accel.fold import Fold, folds, opened, walk
from refvit.accel.machine import Machine
from refvit.accel.notes import code_widths, said_widths
from refvit.accel.notes import notes as remarks
from refvit.accel.page import fragment, page
from refvit.accel.row import BOUNDS, Row, total
from refvit.accel.trace import trace

Line = tuple[str, Mapping[str, Any], str]  # of a table: a name, its figures, what binds it


@dataclass(frozen=True)
class Report:
    """What one forward of `batch` images at `bits` costs on `machine`: of which `model`, by which
    `recipe` ("": all codes have `bits`), who takes what is not a product, and whether results stay
    on chip where they can."""

    machine: Machine
    bits: int
    batch: int
    rows: tuple[Row, ...]
    model: str = ""
    recipe: str = ""
    nonlinear: str = "vector"
    residency: bool = True

    def __repr__(self) -> str:
        return f"Report({self.title}: {len(self.rows)} rows, {self.totals['cycles']:,} cycles)"

    @cached_property
    def totals(self) -> Mapping[str, float]:
        """The sums of the rows, and the utilization of the whole."""
        return total(self.rows, self.machine)

    @property
    def groups(self) -> list[tuple[str, tuple[Row, ...]]]:
        """Consecutive rows of the same block."""
        return [(name, tuple(rows)) for name, rows in groupby(self.rows, lambda row: row.group)]

    def to_json(self) -> str:
        """Return machine, rows, sums by block, totals and what is not modelled, as JSON."""
        return json.dumps(
            {
                "model": self.model,
                "machine": asdict(self.machine),
                "recipe": self.recipe or None,
                "nonlinear": self.nonlinear,
                "residency": self.residency,
                "widths": code_widths(self.rows),
                "bits": self.bits,
                "batch": self.batch,
                "rows": [asdict(row) for row in self.rows],
                "groups": [{"name": n, **total(rows, self.machine)} for n, rows in self.groups],
                "totals": dict(self.totals),
                "not_modelled": list(NOT_MODELLED),
                "energy_assumption": assumption(self.bits),
            },
            indent=2,
        )

    def to_csv(self) -> str:
        """Return the rows as CSV with a head line: every field of `Row`, a line a layer."""
        return csv_of(Row, self.rows)

    def to_trace(self) -> str:
        """Return a Chrome trace: the forward, its blocks inside it, their layers inside those."""
        return trace(self.machine, self.rows, self.title)

    def table(self, groups: bool = True, unfold: str | Sequence[str] = ()) -> str:
        """Return a table for a terminal: a line a block, or a line a layer with `groups=False`.

        `unfold` names a block or several that show their layers, or patterns of them as in
        `fnmatch`: + marks what is folded, - what is not. Raises ValueError for one that matches
        nothing.
        """
        names = [unfold] if isinstance(unfold, str) else unfold
        lines = self._folded(folds(self.rows), names)
        if not groups:
            lines = [(row.name, vars(row), row.bound) for row in self.rows]
        wide = max(21, *(len(name) for name, _, _ in lines))
        head = (
            f"{'layer':<{wide + 1}}{'cycles':>12}{'util.':>8}{'DRAM bytes':>13}{'us':>11}"
            f"{'uJ low - high':>20}  bound by"
        )
        said = [_line(name.ljust(wide), x, bound) for name, x, bound in lines]
        said.append(_line("total".ljust(wide), self.totals, _bound(self.rows)))
        return "\n".join((self.about, head, *said, self.notes))

    def _folded(self, parts: tuple[Fold, ...], unfold: Sequence[str]) -> list[Line]:
        """Return the lines of a table in which all but the blocks that `unfold` names is folded."""
        shown, lines = opened(parts, unfold), list[Line]()
        above: list[str] = []
        for depth, part in walk(parts):
            if depth and (len(above) < depth or above[depth - 1] not in shown):
                continue
            above[depth:] = [part.name]
            name = part.name.removeprefix(f"{above[depth - 1]}." if depth else "")
            mark = " " if not part.parts else "-" if part.name in shown else "+"
            x = total(part.rows, self.machine) if part.parts else vars(part.rows[0])
            bound = _bound(part.rows) if part.parts else part.rows[0].bound
            lines.append((f"{'  ' * depth}{mark} {name}", x, bound))
        return lines

    @property
    def title(self) -> str:
        """What was run, in a few words: the model, the machine, and what was chosen."""
        on = f"{self.model} on {self.machine.name}" if self.model else self.machine.name
        chosen = [
            self.recipe or f"{self.bits} bits",
            *([f"batch {self.batch}"] if self.batch > 1 else []),
            *(["nonlinear=host"] if self.nonlinear == "host" else []),
            *([] if self.residency else ["no residency"]),
        ]
        return ", ".join([on, *chosen])

    @property
    def about(self) -> str:
        """One line on the model, the machine, the codes and the batch."""
        m = self.machine
        on = f"{self.model} on {m.name}" if self.model else m.name
        by = f"recipe {self.recipe}: " if self.recipe else ""
        how = ", nonlinear=host" * (self.nonlinear == "host")
        how += ", no residency" * (not self.residency)
        return (
            f"{on}: {m.rows}x{m.cols} {m.dataflow}, "
            f"folds {'overlap' if m.overlap else 'in series'}, {m.clock_mhz:g} MHz, "
            f"{m.dram_bytes_per_cycle:g} DRAM bytes a cycle, {by}{said_widths(self.rows)}, "
            f"batch {self.batch}{how}"
        )

    @property
    def notes(self) -> str:
        """What is not modelled, and what the energies assume."""
        energy = "; ".join(filter(None, ("two 45 nm tables", assumption(self.bits))))
        return f"Not modelled: {', '.join(NOT_MODELLED)}. Energy: {energy}."

    def to_html(self) -> str:
        """Return one self-contained page: a table that folds, the roofline, energy by part, and
        the timeline."""
        said = " ".join((*remarks(self.rows, self.machine), self.notes))
        return page(self.machine, self.rows, self.about, said, _bound, self.title)

    def _repr_html_(self) -> str:
        return fragment(self.machine, self.rows, self.about, self.notes, _bound)


def _bound(rows: tuple[Row, ...]) -> str:
    """What binds most of the time of `rows`, with its share."""
    times = {kind: sum(row.us for row in rows if row.bound == kind) for kind in BOUNDS}
    kind, whole = max(times, key=lambda k: times[k]), sum(times.values())
    return f"{kind} {times[kind] / whole:.0%}" if whole else kind


def _line(name: str, x: Mapping[str, Any], bound: str) -> str:
    energy = f"{x['uj_low']:,.2f} - {x['uj_high']:,.2f}"
    return (
        f"{name} {x['cycles']:>11,} {x['utilization']:>7.1%} {x['dram_bytes']:>12,} "
        f"{x['us']:>10,.2f} {energy:>19}  {bound}"
    )


def csv_of(kind: Any, entries: Iterable[Any]) -> str:
    """Return dataclasses of one `kind` as CSV: a head line, then a line for each."""
    text, names = io.StringIO(), [field.name for field in fields(kind)]
    write = csv.writer(text, lineterminator="\n")
    write.writerow(names)
    write.writerows([getattr(entry, name) for name in names] for entry in entries)
    return text.getvalue()
