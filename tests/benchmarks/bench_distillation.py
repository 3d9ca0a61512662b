"""A student with and without its teacher, over seeds: `python bench_distillation.py [--json]`.

Run it with OPENBLAS_NUM_THREADS=1. Every run is `nano_deit` on the same images, in batches of the
same seed; only what its distillation head learns from differs: the labels, the teacher's decisions
(hard), or its probabilities (soft). Top-1 is on test images that no run has seen.

The images are cut and mixed (CutMix on every batch, and erased squares), as DeiT's are, and for
DeiT's reason (Touvron et al. 2021, section 4): a rectangle moved into another picture often takes
the shape along, or leaves it behind, and the label does not know; the teacher looks. With
`--augment "" --difficulty 0.25`, where every label is right and every image new, there is nothing
for a teacher to mend, and none helps.
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
from refvit.train_inputs import teacher_of
from refvit.train_recipe import TrainRecipe

KINDS = {
    "no teacher": {},
    "hard": {"teacher": "nano_swin", "distill": "hard"},
    "soft": {"teacher": "nano_swin", "distill": "soft", "temperature": 1.0},
}


def run(kind, seed, args, folder):
    """Return top-1 of one run."""
    recipe = TrainRecipe(
        "nano_deit", images=args.images, warmup=200, ema=0.995, seed=seed, augment=args.augment,
        difficulty=args.difficulty, **KINDS[kind],
    )  # fmt: skip
    teacher, _ = teacher_of(recipe, recipe.config)
    source = Shapes10(recipe.difficulty)
    params = train(recipe, folder / f"{kind}-{seed}", source, teacher)
    model = Model(recipe.config, params, preprocess_of(recipe.config), recipe.class_names)
    return refvit.evaluate(model, source, args.tests).top1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--augment", default="cutmix=1 erase=16")
    parser.add_argument("--difficulty", type=float, default=0.0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {kind: [] for kind in args.kinds}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            for kind in args.kinds:
                found[kind].append(run(kind, seed, args, Path(folder)))
                if not args.json:
                    print(f"seed {seed}  {kind:<12}{found[kind][-1]:>8.2%}", flush=True)
    if args.json:
        print(json.dumps(vars(args) | {"top1": found}, indent=2))
        return
    for kind, top1 in found.items():
        spread = statistics.stdev(top1) if len(top1) > 1 else 0.0
        print(f"{kind:<12}{statistics.mean(top1):>8.2%} +- {spread:.2%}")


if __name__ == "__main__":
    main()
