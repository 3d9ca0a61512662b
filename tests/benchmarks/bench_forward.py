"""Whole forwards against their floor: `python tests/benchmarks/bench_forward.py [--json]`.

The floor is the time of the same GEMMs alone in NumPy float32, in the same process. Each figure is
the least of several runs, taken in turn so that a machine that slows down slows all of them. Where
PyTorch and timm can be imported, the same model runs there too. `--integer` adds the integer
engine, `--memory` prints instead how much memory one forward needs beyond the weights.
"""

import argparse
import json
import time
import tracemalloc

import numpy as np

import refvit
from refvit.models import SwinConfig, variant, workload_records

CASES = (("vit_base", 1), ("vit_base", 8), ("deit_small", 1), ("deit_small", 8),
         ("swin_tiny", 1), ("swin_tiny", 8), ("nano_vit", 1), ("nano_vit", 64))  # fmt: skip


def gemms(config, batch):
    """Return a function that runs every product of one forward, and nothing else."""
    rng = np.random.default_rng(0)
    pairs = []
    for record in workload_records(config, batch):
        if record.gemm is not None:
            (m, k, n), stack = record.gemm, record.shape[:-2] if record.op == "matmul" else ()
            a = rng.standard_normal((*stack, m, k), np.float32)
            b = rng.standard_normal((*stack, k, n), np.float32)
            pairs.append((a, b))

    def floor():
        for a, b in pairs:
            np.matmul(a, b)

    return floor


def torch_eager(config, pixels):
    """Return timm's model of the same sizes as a function, or None where it is not installed."""
    try:
        import torch

        operators = torch.library.Library("torchvision", "DEF")  # timm imports torchvision
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        from timm.models.swin_transformer import SwinTransformer
        from timm.models.vision_transformer import VisionTransformer
    except Exception:
        return None
    if isinstance(config, SwinConfig):
        model = SwinTransformer(
            config.image, config.patch, config.channels, config.classes, embed_dim=config.width,
            depths=config.depths, num_heads=config.heads, window_size=config.windows[0],
        )  # fmt: skip
    else:
        model = VisionTransformer(
            config.image, config.patch, config.channels, config.classes, embed_dim=config.width,
            depth=config.depth, num_heads=config.heads, mlp_ratio=config.hidden / config.width,
        )  # fmt: skip
    model.eval()
    x = torch.from_numpy(pixels)

    def run():
        with torch.inference_mode():
            model(x)

    return run


def least(functions, runs):
    """Return the least milliseconds of each function over `runs` rounds."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(runs):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], (time.perf_counter() - began) * 1e3)
    return best


def measure(name, batch, runs, integer):
    config = variant(name)
    model = refvit.load(name) if name in refvit.shipped() else refvit.random(name)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((batch, config.channels, *config.image), np.float32)
    functions = {"floor": gemms(config, batch), "float32": lambda: model(pixels)}
    if integer:
        engine = refvit.compile(refvit.quantize(model, pixels))
        functions["integer"] = lambda: engine(pixels)
    eager = torch_eager(config, pixels)
    if eager is not None:
        functions["torch eager"] = eager
    least(functions, 1)  # warm up
    return least(functions, runs)


def peak_bytes(name):
    """Return the most bytes that arrays held at once in a forward of one image, weights aside."""
    model = refvit.random(name)
    config = model.config
    pixels = np.zeros((1, config.channels, *config.image), np.float32)
    tracemalloc.start()
    model(pixels)
    return tracemalloc.get_traced_memory()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", help="only this variant")
    parser.add_argument("--batch", type=int, help="only this many images at a time")
    parser.add_argument("--integer", action="store_true", help="the integer engine too")
    parser.add_argument("--memory", metavar="MODEL", help="print the peak beyond the weights")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.memory:
        print(f"{args.memory}: {peak_bytes(args.memory) / 1e6:.1f} MB beyond the weights")
        return
    rows = []
    for name, batch in CASES:
        if (args.model or name) != name or (args.batch or batch) != batch:
            continue
        found = measure(name, batch, args.runs, args.integer)
        rows += [
            {
                "model": name,
                "batch": batch,
                "what": what,
                "ms": ms,
                "over_floor": ms / found["floor"],
            }
            for what, ms in found.items()
        ]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<12}{'batch':>6}  {'what':<12}{'ms':>10}{'x floor':>9}")
    for r in rows:
        figures = f"{r['ms']:>10.2f}{r['over_floor']:>9.2f}"
        print(f"{r['model']:<12}{r['batch']:>6}  {r['what']:<12}{figures}", flush=True)


if __name__ == "__main__":
    main()
