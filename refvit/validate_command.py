"""`refvit validate`: the accelerator model against recordings, papers and silicon, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from refvit.accel import timeline
from refvit.accel.checks import Check, Figure
from refvit.files import writable, write_text
from refvit.validate import validate

TILE = (6, 4, 3, 4, 3)  # M, K, N, rows and columns of the timeline: one fold, every phase visible


def add_validate(parser: argparse.ArgumentParser) -> None:
    """Add where larger recordings are, and where a timeline of one stepped tile goes."""
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="a folder with scalesim.json, rtl_cycles.json or zigzag_reference.json, "
        "instead of the records that travel along",
    )
    parser.add_argument(
        "--timeline", type=Path, metavar="FILE", help="draw one stepped tile, as SVG"
    )
    parser.add_argument(
        "--tile",
        type=int,
        nargs=5,
        metavar=("M", "K", "N", "ROWS", "COLS"),
        help=f"of the timeline ({' '.join(map(str, TILE))})",
    )
    parser.add_argument("--dataflow", help="of the timeline: os, ws or is (ws)")
    parser.add_argument("--overlap", action="store_true", help="folds of the timeline overlap")


def run_validate(args: argparse.Namespace) -> tuple[str, Any]:
    """Check everything; exit code 1 if a figure is farther off than is stated and not excused."""
    if args.timeline is None and (args.tile or args.dataflow or args.overlap):
        raise ValueError("--tile, --dataflow and --overlap are a timeline's; give --timeline FILE")
    if args.timeline is not None:
        M, K, N, rows, cols = args.tile or TILE
        drawn = timeline(M, K, N, rows, cols, args.dataflow or "ws", args.overlap)
        write_text(writable(args.timeline), drawn.to_svg())
    checks = validate(args.records)
    return table(checks), as_json(checks)


def table(checks: Sequence[Check]) -> str:
    """Return Markdown: a line a check, then figure by figure where they are not exact."""
    lines = [
        "The accelerator model against what others recorded, printed and built: `refvit validate`. "
        "A check that holds says yes; one of which some figures are farther off than stated, for a "
        "reason given beside them, says how many are not; NO makes the command fail.",
        "",
        "| what | against | figures | stated | farthest off | holds |",
        "|---|---|---:|---|---|---|",
    ]
    for check in checks:
        lines.append(
            f"| {check.name} | {check.source} | {len(check.figures):,} | {check.stated} "
            f"| {_worst(check)} | {check.holds} |"
        )
    for check in checks:
        if check.about:
            lines += ["", f"**{check.name}: {check.source}.** {check.about}", ""]
            lines += ["| figure | theirs | refvit | ratio | of what is stated | |"]
            lines += ["|---|---:|---:|---:|---:|---|"]
            lines += [_line(figure) for figure in check.figures]
    return "\n".join(lines)


def _worst(check: Check) -> str:
    """The figure that is farthest off, or that there is none."""
    worst = check.worst
    if worst.off == 0:
        return "none is off"
    return f"{worst.name}: {_number(worst.theirs)} there, {_number(worst.ours)} here"


def _line(figure: Figure) -> str:
    said = "; ".join(filter(None, (figure.note, figure.excuse and f"excused: {figure.excuse}")))
    return (
        f"| {figure.name} | {_number(figure.theirs)} | {_number(figure.ours)} "
        f"| {figure.ours / figure.theirs:.3f} | {_share(figure.off)} | {said} |"
    )


def _share(off: float) -> str:
    """Per cent of what is stated, rounded up where it is more, so that 100.2 % reads as more."""
    return f"{ceil(100 * off)}%" if 1 < off < float("inf") else f"{off:.0%}"


def _number(value: float) -> str:
    """Cycles without decimals, smaller figures with as many as papers print."""
    return f"{value:,.0f}" if value >= 2000 else f"{value:,.3f}".rstrip("0").rstrip(".")


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the same as data; figures that are exact are counted, those that are not are listed.

    `off` is a share of what is stated, null where an exact figure differs; `within` counts the
    figures that are as near, `excused` those that are not and say why, and `ok` that there are no
    others.
    """
    rows = []
    for check in checks:
        listed = [f for f in check.figures if check.about or f.off]
        figures = [asdict(f) | {"off": f.off if isfinite(f.off) else None} for f in listed]
        keys = ("name", "source", "stated", "ok", "within", "excused", "holds", "about")
        about = {key: getattr(check, key) for key in keys}
        rows.append(about | {"count": len(check.figures), "figures": figures})
    return {"ok": all(check.ok for check in checks), "checks": rows}
