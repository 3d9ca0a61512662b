"""`refvit compare`: options, the grid or what is left of it, and its table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from glob import escape
from pathlib import Path
from typing import Any

from refvit.command import add_running, calibration_images, check_jobs, float_model, processes
from refvit.compare import RECIPES, compare, table
from refvit.evaluate import CALIBRATION, evaluate
from refvit.files import read_json, writable
from refvit.methods import METHODS
from refvit.quant import PRESETS, inject_outliers
from refvit.sources import parse_source


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the data, the grid, and what makes it long: images, processes, a file to resume from."""
    add_grid(parser, "methods", tuple(METHODS), f"{', '.join(METHODS)} (all)", RECIPES)
    parser.add_argument("--outliers", type=float, metavar="FACTOR", help="inject outliers first")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="test images (1000)")
    parser.add_argument(
        "--calibration-images", type=int, default=CALIBRATION, metavar="N",
        help=f"images of the data to calibrate on ({CALIBRATION})",
    )  # fmt: skip
    add_running(parser)


def add_grid(
    parser: argparse.ArgumentParser,
    rows: str,
    usual: Sequence[str],
    names: str,
    recipes: Sequence[str],
) -> None:
    """Add the data and the grid: its rows, whose `names` are the help of their option, `usual`
    where none are asked for, and the recipes."""
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument(f"--{rows}", nargs="+", default=list(usual), metavar="NAME", help=names)
    parser.add_argument(
        "--recipes", nargs="+", default=list(recipes), metavar="NAME",
        help=f"{', '.join(PRESETS)}, or TOML files ({' '.join(recipes)})",
    )  # fmt: skip


def run_compare(args: argparse.Namespace) -> tuple[str, Any]:
    """Run the grid, or what is left of it, and print the table."""
    check_jobs(args)
    images = calibration_images(args, CALIBRATION)
    model = float_model(args, "compare quantizes a float model")
    source = parse_source(args.data, model.labels)
    model = model if args.outliers is None else inject_outliers(model, args.outliers)
    if args.out is not None:
        writable(args.out)
    with resumable(args.out), processes(args.jobs) as pool:
        cells = compare(
            model, source, args.methods, args.recipes, args.count, pool, args.out,
            images,
        )  # fmt: skip
    exact = evaluate(model, source, args.count).top1
    outliers = "" if args.outliers is None else f", outliers x {args.outliers:g}"
    head = (
        f"{args.model}{outliers}: top-1 of {cells[0].count:,} test images of {source.name}, SQNR "
        f"of the logits; float {exact:.2%}, {images:,} calibration images"
    )
    about = {"float_top1": exact, "cells": [asdict(cell) for cell in cells]}
    return f"{head}\n\n{table(cells)}", about


@contextmanager
def resumable(kept: Path | None) -> Iterator[None]:
    """Add to a KeyboardInterrupt of the block how many cells are in the file `kept`, and which
    files beside it hold a training that was stopped; or that nothing is kept, and why."""
    try:
        yield
    except KeyboardInterrupt:
        if kept is None:
            raise KeyboardInterrupt("nothing is kept: --out FILE keeps what is finished") from None
        held = held_by(kept)
        if not held:
            raise KeyboardInterrupt(f"nothing was finished, so {str(kept)!r} keeps none") from None
        said = f"{' and '.join(held)}, and the same command goes on from there"
        raise KeyboardInterrupt(said) from None


def held_by(kept: Path) -> list[str]:
    """Return what `kept` and the states of its trainings keep, in words."""
    found = []
    if kept.exists():
        count = len(read_json(kept).get("cells", ()))
        found.append(f"{str(kept)!r} keeps {count:,} {'cell' if count == 1 else 'cells'}")
    states = sorted(kept.parent.glob(f"{escape(kept.name)}.*.state"))
    return found + [f"{str(state)!r} a training" if found else f"{str(state)!r} keeps a training"
                    for state in states]  # fmt: skip
