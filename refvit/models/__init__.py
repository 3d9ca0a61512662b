"""Models: configurations and forwards, and the one place that joins the two."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from refvit.models.variants import VARIANTS, variant
from refvit.models.vit import ViTConfig, vit, vit_shapes
from refvit.ops.protocol import Ops
from refvit.ops.shape_ops import Record, Shape, ShapeOps
from refvit.params import Params

__all__ = [
    "VARIANTS",
    "ViTConfig",
    "forward",
    "parameter_shapes",
    "random_params",
    "variant",
    "vit",
    "workload_records",
]

T = TypeVar("T")
Config = ViTConfig


def forward(ops: Ops[T], images: Any, p: Params, cfg: Config) -> Any:
    """Run the model that `cfg` describes: [B, C, H, W] -> [B, classes], as `ops` means it."""
    return vit(ops, images, p, cfg)


def parameter_shapes(cfg: Config) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of the model that `cfg` describes."""
    return vit_shapes(cfg)


def workload_records(cfg: Config, batch: int = 1) -> list[Record]:
    """Return one `Record` per operator of a forward at `batch`, without weights in memory."""
    ops = ShapeOps()
    params = Params({name: Shape(shape) for name, shape in parameter_shapes(cfg).items()})
    forward(ops, Shape((batch, cfg.channels, *cfg.image)), params, cfg)
    return ops.records


def random_params(cfg: Config, seed: int) -> Params:
    """Return seeded float32 parameters: matrices normal of variance 1 / fan-in, embeddings normal
    of deviation 0.02, ones for norms, zero biases. The start of training, and of benchmarks.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, shape in parameter_shapes(cfg).items():
        if name.endswith(".bias"):
            tensors[name] = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            tensors[name] = np.ones(shape, np.float32)
        else:
            deviation = shape[1] ** -0.5 if len(shape) == 2 else 0.02
            tensors[name] = rng.standard_normal(shape, np.float32) * np.float32(deviation)
    return Params(tensors)
