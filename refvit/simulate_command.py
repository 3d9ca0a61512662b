"""The sub-command `simulate`: a model's layers on a machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from refvit import inspect_model
from refvit.accel import MACHINES
from refvit.accel.fold import folds, opened
from refvit.accel.notes import notes
from refvit.accel.report import Report
from refvit.accel.row import Row
from refvit.accel.schedule import as_data, schedule
from refvit.accel.simulate import NONLINEAR
from refvit.accel.workload import MOST_IMAGES
from refvit.command import different
from refvit.files import writable, write_text
from refvit.site_bits import simulate

FILES = {
    "html": "write a self-contained page",
    "trace": "write a Chrome trace: layers, and the units at work",
    "csv": "write a line for each layer",
    "write-machine": "write the machine as TOML, every field, to change it",
}


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `refvit simulate`: what is simulated, what is shown, what is written."""
    known = ", ".join(MACHINES)
    parser.add_argument("--machine", default="edge32", help=f"one of {known}, or a TOML file")
    parser.add_argument("--bits", type=int, help="width of codes: 4, 8 or 16 (8)")
    parser.add_argument("--recipe", help="widths by site: a preset as w4a8, or a TOML file")
    images = f"images at a time (1), at most {MOST_IMAGES:,}"
    parser.add_argument("--batch", type=int, default=1, help=images)
    who = "who takes what is not a product: the vector unit, or a host beside the array"
    parser.add_argument("--nonlinear", choices=NONLINEAR, default="vector", help=who)
    away = "every result goes to DRAM and comes back"
    parser.add_argument("--no-residency", action="store_true", help=away)
    _add_shown(parser)
    for name, what in FILES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=what)


def _add_shown(parser: argparse.ArgumentParser) -> None:
    """Add which layers a table shows, and of what."""
    every = "a line for every layer, not for every block"
    parser.add_argument("--all", "--layers", action="store_true", help=every)
    parser.add_argument(
        "--unfold", action="append", default=[], metavar="BLOCK",
        help="the layers of a block, as in blocks.3, or of blocks that match, as in '*.blocks.0'",
    )  # fmt: skip
    how = "how each layer runs, or each of --unfold: widths, tile, what stays on chip, waits"
    parser.add_argument("--schedule", action="store_true", help=how)


def run_simulate(args: argparse.Namespace) -> tuple[str, Any]:
    """Return the report as text and as data, and write the files asked for."""
    check_shown(args)
    config = inspect_model.config_of(args.model, dict(args.known))
    found = simulate(
        config, args.machine, args.bits, args.batch, recipe=args.recipe,
        nonlinear=args.nonlinear, residency=not args.no_residency,
    )  # fmt: skip
    report = replace(found, model=args.model)
    different(args.html, args.trace, args.csv, args.write_machine)
    table = report.table(groups=not args.all, unfold=args.unfold)
    write_files(args, report)
    about = notes(report.rows, report.machine)
    data = json.loads(report.to_json()) | {"recipe": args.recipe, "notes": about}
    shown = scheduled(report.rows, args.unfold) if args.schedule else ()
    if args.schedule:
        data["schedule"] = as_data(shown)
    lines = [schedule(shown), ""] if args.schedule else []
    return "\n".join([*lines, table, *about]), data


def write_files(args: argparse.Namespace, report: Report) -> None:
    """Write every file that was asked for, none if one cannot be."""
    wanted = (
        (args.html, report.to_html),
        (args.trace, report.to_trace),
        (args.csv, report.to_csv),
        (args.write_machine, partial(report.machine.to_toml, whole=True)),
    )
    files = [(writable(path), make()) for path, make in wanted if path is not None]
    for path, content in files:
        write_text(path, content)


def check_shown(args: argparse.Namespace) -> None:
    """Raise ValueError for options that contradict each other, and for a file called `-`."""
    if args.recipe is not None and args.bits is not None:
        raise ValueError("--bits is the width of every site, --recipe of each; give one of them")
    if args.all and args.unfold:
        raise ValueError("--all shows every layer, so --unfold changes nothing; give one of them")
    for name in FILES:
        if getattr(args, name.replace("-", "_")) == Path("-"):
            raise ValueError(f"--{name} - is no file; give its name, or --json for stdout")


def scheduled(rows: Sequence[Row], unfold: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows of which a schedule is wanted: those that `unfold` shows, or all."""
    if not unfold:
        return tuple(rows)
    shown = opened(folds(rows), unfold)
    return tuple(row for row in rows if any(row.name.startswith(f"{name}.") for name in shown))
