"""`refvit routes`: options, the table or what is left of it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from refvit.cells import model_digest
from refvit.command import add_running, calibration_images, check_jobs, float_model, processes
from refvit.compare_command import add_grid, resumable
from refvit.evaluate import evaluate
from refvit.files import read_json, writable
from refvit.model import Model
from refvit.routes import (
    DATA_FREE,
    DECIDED,
    RECIPES,
    ROUTES,
    TRAINED,
    USUAL,
    Means,
    arrivals,
    check_routes,
    table,
)
from refvit.sources import parse_source, pixels_of
from refvit.synthesize_command import CARD, pixel_digest
from refvit.train_recipe import TrainRecipe, read_recipe

CALIBRATION = 1024


def add_routes(parser: argparse.ArgumentParser) -> None:
    """Add the data, the table, and what the routes may use."""
    parser.epilog = (
        "ptq is method best of refvit compare on real images; qat is refvit train --qat; data-free "
        "is method fitted, data-free-tuned method best, on the images of --made."
    )
    add_grid(parser, "routes", USUAL, f"{', '.join(ROUTES)} (all but qat-long)", RECIPES)
    parser.add_argument("--made", type=Path, metavar="DIR", help="images of refvit synthesize")
    parser.add_argument(
        "--training", metavar="RECIPE",
        help="how qat trains (qat), a TOML file with the options of refvit train as its keys",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=int, metavar="N",
        help="that qat sees (as its recipe says), and qat-long four times as often",
    )  # fmt: skip
    parser.add_argument("--count", type=int, metavar="N", help="test images (all, or 10,000)")
    parser.add_argument(
        "--calibration-images", type=int, metavar="N",
        help=f"real ones that ptq looks at ({CALIBRATION})",
    )  # fmt: skip
    add_running(parser)


def run_routes(args: argparse.Namespace) -> tuple[str, Any]:
    """Take the routes, or those that are left, and print the table."""
    check_jobs(args)
    images = calibration_images(args, CALIBRATION)
    model = float_model(args, "every route begins at a float model")
    source = parse_source(args.data, model.labels)
    refuse_unused(args)
    if args.out is not None:
        writable(args.out)
    made = None if args.made is None else made_by(model, args.made)
    means = Means(args.count, images, training_of(args), made, args.out)
    check_routes(source, means, args.routes, args.recipes)
    exact = evaluate(model, source, args.count).top1
    with resumable(args.out), processes(args.jobs) as pool:
        found = arrivals(model, source, means, args.routes, args.recipes, pool, args.out, exact)
    head = (
        f"{args.model}: top-1 of {found[0].count:,} test images of {source.name}, in points, and "
        f"minutes; float {100 * exact:.2f}"
    )
    about = {"float_top1": exact, "cells": [asdict(a) for a in found]}
    return f"{head}\n\n{table(found)}", about


def refuse_unused(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that none of the routes that are asked for looks at."""
    for option, users in (
        ("made", DATA_FREE), ("images", TRAINED), ("training", TRAINED),
        ("calibration_images", ("ptq",)),
    ):  # fmt: skip
        if getattr(args, option) is not None and not set(args.routes) & set(users):
            raise ValueError(
                f"--{option.replace('_', '-')} is for {' and '.join(users)}; asked for are "
                f"{', '.join(args.routes)}"
            )


def training_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that say how qat trains; ValueError for those that the table decides."""
    fields = read_recipe(args.training or "qat")
    fields |= {} if args.images is None else {"images": args.images}
    for name in DECIDED:
        if name in fields:
            raise ValueError(
                f"{args.training!r} says {name} = {fields[name]!r}, which the table decides; leave "
                "it out"
            )
    TrainRecipe(**fields, start=args.model, qat=args.recipes[0])
    return fields


def made_by(model: Model, folder: Path) -> NDArray[Any]:
    """Return the pixels of the images in a folder that `refvit synthesize` wrote for `model`;
    ValueError for any other folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no directory {str(folder)!r}, which --made names")
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    whose = f", its card says {card['model']!r}" if isinstance(card.get("model"), str) else ""
    if card.get("digest") == model_digest(model):
        source = parse_source(f"folder:{folder}", model.labels)
        pixels = pixels_of(model.preprocess, source.test(0, sys.maxsize)[0])
        if card.get("pixels") == pixel_digest(pixels):
            return pixels
    raise ValueError(
        f"{str(folder)!r} does not hold images as this model made them{whose}; make them with "
        "refvit synthesize MODEL --out DIR"
    )
