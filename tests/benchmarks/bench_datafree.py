"""Images made by the model against real ones and noise: `python bench_datafree.py [--json]`.

Run it with OPENBLAS_NUM_THREADS=1. The model is `nano_vit` with outliers injected into its norms,
whose float function they leave as it is. It is quantized by min-max on 32 images of each kind, and
then reconstructed at w4a8 on `--many` of them, over seeds, each of which draws other images. Noise
is N(0, 1) as in the paper. Top-1 is on the same test images for all.
"""

import argparse
import json
import statistics
from collections.abc import Callable

import numpy as np

import refvit
from refvit.quant import inject_outliers, quantize_model, reconstruct, synthesize

FEW = 32  # images to calibrate on
KINDS = ("real", "synthesised", "no entropy", "noise")
TASKS = ("w4a8", "w8a8", "w4a8 reconstructed")


def kinds_of(model, args) -> dict[str, Callable]:
    """Return, for each kind of image, what draws `count` of them by a seed."""

    def real(count, seed):
        images, _ = refvit.data.shapes10("calibration", count, start=seed * args.many)
        return model.preprocess.normalise(images)

    def made(count, seed):
        return synthesize(model, count, seed, args.steps)

    def classes_alone(count, seed):
        return synthesize(model, count, seed, args.steps, entropy=0.0)

    def noise(count, seed):
        shape = (count, model.config.channels, *model.config.image)
        return np.random.default_rng(seed).standard_normal(shape, np.float32)

    drawn = {"real": real, "synthesised": made, "no entropy": classes_alone, "noise": noise}
    return {kind: drawn[kind] for kind in args.kinds}


def top1_of(model, pixels, labels):
    """Return the share of test images that `model` classifies rightly."""
    parts = range(0, len(labels), 250)
    found = np.concatenate([model(pixels[i : i + 250]).argmax(1) for i in parts])
    return float(np.mean(found == labels))


def run(model, images, args, test):
    """Return top-1 by task of `model` quantized with `images`."""
    found = {name: top1_of(quantize_model(model, images[:FEW], name), *test) for name in TASKS[:2]}
    if args.reconstruct:
        start = quantize_model(model, images, "w4a8")
        learned = reconstruct(start, model, images, steps=args.reconstruct)
        found[TASKS[2]] = top1_of(learned, *test)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=500, help="of each batch synthesised")
    parser.add_argument("--reconstruct", type=int, default=300, help="steps; 0 leaves it out")
    parser.add_argument("--many", type=int, default=128, help="images to reconstruct on")
    parser.add_argument("--outliers", type=float, default=16.0)
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    model = inject_outliers(refvit.load("nano_vit"), args.outliers)
    images, labels = refvit.data.shapes10("test", args.tests)
    test = model.preprocess.normalise(images), labels
    found = {"float": top1_of(model, *test)}
    if not args.json:
        print(f"float {found['float']:.2%}, {args.tests:,} test images", flush=True)
    for kind, draw in kinds_of(model, args).items():
        count = args.many if args.reconstruct else FEW
        runs = [run(model, draw(count, seed), args, test) for seed in range(args.seeds)]
        found[kind] = {task: [r[task] for r in runs] for task in runs[0]}
        for task, top1 in found[kind].items() if not args.json else ():
            each = ", ".join(f"{value:.2%}" for value in top1)
            print(f"{kind:<12}{task:<20}{statistics.mean(top1):>8.2%}   {each}", flush=True)
    if args.json:
        print(json.dumps(vars(args) | {"top1": found}, indent=2))


if __name__ == "__main__":
    main()
