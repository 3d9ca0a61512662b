"""A training step against its forward: `OPENBLAS_NUM_THREADS=1 python bench_training.py [--json]`.

The step is forward, loss and backward of one batch on one thread; the forward is the float model
alone on the same batch. Least of several runs, taken in turn.
"""

import argparse
import json
import time

import numpy as np

from refvit.models import forward, random_params, variant
from refvit.ops import FloatOps
from refvit.train import Batch, Student, gradients
from refvit.train_recipe import TrainRecipe

MODELS = ("nano_vit", "nano_deit", "nano_swin", "fashion_vit", "fashion_swin")


def measure(name, batch, runs):
    """Return the least milliseconds of a forward and of a step."""
    config, rng = variant(name), np.random.default_rng(0)
    params = random_params(config, 0)
    pixels = rng.standard_normal((batch, config.channels, *config.image), np.float32)
    data = Batch(pixels, np.eye(config.classes)[rng.integers(0, config.classes, batch)])
    tensors = dict(params.items())
    jobs = {
        "forward": lambda: forward(FloatOps(), pixels, params, config),
        "step": lambda: gradients(TrainRecipe(), Student(config, tensors), tensors, data),
    }
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(runs + 1):
        for what, job in jobs.items():
            began = time.perf_counter()
            job()
            best[what] = min(best[what], (time.perf_counter() - began) * 1e3)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {name: measure(name, args.batch, args.runs) for name in args.models}
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for name, ms in found.items():
        ratio = ms["step"] / ms["forward"]
        print(
            f"{name:<14}forward {ms['forward']:>8.1f} ms  step {ms['step']:>8.1f} ms  {ratio:.2f} x"
        )


if __name__ == "__main__":
    main()
