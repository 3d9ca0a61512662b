"""`refvit evaluate`: options, and the picture of a confusion matrix."""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import refvit
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
    if args.jobs < 1 or (args.count is not None and args.count < 1):
        raise ValueError("--jobs and --count are whole numbers of at least 1")
    model = refvit.load(args.model, **dict(args.known))
    if isinstance(model, IntegerModel) and (args.recipe or args.engine not in (None, "integer")):
        given = "recipe" if args.recipe else "engine"
        raise ValueError(f"{args.model} is compiled to integers; --{given} changes nothing of it")
    source = parse_source(args.data, model.labels)
    if args.picture is not None:
        check_picture(args.picture)
    pool = None if args.jobs == 1 else ProcessPoolExecutor(args.jobs)
    try:
        found = evaluate(
            model, source, args.count, args.engine or "float", args.recipe or "w8a8", pool
        )
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
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
