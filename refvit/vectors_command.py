"""`refvit vectors`: test vectors of an engine for one image, and the check of someone's outputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import refvit
from refvit.integer import IntegerModel
from refvit.integer.replay import MANIFEST, replay
from refvit.integer.vectors import IntArray, check_replaceable, write_vectors
from refvit.quantize_command import add_options, made

SHAPES10 = (3, 32, 32)  # channels, height and width of its images


def add_vectors(parser: argparse.ArgumentParser) -> None:
    """Add the engine and the directory to write or to check, the image and the sites."""
    parser.add_argument(
        "model", metavar="ARTEFACT", nargs="?",
        help="the file of an engine, or a model, which is quantized and compiled",
    )  # fmt: skip
    parser.set_defaults(known=[])
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory to write")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="check the outputs in DIR")
    parser.add_argument("--site", default="*", metavar="GLOB", help="these sites only")
    image = parser.add_mutually_exclusive_group()
    image.add_argument("--image", type=Path, metavar="FILE", help="an image that Pillow reads")
    image.add_argument("--index", type=int, metavar="N", help="test image N of shapes10 (0)")
    add_options(parser)


def run_vectors(args: argparse.Namespace) -> tuple[str, Any]:
    """Write vectors, or check the outputs in a directory of them: exit code 1 if one differs."""
    if args.replay is not None and args.model is None and args.out is None:
        found = replay(args.replay, args.site)
        return found.text(), found.as_json()
    if args.replay is not None or args.model is None or args.out is None:
        raise ValueError("give ARTEFACT and --out DIR to write vectors, or --replay DIR to check")
    check_replaceable(args.out)
    engine, how = made(args)
    codes, image = image_codes(engine, args.image, args.index)
    manifest = write_vectors(engine, codes, args.out, args.site, image)
    sizes = [path.stat().st_size for path in args.out.rglob("*") if path.is_file()]
    about = {
        "folder": str(args.out), "manifest": str(args.out / MANIFEST), "image": image,
        "engine": engine.digest, "how": how, "sites": [row["site"] for row in manifest["sites"]],
        "files": len(sizes), "bytes": sum(sizes),
    }  # fmt: skip
    counts = f"{len(manifest['sites'])} sites, {len(sizes):,} files, {sum(sizes):,} bytes"
    return f"{args.out}: {counts}; {image}; {engine.kernels}, {how}; {engine.digest[:16]}", about


def image_codes(engine: IntegerModel, path: Path | None, index: int | None) -> tuple[IntArray, str]:
    """Return the codes [1, C, H, W] of an image file, or of a test image of shapes10, and its name.

    Raises ValueError where the engine reads images of another size than those of shapes10.
    """
    if path is not None:
        return engine.encode(engine.preprocess(path)[None]), str(path)
    wanted = (engine.config.channels, *engine.config.image)
    if wanted != SHAPES10:
        sizes = [" x ".join(map(str, shape)) for shape in (wanted, SHAPES10)]
        raise ValueError(
            f"the engine reads images of {sizes[0]}, shapes10 has {sizes[1]}; give --image FILE"
        )
    number = 0 if index is None else index
    if number < 0:
        raise ValueError(f"--index counts test images from 0; got {number}")
    images, _ = refvit.data.shapes10("test", 1, start=number)
    return engine.encode(engine.preprocess.normalise(images)), f"shapes10 test {number}"
