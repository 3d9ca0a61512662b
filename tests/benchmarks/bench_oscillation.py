"""Weights that go to and fro between two codes in quantization-aware training, and what damps them.

`python tests/benchmarks/bench_oscillation.py` trains `nano_vit` further on the grids of a recipe at
a rate that stays, counts in the last steps how many weight codes turn back on their last change
(Nagel, Fournarakis, Bondarenko and Blankevoort 2022, section 3), and tests what came of it: the
last weights, and their running average. One row for each way.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import refvit
from refvit.evaluate import evaluate
from refvit.methods import METHODS
from refvit.optim import AdamW, fresh, warmup_cosine
from refvit.progress import Progress
from refvit.quant import PRESETS, Learnable
from refvit.sources import Shapes10, pixels_of
from refvit.train import Teacher, batches, sharded_gradients
from refvit.train_from import student_of
from refvit.train_recipe import TrainRecipe

WAYS = {  # name: does the rate fall, and the strength of damping
    "a rate that stays": (False, 0.0),
    "the same, damped": (False, 0.01),
    "a rate that falls": (True, 0.0),
    "both": (True, 0.01),
}


def codes_of(learnable, tensors):
    """Return every weight's code, as one vector."""
    grids = learnable.settled(tensors).qparams
    return np.concatenate([
        grids[name].encode(t.astype(np.float64)).ravel()
        for name, t in tensors.items()
        if name.endswith(".weight") and name in grids
    ])  # fmt: skip


class Turns:
    """Counts weights whose code turned back: a change against the direction of its last one."""

    def __init__(self, codes):
        self.codes, self.last = codes, np.zeros(codes.shape, np.int8)
        self.turned = np.zeros(codes.shape, np.int64)

    def see(self, codes):
        move = np.sign(codes.astype(np.int64) - self.codes).astype(np.int8)
        self.turned += (move * self.last) < 0
        self.last, self.codes = np.where(move != 0, move, self.last), codes


def run(model, learnable, args, falls, strength):
    """Return the share of weights that turned back twice or more, and the two top-1s."""
    student = student_of(learnable, model, strength)
    recipe = TrainRecipe(
        images=args.steps * 128, distill="soft", temperature=2.0, start="nano_vit", qat=args.recipe
    )
    teacher = Teacher(lambda images: model(model.preprocess.normalise(images)))
    state, optimiser = fresh(learnable.tensors, True), AdamW(decay=0.0, ema=0.99)
    turns, bar = None, Progress("train", args.steps, "steps")
    with ThreadPoolExecutor(recipe.shards) as pool:
        for batch in batches(recipe, Shapes10(), model.preprocess, teacher, 0):
            if state.step == args.steps - args.watched:
                turns = Turns(codes_of(learnable, state.params))
            done = state.step / args.steps
            grads, _, _ = sharded_gradients(recipe, student, state.params, batch, pool, done)
            rate = warmup_cosine(state.step, args.steps, 20, args.rate) if falls else args.rate
            state = optimiser.update(state, grads, rate)
            if turns:
                turns.see(codes_of(learnable, state.params))
            bar.advance(1)
    bar.close()
    found = [
        evaluate(learnable.settled(tensors), Shapes10(), args.count).top1
        for tensors in (state.params, state.average)
    ]
    return float(np.mean(turns.turned >= 2)), *found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="w3a3")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), metavar="WAY", help="rows (all)")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--watched", type=int, default=100, help="steps at the end that are counted"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--count", type=int, default=2000, help="test images")
    args = parser.parse_args()
    model = refvit.load("nano_vit")
    pixels = pixels_of(model.preprocess, Shapes10().calibration(128))
    start = METHODS["mse"](model, pixels, PRESETS[args.recipe])
    print(f"{args.recipe}, {args.steps} steps of 128 images, the last {args.watched} watched")
    print("| the last steps have | weights that turn back | top-1, last weights | averaged |")
    print("|---|---|---|---|")
    for name in args.ways:
        share, last, mean = run(model, Learnable(start), args, *WAYS[name])
        print(f"| {name} | {share:.2%} | {last:.2%} | {mean:.2%} |", flush=True)


if __name__ == "__main__":
    main()
