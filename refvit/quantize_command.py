"""`refvit quantize`, `prove` and `profiles`: an engine, its proof, and its kernels compared."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.command import calibration_images, float_model, refuse_options
from refvit.evaluate import CALIBRATION, evaluate
from refvit.files import writable
from refvit.integer import IntegerModel, Proof, compile, widest
from refvit.integer.kernels.profiles import PROFILES
from refvit.lockstep import lockstep
from refvit.matching import perhaps
from refvit.methods import METHODS, method
from refvit.model import Model
from refvit.quant import QuantizedModel
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import parse_source, pixels_of

NOISE = 16  # images of noise that a model without data is calibrated on


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, the method, the calibration data and the kernel profile."""
    parser.add_argument("--recipe", help="how to quantize (w8a8), or a TOML file")
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(METHODS)} (minmax)")
    parser.add_argument("--calibration", metavar="DATA", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument(
        "--calibration-images", type=int, metavar="N", help=f"how many of it ({CALIBRATION})"
    )
    parser.add_argument("--kernels", help=f"one of {', '.join(PROFILES)} (refvit)")


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """Add the options, and the artefact to write."""
    add_options(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="artefact")


def add_prove(parser: argparse.ArgumentParser) -> None:
    """Add the options, and whether every range is shown."""
    add_options(parser)
    parser.add_argument("--all", action="store_true", help="every range, also of blocks alike")
    parser.add_argument("--site", default="*", metavar="GLOB", help="these sites only")


def add_profiles(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, the data, and how many images."""
    parser.add_argument("--recipe", default="w8a8", help="how to quantize (w8a8)")
    parser.add_argument("--data", default="shapes10", help="shapes10, idx:DIR or folder:DIR")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="test images (1000)")


def calibration(model: Model, args: argparse.Namespace) -> tuple[NDArray[Any], str]:
    """Return pixels to calibrate on, and what they are: of the data that is named, else shapes10
    where the model takes its images, else noise, which is good for ranges and sizes only."""
    data, most = args.calibration, calibration_images(args, CALIBRATION)
    height, width = model.config.image
    if data == "":
        raise ValueError("--calibration names data: shapes10, idx:DIR or folder:DIR")
    if data is not None or (height, width, model.config.channels) == (32, 32, 3):
        name = data or "shapes10"
        found = parse_source(name, model.labels).calibration(most)
        return pixels_of(model.preprocess, found), f"{len(found)} images of {name}"
    shape = (calibration_images(args, NOISE), model.config.channels, height, width)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    return noise, f"{len(noise)} images of noise; name yours with --calibration"


def made(args: argparse.Namespace) -> tuple[IntegerModel, str]:
    """Return the engine that MODEL is, or is compiled to, and how it came about."""
    model = refvit.load(args.model, **dict(args.known))
    if isinstance(model, IntegerModel):
        refuse_options(args, "recipe", "method", "calibration", "calibration_images", "kernels")
        return model, f"read from {args.model}"
    quantized, _, how = simulated(model, args)
    return compile(quantized, args.kernels or "refvit"), how


def simulated(model: Model, args: argparse.Namespace) -> tuple[QuantizedModel, NDArray[Any], str]:
    """Return a float model quantized as the options say, what it was calibrated on, and how."""
    chosen, name = method(args.method or "minmax"), args.recipe or "w8a8"
    recipe = find_recipe(name)
    pixels, what = calibration(model, args)
    by = f" by {args.method}" if args.method else ""
    return chosen(model, pixels, recipe), pixels, f"{name}{by}, calibrated on {what}"


def run_quantize(args: argparse.Namespace) -> tuple[str, Any]:
    """Compile and write the artefact; its size is that of the codes, packed, and the labels."""
    writable(args.out)
    for given in (args.model, args.recipe):
        if given and args.out.is_file() and Path(given).is_file() and args.out.samefile(given):
            raise ValueError(f"{str(args.out)!r} is read and would be overwritten; name another -o")
    engine, how = made(args)
    engine.save(args.out)
    size, count = args.out.stat().st_size, len(engine.proofs)
    about = {"file": str(args.out), "bytes": size, "digest": engine.digest, "how": how}
    kernels = f"kernels {engine.kernels}, {count} ranges proved"
    return f"{args.out}: {size:,} bytes, {how}, {kernels}, {engine.digest[:16]}", about


def run_prove(args: argparse.Namespace) -> tuple[str, Any]:
    """Prove every range, or end with the site, the range and what would mend it."""
    engine, how = made(args)
    rows = [proof for proof in engine.proofs if fnmatchcase(proof.site, args.site)]
    if not rows:
        near = perhaps(args.site, [proof.site for proof in engine.proofs])
        raise ValueError(f"no site of {args.model} matches {args.site!r}{near}")
    top = widest(rows)
    shown = [(proof, 1) for proof in rows] if args.all else folded(rows)
    lines = [
        f"{args.model}: {how}, kernels {engine.kernels}",
        "",
        f"{'site':<30}{'value':<27}{'range':<32}{'bits':>9}  determined by",
        *(line(proof, count) for proof, count in shown),
        "",
        f"No overflow is possible: {len(engine.proofs)} ranges proved"
        + (f", {len(rows)} of them here" if len(rows) < len(engine.proofs) else "")
        + f". The widest {'here ' if len(rows) < len(engine.proofs) else ''}needs {top.bits} of "
        f"{top.width} bits: {top.what} at {top.site}.",
    ]
    proofs = [asdict(proof) | {"bits": proof.bits} for proof in rows]
    return "\n".join(lines), {"digest": engine.digest, "how": how, "proofs": proofs}


def folded(rows: list[Proof]) -> list[tuple[Proof, int]]:
    """Return the widest of those proofs whose sites differ by numbers only, and their count."""
    groups: dict[tuple[str, str], list[Proof]] = {}
    for proof in rows:
        groups.setdefault((re.sub(r"\d+\.", "*.", proof.site), proof.what), []).append(proof)
    return [(widest(group), len(group)) for group in groups.values()]


def line(proof: Proof, count: int) -> str:
    """Return a row of the table; of several alike, the widest stands for all."""
    site = proof.site + (f" (of {count})" if count > 1 else "")
    range_ = f"[{proof.lo:,}, {proof.hi:,}]"
    return f"{site:<30}{proof.what:<27}{range_:<32}{proof.bits:>4} of {proof.width:>2}  {proof.why}"


def run_profiles(args: argparse.Namespace) -> tuple[str, Any]:
    """Compare the kernel profiles on one model: accuracy, error of each operator, and cost."""
    if args.count < 1:
        raise ValueError(f"--count is at least 1, got {args.count}")
    model = float_model(args, "profiles compares engines of a float model")
    source = parse_source(args.data, model.labels)
    pixels = pixels_of(model.preprocess, source.calibration(CALIBRATION))
    quantized = refvit.quantize(model, pixels, args.recipe)
    rows = [measured(quantized, name, source, args.count, pixels[:4]) for name in PROFILES]
    exact = evaluate(model, source, args.count)
    head = (
        f"{args.model}, {args.recipe}, {exact.count:,} test images of {source.name}; float top-1 "
        f"{exact.top1:.2%}"
    )
    titles = f"{'kernels':<9}{'top-1':>8}{'same class':>12}   worst error of softmax, GELU, norm"
    lines = [head, "", f"{titles}   cost an element: softmax, GELU, norm"]
    for row in rows:
        errors = "  ".join(f"{row['error'][op]:.4f}" for op in ("softmax", "gelu", "layer_norm"))
        share = f"{row['top1']:>8.2%}{row['agreement']:>12.2%}"
        lines.append(f"{row['kernels']:<9}{share}   {errors:<34}   {'; '.join(row['cost'])}")
    lines += [
        "",
        "Errors are in reals, of a forward's operators, half a code of their outputs included.",
    ]
    return "\n".join(lines), {"float_top1": exact.top1, "count": exact.count, "profiles": rows}


def measured(
    quantized: QuantizedModel, name: str, source: Any, count: int, pixels: NDArray[Any]
) -> dict[str, Any]:
    """Return what one profile does: accuracy, and errors in reals on the inputs of a forward."""
    engine, profile = compile(quantized, name), PROFILES[name]
    found = evaluate(engine, source, count, exact=quantized.model)
    error = dict.fromkeys(("softmax", "gelu", "layer_norm"), 0.0)
    for row in lockstep(quantized, engine, pixels):
        if row.op in error:
            error[row.op] = max(error[row.op], row.error)
    cost = [kernel.cost for kernel in (profile.softmax, profile.gelu, profile.layer_norm)]
    return {
        "kernels": name, "top1": found.top1, "agreement": found.agreement, "error": error,
        "cost": cost, "digest": engine.digest,
    }  # fmt: skip
