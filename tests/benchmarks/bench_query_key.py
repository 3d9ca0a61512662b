"""What few bits of queries and keys cost, so about what a treatment of them alone could win back.

Q-ViT (Li, Xu, Zhang, Cao, Gao and Guo 2022) shifts and scales queries and keys before they are
rounded and teaches their similarities; OFQ (Liu, Liu and Cheng 2023) rewrites their weights so that
those of one do not oscillate against the other's. Both mend what rounding does to Q K^T. So here
the same training runs thrice: all at the width of the recipe, with queries and keys at 8 bits, and
with their weights at 8 bits as well: an estimate, as a treatment may add a loss of its own.
`python tests/benchmarks/bench_query_key.py` prints a row for each.
"""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import refvit
from refvit.evaluate import evaluate
from refvit.methods import changed, fitted, resolved
from refvit.quant import PRESETS, Learnable
from refvit.sources import Shapes10, pixels_of
from refvit.train import Student, train
from refvit.train_inputs import teacher_of
from refvit.train_recipe import TrainRecipe, read_recipe

WAYS = {  # name: the sites that have 8 bits
    "as the recipe says": (),
    "queries and keys": ("*.attn.q", "*.attn.k"),
    "their weights too": ("*.attn.q", "*.attn.k", "*.attn.q.weight", "*.attn.k.weight"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano_vit")
    parser.add_argument("--recipe", default="w3a3")
    parser.add_argument("--images", type=int, default=64_000, help="that each training sees")
    parser.add_argument("--count", type=int, default=10_000, help="test images")
    args = parser.parse_args()
    model = refvit.load(args.model)
    pixels = pixels_of(model.preprocess, Shapes10().calibration(256))
    about = read_recipe("qat") | {"start": args.model, "qat": args.recipe, "images": args.images}
    recipe = TrainRecipe(**about)
    teacher, _ = teacher_of(recipe, model.config, model)
    print(f"{args.model}, {args.recipe}, {args.images:,} images; of {args.count:,} test images")
    print("| with 8 bits | calibrated | trained |")
    print("|---|---|---|")
    for name, sites in WAYS.items():
        table = resolved(model, PRESETS[args.recipe])
        for site in sites:
            table = changed(table, site, bits=8)
        start = Learnable(fitted(model, pixels, table))
        student = Student(model.config, start.tensors, start.tap, model.preprocess)
        tensors = train(recipe, None, Shapes10(), teacher, student=student)
        found = (start.start, start.settled(dict(tensors.items())))
        first, last = (evaluate(quantized, Shapes10(), args.count).top1 for quantized in found)
        print(f"| {name} | {first:.2%} | {last:.2%} |", flush=True)


if __name__ == "__main__":
    main()
