"""What few bits of queries and keys cost, so about what a treatment of them alone could win back.

Q-ViT (Li, Xu, Zhang, Cao, Gao and Guo 2022) shifts and scales queries and keys before they are
rounded and teaches their similarities; OFQ (Liu, Liu and Cheng 2023) rewrites their weights so that
those of one do not oscillate against the other's. Both mend what rounding does to Q K^T. So here
the same training runs thrice: all at the width of the recipe, with queries and keys at 8 bits, and
with their weights at 8 bits as well: an estimate, as a treatment may add a loss of its own.
`python tests/benchmarks/bench_query_key.py` prints a row for each.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from qat_runs import options, trained

import refvit
from refvit.evaluate import evaluate
from refvit.methods import changed, fitted, resolved
from refvit.quant import PRESETS
from refvit.sources import Shapes10

WAYS = {  # name: the sites that have 8 bits
    "as the recipe says": (),
    "queries and keys": ("*.attn.q", "*.attn.k"),
    "their weights too": ("*.attn.q", "*.attn.k", "*.attn.q.weight", "*.attn.k.weight"),
}


def main():
    args = options(__doc__.splitlines()[0], "w3a3")
    print("| with 8 bits | calibrated | trained |")
    print("|---|---|---|")
    for name, sites in WAYS.items():
        table = resolved(refvit.load(args.model), PRESETS[args.recipe])
        for site in sites:
            table = changed(table, site, bits=8)
        found = trained(args, fitted, table)
        first, last = (evaluate(quantized, Shapes10(), args.count).top1 for quantized in found)
        print(f"| {name} | {first:.2%} | {last:.2%} |", flush=True)


if __name__ == "__main__":
    main()
