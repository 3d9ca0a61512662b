"""`refvit evaluate`: options, and the picture of a confusion matrix."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import refvit
from refvit.command import check_jobs, processes, refuse_options
from refvit.evaluate import ENGINES, Evaluation, evaluate
from refvit.files import writable, write_bytes
from refvit.integer import IntegerModel
from refvit.plot import confusion
from refvit.sources import parse_source


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the data, the engine, how many images, how many processes, and the picture."""
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument("--engine", help=f"one of {', '.join(ENGINES)} (float)")
    parser.add_argument("--recipe", help="how to quantize (w8a8), or a TOML file")
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
        refuse_options(args, "recipe", *([] if args.engine == "integer" else ["engine"]))
    source = parse_source(args.data, model.labels)
    if args.picture is not None:
        check_picture(args.picture)
    engine, recipe = args.engine or "float", args.recipe or "w8a8"
    with processes(args.jobs) as pool:
        found = evaluate(model, source, args.count, engine, recipe, pool)
    if args.picture is not None:
        save_picture(found, args.picture)
    return found.table(), found.as_json()


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
