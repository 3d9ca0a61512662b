"""`refvit explore`: options, the sweep or what is left of it, its front, and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import refvit
from refvit.accel import MACHINES
from refvit.accel.grid import parse_grid
from refvit.command import (
    add_running,
    calibration_images,
    check_jobs,
    different,
    float_model,
    processes,
)
from refvit.compare_command import resumable
from refvit.evaluate import CALIBRATION
from refvit.exploration import OBJECTIVES
from refvit.explore import explore
from refvit.files import writable, write_text
from refvit.inspect_model import config_of
from refvit.methods import METHODS
from refvit.models import VARIANTS
from refvit.quant import PRESETS
from refvit.sources import Source, parse_source


def add_explore(parser: argparse.ArgumentParser) -> None:
    """Add the grids, the data, what is better, processes, a file to resume from, and pictures."""
    parser.add_argument(
        "--machines", nargs="+", default=list(MACHINES), metavar="GRID",
        help=f"{', '.join(MACHINES)}, and fields with values, as in rows=8,16 cols=8:64:8 "
        "rows=cols=8:64:*2 sram_a_bytes=64K,128K dataflow=os,ws: every combination",
    )  # fmt: skip
    parser.add_argument(
        "--recipes", nargs="+", default=["w8a8"], metavar="NAME",
        help=f"{', '.join(PRESETS)}, or TOML files (w8a8)",
    )  # fmt: skip
    parser.add_argument(
        "--objectives", nargs="+", default=["us", "uj_high", "top1"], metavar="NAME",
        help=f"what is to be good: {', '.join(OBJECTIVES)} (us uj_high top1)",
    )  # fmt: skip
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="test images (1000)")
    parser.add_argument("--no-accuracy", action="store_true", help="costs only, no images")
    parser.add_argument("--method", default="minmax", metavar="NAME", help=", ".join(METHODS))
    parser.add_argument(
        "--calibration-images", type=int, default=CALIBRATION, metavar="N",
        help=f"images of the data to calibrate on ({CALIBRATION})",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (1)")
    add_running(parser)
    parser.add_argument("--all", action="store_true", help="every point, not the front alone")
    for name, what in {"html": "a page", "svg": "the picture", "csv": "every point"}.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {what}")


def explored(args: argparse.Namespace, bare: bool) -> tuple[Any, Source | None]:
    """Return the model and its data; the configuration alone where no accuracy is measured."""
    if bare:
        return config_of(args.model, dict(args.known)), None
    model = float_model(args, "explore quantizes a float model")
    return model, parse_source(args.data, model.labels)


def run_explore(args: argparse.Namespace) -> tuple[str, Any]:
    """Explore, write the files that are wanted, and print the front."""
    check_jobs(args)
    images = calibration_images(args, CALIBRATION)
    words = [w.split() if "=" in w else [w] for w in args.machines]  # quoted or not
    grid = parse_grid([part for word in words for part in word])
    bare = args.no_accuracy or (args.model in VARIANTS and args.model not in refvit.shipped())
    model, source = explored(args, bare)
    files = {name: getattr(args, name) for name in ("html", "svg", "csv")}
    different(args.out, *files.values())
    for name in ("recipes", "objectives"):
        given = getattr(args, name) or []
        if len(set(given)) < len(given):
            raise ValueError(f"--{name} names one of {', '.join(given)} twice")
    for path in (args.out, *files.values()):
        if path is not None:
            writable(path)
    with resumable(args.out), processes(args.jobs) as pool:
        found = explore(
            model, grid, args.recipes, source, args.count, args.method, args.batch,
            args.objectives, pool, args.out, images,
        )  # fmt: skip
    for name, path in files.items():
        if path is not None:
            write_text(path, getattr(found, f"to_{name}")())
    weights = "" if args.no_accuracy or not bare else " (no weights: no accuracy)"
    return f"{args.model}{weights}: {found.table(args.all)}", found.as_json()
