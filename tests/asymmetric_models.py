"""Models of three kinds, small, on grids with zero points: for tests of the integer engine."""

import dataclasses
import functools

import numpy as np

import refvit
from refvit.images import Preprocess
from refvit.models import SwinConfig, ViTConfig, random_params, workload_records
from refvit.params import Params
from refvit.quant import QParams, code_range

CONFIGS = {
    "vit": ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 2), channels=1, classes=3, eps=1e-3,
                     qkv_bias=False, pool="mean"),
    "deit": ViTConfig(16, 1, 2, 24, image=(8, 8), patch=(4, 4), channels=1, classes=3,
                      distillation="heads"),
    "swin": SwinConfig(8, (2, 1), (2, 2), (16, 24), ((3, 3), (2, 2)), image=(9, 13), patch=(2, 2),
                       channels=1, classes=3, rule="hf"),
}  # fmt: skip


@functools.cache
def simulated(name):
    """A model with random weights, w8a8 on four images of noise, and two of them."""
    config = CONFIGS[name]
    params = dict(random_params(config, 4).items())
    rng = np.random.default_rng(2)
    params |= {n: rng.normal(0, 0.3, t.shape).astype(np.float32)
               for n, t in params.items() if n.endswith(".bias")}  # fmt: skip
    ready = Preprocess(config.image, (0.5,), (0.5,))
    model = refvit.Model(config, Params(params), ready, ("a", "b", "c"))
    pixels = np.random.default_rng(0).standard_normal((4, 1, *config.image), np.float32)
    return refvit.quantize(model, pixels), pixels[:2]


def activations(config):
    """The sites of all activations of a model."""
    return [r.site for r in workload_records(config) if r.op not in ("output", "param")]


def plain(name):
    """The same with steps of activations that no calibration has a say in."""
    quantized, pixels = simulated(name)
    grids = dict(quantized.qparams)
    for i, site in enumerate(activations(quantized.config)):
        grids[site] = grids[site].with_scale((4 + i % 3) * 2.0 ** (-8 - grids[site].bits // 16 * 6))
    return dataclasses.replace(quantized, qparams=grids), pixels


def shifted(name, seed, share=0.6):
    """The same on asymmetric grids of 3 to 8 bits at a share of the sites, behind GELU of 16 too:
    zero points at the ends, one beside them, in the middle or anywhere."""
    quantized, pixels = simulated(name)
    rng, grids = np.random.default_rng(seed), dict(quantized.qparams)
    for site in activations(quantized.config):
        old = grids[site]
        if rng.random() < share:
            bits, signed = int(rng.integers(3, 9)), bool(rng.random() < 0.5)
            bits = 16 if site.endswith(".act") and rng.random() < 0.3 else bits
            lo, hi = code_range(bits, signed)
            places = [lo, hi, lo + 1, hi - 1, (lo + hi) // 2, int(rng.integers(lo, hi + 1))]
            scale = old.scale * old.hi * rng.uniform(1, 2) / (hi - lo)
            grids[site] = QParams(scale, bits, signed, zero_point=int(rng.choice(places)))
    return dataclasses.replace(quantized, qparams=grids), pixels


KERNELS = ("refvit", "ivit", "log2", "table")


def zeros(grids):
    """The zero points of a model's grids, by site, where they are not 0."""
    return {s: int(q.zero_point) for s, q in grids.items()
            if isinstance(q, QParams) and not q.symmetric}  # fmt: skip
