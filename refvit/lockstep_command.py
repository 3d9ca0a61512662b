"""`refvit lockstep`: the engine against its definition, operator by operator, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refvit.command import float_model
from refvit.differences import Difference
from refvit.integer import compile
from refvit.lockstep import lockstep
from refvit.quantize_command import add_options, simulated


def add_lockstep(parser: argparse.ArgumentParser) -> None:
    """Add how to quantize, how many images, and whether every site is shown."""
    add_options(parser)
    parser.add_argument("--images", type=int, default=4, metavar="N", help="images to run (4)")
    parser.add_argument("--all", action="store_true", help="every site, not sums by operator")


def run_lockstep(args: argparse.Namespace) -> tuple[str, Any]:
    """Compare on calibration images; exit code 1 if an operator is farther off than is stated."""
    model = float_model(args, "lockstep compares an engine with its float model")
    if args.images < 1:
        raise ValueError(f"--images is at least 1, got {args.images}")
    quantized, pixels, how = simulated(model, args)
    kernels, pixels = args.kernels or "refvit", pixels[: args.images]
    rows = lockstep(quantized, compile(quantized, kernels), pixels)
    head = f"{args.model}, {how}, kernels {kernels}; {len(pixels)} images"
    about = {"ok": all(row.passes for row in rows), "rows": [asdict(row) for row in rows]}
    off = [row.site for row in rows if not row.passes]
    verdict = (
        f"{off[0]} is farther off than is stated, as are {len(off) - 1} more."
        if off
        else "Every operator keeps to what the specification states."
    )
    legend = "How far codes are from quantize(op(dequantize(inputs))) in float64, in codes:"
    return "\n".join([head, legend, "", table(rows, args.all), "", verdict]), about


def table(rows: Sequence[Difference], every: bool = False) -> str:
    """Return a Markdown table: a row for each operator, or for each site.

    `differing` is the share of codes that are not the definition's, `worst` the greatest distance,
    `stated` what is allowed, both in codes.
    """
    groups: dict[str, list[Difference]] = {}
    for row in rows:
        groups.setdefault(row.site if every else row.op, []).append(row)
    lines = [
        "| operator | sites | codes | differing | worst | stated |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, group in groups.items():
        size, off = (sum(getattr(row, key) for row in group) for key in ("size", "differing"))
        stated = [row.allowed for row in group]
        allowed = "none" if None in stated else str(max(filter(None, stated), default=0))
        worst = max(row.worst for row in group)
        share = f"{off / size:.3%}" if off else "0"
        lines.append(f"| {name} | {len(group)} | {size:,} | {share} | {worst} | {allowed} |")
    return "\n".join(lines)
