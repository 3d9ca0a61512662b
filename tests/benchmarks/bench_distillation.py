"""A student with and without its teacher, over seeds: `python bench_distillation.py [--json]`.

Run it with OPENBLAS_NUM_THREADS=1. Every run is `nano_deit` on the same number of fresh shapes10
images, in batches of the same seed; only what its distillation head learns from differs: the
labels, the teacher's decisions (hard), or its softened probabilities (soft). Top-1 is on test
images that no run has seen.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import refvit
from refvit.model import Model
from refvit.sources import Shapes10
from refvit.train import preprocess_of, train
from refvit.train_command import teacher_of
from refvit.train_recipe import TrainRecipe

KINDS = {
    "no teacher": {},
    "hard": {"teacher": "nano_swin", "distill": "hard"},
    "soft": {"teacher": "nano_swin", "distill": "soft"},
}


def run(kind, seed, images, tests, folder):
    """Return top-1 of one run."""
    recipe = TrainRecipe(
        "nano_deit", images=images, warmup=100, ema=0.99, seed=seed, **KINDS[kind]
    )  # fmt: skip
    teacher, _ = teacher_of(recipe)
    source = Shapes10(recipe.difficulty)
    params = train(recipe, folder / f"{kind}-{seed}", source, teacher)
    model = Model(recipe.config, params, preprocess_of(recipe.config), recipe.class_names)
    return refvit.evaluate(model, source, tests).top1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            found[kind] = [
                run(kind, seed, args.images, args.tests, Path(folder)) for seed in range(args.seeds)
            ]
            if not args.json:
                mean, spread = statistics.mean(found[kind]), statistics.stdev(found[kind])
                each = "  ".join(f"{top1:.2%}" for top1 in found[kind])
                print(f"{kind:<12}{mean:>8.2%} +- {spread:.2%}   {each}", flush=True)
    if args.json:
        print(json.dumps({"images": args.images, "tests": args.tests, "top1": found}, indent=2))


if __name__ == "__main__":
    main()
