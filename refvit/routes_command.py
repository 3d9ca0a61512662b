"""`refvit routes`: options, the table or what is left of it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refvit.command import calibration_images, check_jobs, float_model, processes
from refvit.compare_command import resumable
from refvit.evaluate import evaluate
from refvit.files import writable
from refvit.quant import PRESETS
from refvit.routes import RECIPES, ROUTES, USUAL, Means, arrivals, table
from refvit.sources import parse_source, pixels_of
from refvit.train_recipe import TrainRecipe, read_recipe

CALIBRATION = 1024


def add_routes(parser: argparse.ArgumentParser) -> None:
    """Add the data, the table, and what the routes may use."""
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument(
        "--routes", nargs="+", default=list(USUAL), metavar="NAME",
        help=f"{', '.join(ROUTES)} (all but qat-long)",
    )  # fmt: skip
    parser.add_argument(
        "--recipes", nargs="+", default=list(RECIPES), metavar="NAME",
        help=f"{', '.join(PRESETS)}, or TOML files",
    )  # fmt: skip
    parser.add_argument("--made", type=Path, metavar="DIR", help="images of refvit synthesize")
    parser.add_argument("--training", default="qat", metavar="RECIPE", help="how qat trains (qat)")
    parser.add_argument("--images", type=int, metavar="N", help="that qat sees (as its recipe)")
    parser.add_argument("--count", type=int, metavar="N", help="test images (all, or 10,000)")
    parser.add_argument(
        "--calibration-images", type=int, metavar="N",
        help=f"real ones that ptq looks at ({CALIBRATION})",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON to write and resume from")


def run_routes(args: argparse.Namespace) -> tuple[str, Any]:
    """Take the routes, or those that are left, and print the table."""
    check_jobs(args)
    images = calibration_images(args, CALIBRATION)
    model = float_model(args, "every route begins at a float model")
    source = parse_source(args.data, model.labels)
    made = None
    if args.made is not None:
        folder = parse_source(f"folder:{args.made}", model.labels)
        made = pixels_of(model.preprocess, folder.test(0, sys.maxsize)[0])
    seen = {} if args.images is None else {"images": args.images}
    training = TrainRecipe(**(read_recipe(args.training) | {"start": args.model} | seen))
    if args.out is not None:
        writable(args.out)
    means = Means(args.count, images, training, made)
    with resumable(args.out), processes(args.jobs) as pool:
        found = arrivals(model, source, means, args.routes, args.recipes, pool, args.out)
    exact = evaluate(model, source, args.count).top1
    head = (
        f"{args.model}: top-1 of {found[0].count:,} test images of {source.name}, in points, and "
        f"minutes; float {100 * exact:.2f}"
    )
    about = {"float_top1": exact, "cells": [asdict(a) for a in found]}
    return f"{head}\n\n{table(found)}", about
