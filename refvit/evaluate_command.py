"""`refvit evaluate`: options, and the picture of a confusion matrix."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import refvit
from refvit.command import calibration_images, check_jobs, processes, refuse_options
from refvit.evaluate import CALIBRATION, ENGINES, AnyModel, Evaluation, evaluate
from refvit.files import writable, write_bytes
from refvit.integer import IntegerModel
from refvit.matching import one_of
from refvit.methods import METHODS, method
from refvit.model import Model
from refvit.plot import confusion
from refvit.quant import QuantizedModel
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Source, parse_source, pixels_of

QUANTIZING = ("recipe", "method", "calibration_images")  # options of it


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the data, the engine, how many images, how many processes, and the picture."""
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument(
        "--engine", help=f"one of {', '.join(ENGINES)} (float; simulated with a recipe)"
    )
    parser.add_argument("--recipe", help="how to quantize (w8a8), or a TOML file")
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(METHODS)} (minmax)")
    parser.add_argument(
        "--calibration-images", type=int, metavar="N", help=f"of the data ({CALIBRATION})"
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="test images (all; of shapes10 10,000)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the confusion matrix: .png, .svg, .pdf"
    )


def run_evaluate(args: argparse.Namespace) -> tuple[str, Any]:
    """Evaluate, print the table, and draw the picture if one is wanted."""
    check_jobs(args)
    model = refvit.load(args.model, **dict(args.known))
    if isinstance(model, IntegerModel):
        refuse_options(args, *QUANTIZING, *([] if args.engine == "integer" else ["engine"]))
    source = parse_source(args.data, model.labels)
    if args.picture is not None:
        check_picture(args.picture)
    given = any(getattr(args, name) is not None for name in QUANTIZING)
    engine = args.engine or ("simulated" if given else "float")
    ready: tuple[AnyModel, Model | None] = (model, None)
    if not isinstance(model, IntegerModel):
        ready = made(model, source, engine, args)
    with processes(args.jobs) as pool:
        found = evaluate(ready[0], source, args.count, engine, executor=pool, exact=ready[1])
    if args.picture is not None:
        save_picture(found, args.picture)
    return found.table(), found.as_json()


def made(
    model: Model, source: Source, engine: str, args: argparse.Namespace
) -> tuple[Model | QuantizedModel, Model | None]:
    """Return what is evaluated, quantized as the options say, and the float model to agree with.

    Raises ValueError for an option that quantizes where nothing is quantized.
    """
    if engine == "float":
        given = [name for name in QUANTIZING if getattr(args, name) is not None]
        if given:
            option = given[0].replace("_", "-")
            raise ValueError(f"--{option} quantizes: --engine is simulated or integer, not float")
        return model, None
    one_of(engine, ENGINES, "engine")
    chosen, recipe = method(args.method or "minmax"), find_recipe(args.recipe or "w8a8")
    images = calibration_images(args, CALIBRATION)
    pixels = pixels_of(model.preprocess, source.calibration(images))
    return chosen(model, pixels, recipe), model


def check_picture(path: Path) -> None:
    """Raise, before the work, ValueError for an unknown ending, OSError for no place to write."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--picture ends in .png, .svg or .pdf; got {str(path)!r}")
    writable(path)


def save_picture(found: Evaluation, path: Path) -> None:
    """Draw the confusion matrix whole or not at all; ValueError without matplotlib."""
    title = f"{found.engine}: top-1 {found.top1:.2%} of {found.count:,} images of {found.source}"
    try:
        figure = confusion(found.confusion, found.labels, title).figure
    except ImportError as error:
        raise ValueError(str(error)) from None
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    write_bytes(path, drawn.getvalue())
