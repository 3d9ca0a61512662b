"""What an offset that is learned besides the step is worth: LSQ and LSQ+ from the same images.

LSQ+ (Bhalgat, Lee, Nagel, Blankevoort and Kwak 2020) adds to a learned step (LSQ) a learned offset
of activations, where one side of zero has more to say than the other; behind GELU nearly all of it
is above. Both begin on linear grids of least square error, so the only difference is the offset.
`python tests/benchmarks/bench_offsets.py` prints a row for each, in integers too.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import replace

from qat_runs import options, trained

import refvit
from refvit.evaluate import evaluate
from refvit.methods import METHODS, resolved
from refvit.quant import PRESETS, Recipe
from refvit.sources import Shapes10

WAYS = {"steps (LSQ)": False, "steps and offsets (LSQ+)": True}


def with_offsets(recipe):
    """Every activation of few bits has a zero point; weights and the stream of 16 bits have not."""
    table = {
        site: replace(spec, signed=False, symmetric=False)
        if spec.bits <= 8 and not site.endswith((".weight", "cls_token", "pos_embed", "bias_table"))
        else spec
        for site, spec in recipe.table.items()
    }
    return Recipe(recipe.name, table)


def main():
    args = options(__doc__.splitlines()[0], "w4a4")
    print("| learned | calibrated | trained | in integers |")
    print("|---|---|---|---|")
    for name, offsets in WAYS.items():
        table = resolved(refvit.load(args.model), PRESETS[args.recipe])
        table = with_offsets(table) if offsets else table
        first, last = trained(args, METHODS["mse"], table)
        found = (first, last, refvit.compile(last))
        figures = [evaluate(each, Shapes10(), args.count).top1 for each in found]
        print(f"| {name} |", " | ".join(f"{top1:.2%}" for top1 in figures), "|", flush=True)


if __name__ == "__main__":
    main()
