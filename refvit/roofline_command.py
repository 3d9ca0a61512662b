"""`refvit roofline`: operations, bytes and what a machine can reach, by layer and for the model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from refvit.accel import GPUS, MACHINES, roofline
from refvit.accel.gpus import FORMATS
from refvit.accel.roof_table import as_json, grid_lines, layer_lines, summary, title
from refvit.files import writable, write_text
from refvit.inspect_model import config_of


def add_roofline(parser: argparse.ArgumentParser) -> None:
    """Add the machine, the width, fusion, and where a drawing goes."""
    known = ", ".join([*MACHINES, *GPUS])
    parser.add_argument(
        "--machine", default="edge32", help=f"one of {known}, or a TOML file (edge32)"
    )
    parser.add_argument("--bits", type=int, default=8, help="width: 32, 16, 8 or 4 (8)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (1)")
    parser.add_argument("--fused", action="store_true", help="what can stay on chip does")
    parser.add_argument("--layers", action="store_true", help="every layer, not one of each kind")
    parser.add_argument("--every", action="store_true", help="every machine and width in one table")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the drawing as SVG")


def run_roofline(args: argparse.Namespace) -> tuple[str, Any]:
    """Return the table and the same as data."""
    if args.bits not in FORMATS:
        raise ValueError(f"codes of {args.bits} bits; give --bits 32, 16, 8 or 4")
    config = config_of(args.model, dict(args.known))
    found = roofline(config, args.machine, args.bits, args.batch, args.fused)
    roof = replace(found, model=args.model)
    if args.picture is not None:
        write_text(writable(args.picture), roof.to_svg())
    where = [*MACHINES, *GPUS] if args.every else [args.machine]
    grid = [
        roofline(config, name, bits, args.batch, fused)
        for name in where
        for bits in FORMATS
        for fused in (False, True)
    ]
    head = [f"{args.model} on {title(roof)}", ""]
    body = [] if args.every else [*layer_lines(roof, args.layers), ""]
    about = {"model": args.model, **as_json(roof), "grid": [summary(each) for each in grid]}
    return "\n".join([*head, *body, *grid_lines(grid)]), about
