"""What an offset that is learned besides the step is worth: LSQ and LSQ+ from the same images.

LSQ+ (Bhalgat, Lee, Nagel, Blankevoort and Kwak 2020) adds to a learned step (LSQ) a learned offset
of activations, where one side of zero has more to say than the other; behind GELU nearly all of it
is above. Both begin on linear grids of least square error, so the only difference is the offset.
`python tests/benchmarks/bench_offsets.py` prints a row for each, in integers too.
"""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import replace

import refvit
from refvit.evaluate import evaluate
from refvit.methods import METHODS, resolved
from refvit.quant import PRESETS, Learnable, Recipe
from refvit.sources import Shapes10, pixels_of
from refvit.train import Student, train
from refvit.train_inputs import teacher_of
from refvit.train_recipe import TrainRecipe, read_recipe

WAYS = {"steps (LSQ)": False, "steps and offsets (LSQ+)": True}


def with_offsets(recipe):
    """Every activation of few bits has a zero point; weights and the stream of 16 bits have not."""
    table = {
        site: replace(spec, signed=False, symmetric=False)
        if spec.bits <= 8 and not site.endswith((".weight", "cls_token", "pos_embed", "_bias"))
        else spec
        for site, spec in recipe.table.items()
    }
    return Recipe(recipe.name, table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano_vit")
    parser.add_argument("--recipe", default="w4a4")
    parser.add_argument("--images", type=int, default=64_000, help="that each training sees")
    parser.add_argument("--count", type=int, default=10_000, help="test images")
    args = parser.parse_args()
    model = refvit.load(args.model)
    pixels = pixels_of(model.preprocess, Shapes10().calibration(256))
    about = read_recipe("qat") | {"start": args.model, "qat": args.recipe, "images": args.images}
    recipe = TrainRecipe(**about)
    teacher, _ = teacher_of(recipe, model.config, model)
    print(f"{args.model}, {args.recipe}, {args.images:,} images; of {args.count:,} test images")
    print("| learned | calibrated | trained | in integers |")
    print("|---|---|---|---|")
    for name, offsets in WAYS.items():
        given = resolved(model, PRESETS[args.recipe])
        given = with_offsets(given) if offsets else given
        start = Learnable(METHODS["mse"](model, pixels, given))
        student = Student(model.config, start.tensors, start.tap, model.preprocess)
        tensors = train(recipe, None, Shapes10(), teacher, student=student)
        last = start.settled(dict(tensors.items()))
        found = (start.start, last, refvit.compile(last))
        figures = [evaluate(each, Shapes10(), args.count).top1 for each in found]
        print(f"| {name} |", " | ".join(f"{top1:.2%}" for top1 in figures), "|", flush=True)


if __name__ == "__main__":
    main()
