"""`refvit explore`: options, the sweep or what is left of it, its front, and files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import refvit
from refvit.accel import MACHINES
from refvit.accel.energy import TABLES
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
from refvit.exploration import OBJECTIVES, SHOWN
from refvit.explore import explore
from refvit.files import writable, write_text
from refvit.inspect_model import config_of
from refvit.methods import METHODS
from refvit.models import VARIANTS
from refvit.quant import PRESETS
from refvit.sources import Source, parse_source

MEASURED: dict[str, Any] = {
    "data": "shapes10",
    "count": 1000,
    "method": "minmax",
}  # with --calibration-images
FILES = {"html": "a page", "svg": "the picture", "csv": "every point"}
EVERY = f"every point; without it, of more than {SHOWN}, those of the front"
GRID = (
    f"{', '.join(MACHINES)}, TOML files, and fields with values, every combination: rows=8,16 "
    "cols=8:64:8 rows=cols=8:64:*2 sram_a_bytes=64K,128K dataflow=os,ws overlap=true,false "
    "fused=none,requantize+gelu passes.softmax=2,3 widths=8+16,4+8+16 "
    f"energy={','.join(TABLES)} nonlinear=vector,host residency=true,false"
)


def add_explore(parser: argparse.ArgumentParser) -> None:
    """Add the grids, the data, what is better, processes, a file to resume from, and pictures."""
    add_list(parser, "machines", "GRID", list(MACHINES), GRID)
    add_list(parser, "recipes", "NAME", ["w8a8"], f"{', '.join(PRESETS)}, or TOML files (w8a8)")
    good = f"what is to be good: {', '.join(OBJECTIVES)} (us uj_high top1)"
    add_list(parser, "objectives", "NAME", ["us", "uj_high", "top1"], good)
    parser.add_argument("--no-accuracy", action="store_true", help="costs only, no images")
    add_measuring(parser)
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (1)")
    add_running(parser)
    parser.add_argument("--all", action="store_true", help=EVERY)
    for name, what in FILES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {what}")


def add_list(
    parser: argparse.ArgumentParser, name: str, kind: str, default: list[str], about: str
) -> None:
    """Add an option that takes several words."""
    parser.add_argument(f"--{name}", nargs="+", default=default, metavar=kind, help=about)


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add what accuracy is measured with; None stands for what was not said."""
    parser.add_argument("--data", help="shapes10, idx:DIR or folder:DIR (shapes10)")
    parser.add_argument("--count", type=int, metavar="N", help="test images (1000)")
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(METHODS)} (minmax)")
    parser.add_argument(
        "--calibration-images", type=int, metavar="N",
        help=f"images of the data to calibrate on ({CALIBRATION})",
    )  # fmt: skip


def explored(args: argparse.Namespace) -> tuple[Any, Source | None]:
    """Return the model and its data; the configuration alone where no accuracy is measured.

    Raises ValueError for an option of what is not measured: it would change nothing.
    """
    bare = args.model in VARIANTS and args.model not in refvit.shipped()
    if not (args.no_accuracy or bare):
        model = float_model(args, "explore quantizes a float model")
        return model, parse_source(args.data or MEASURED["data"], model.labels)
    for name in (*MEASURED, "calibration_images"):
        if getattr(args, name) is not None:
            why = "--no-accuracy" if args.no_accuracy else f"{args.model}, which has no weights,"
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{why} measures no accuracy: {option} changes nothing; leave it out")
    return config_of(args.model, dict(args.known)), None


def run_explore(args: argparse.Namespace) -> tuple[str, Any]:
    """Explore, write the files that are wanted, and print the front."""
    check_jobs(args)
    images = calibration_images(args, CALIBRATION)
    words = [w.split() if "=" in w else [w] for w in args.machines]  # quoted or not
    grid = parse_grid([part for word in words for part in word])
    model, source = explored(args)
    files = wanted_files(args)
    count, method = (args_or(args, name) for name in ("count", "method"))
    with resumable(args.out), processes(args.jobs) as pool:
        table = explore(
            model, grid, args.recipes, source, count, method, args.batch, args.objectives, pool,
            args.out, images,
        )  # fmt: skip
    found = replace(table, model=args.model)
    for name, path in files.items():
        write_text(path, getattr(found, f"to_{name}")())
    weights = "" if args.no_accuracy or source else " (no weights: no accuracy)"
    return f"{args.model}{weights}: {found.table(args.all)}", found.as_json()


def args_or(args: argparse.Namespace, name: str) -> Any:
    """Return an option of what accuracy is measured with, as said or as `MEASURED` has it."""
    said = getattr(args, name)
    return MEASURED[name] if said is None else said


def wanted_files(args: argparse.Namespace) -> dict[str, Path]:
    """Return the files to write, by kind; ValueError for two alike, or a word said twice; OSError
    for one that cannot be written."""
    files = {name: getattr(args, name) for name in FILES if getattr(args, name) is not None}
    different(args.out, *files.values())
    for name in ("recipes", "objectives"):
        said = getattr(args, name)
        if len(set(said)) < len(said):
            raise ValueError(f"--{name} names one of {', '.join(said)} twice")
    for path in (args.out, *files.values()):
        if path is not None:
            writable(path)
    return files
