"""Models: configurations and forwards, and the one place that joins the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar

import numpy as np

from refvit.models.swin import SwinConfig, swin, swin_shapes
from refvit.models.variants import VARIANTS, variant
from refvit.models.vit import ViTConfig, vit, vit_shapes
from refvit.ops.protocol import Ops
from refvit.ops.shape_ops import Record, Shape, ShapeOps
from refvit.params import Params

__all__ = [
    "FAMILIES",
    "VARIANTS",
    "Config",
    "SwinConfig",
    "ViTConfig",
    "config_of",
    "describe_config",
    "family",
    "forward",
    "logits_site",
    "parameter_shapes",
    "random_params",
    "swin",
    "tuples",
    "variant",
    "vit",
    "workload_records",
]

T = TypeVar("T")
Config = ViTConfig | SwinConfig
FAMILIES: dict[str, tuple[type[Any], Any, Any]] = {
    "vit": (ViTConfig, vit, vit_shapes),
    "swin": (SwinConfig, swin, swin_shapes),
}


def family(cfg: Config) -> str:
    """Return "vit" (DeiT too) or "swin"."""
    return next(name for name, (kind, _, _) in FAMILIES.items() if isinstance(cfg, kind))


def forward(ops: Ops[T], images: Any, p: Params, cfg: Config) -> Any:
    """Run the model that `cfg` describes: [B, C, H, W] -> [B, classes], as `ops` means it."""
    return FAMILIES[family(cfg)][1](ops, images, p, cfg)


def parameter_shapes(cfg: Config) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of the model that `cfg` describes."""
    shapes: dict[str, tuple[int, ...]] = FAMILIES[family(cfg)][2](cfg)
    return shapes


def workload_records(cfg: Config, batch: int = 1) -> list[Record]:
    """Return one `Record` per operator of a forward at `batch`, without weights in memory."""
    ops = ShapeOps()
    params = Params({name: Shape(shape) for name, shape in parameter_shapes(cfg).items()})
    forward(ops, Shape((batch, cfg.channels, *cfg.image)), params, cfg)
    return ops.records


def logits_site(cfg: Config) -> str:
    """Return the site whose result is the model's: `head`, or `heads_mean`, or a norm."""
    return workload_records(cfg)[-1].inputs[0]


def describe_config(cfg: Config) -> dict[str, Any]:
    """Return what a file says of a configuration: its family, and every field that is required or
    not at its default. So a field added later leaves old descriptions, and digests, as they are.
    """
    said = asdict(cfg)
    kept = {f.name for f in fields(cfg) if f.default is MISSING or said[f.name] != f.default}
    return {"family": family(cfg), **{name: said[name] for name in said if name in kept}}


def config_of(described: Mapping[str, Any]) -> Config:
    """Return the configuration that `describe_config` described, from JSON too.

    Raises TypeError for fields that a configuration of that family does not have, ValueError for
    another family or an impossible size.
    """
    about = dict(described)
    name = about.pop("family", "vit")
    if name not in FAMILIES:
        raise ValueError(f"no family of models {name!r}; there are {', '.join(FAMILIES)}")
    config: Config = FAMILIES[name][0](**{key: tuples(value) for key, value in about.items()})
    return config


def tuples(value: Any) -> Any:
    """JSON has lists where the configurations have tuples."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value


def random_params(cfg: Config, seed: int) -> Params:
    """Return seeded float32 parameters: matrices normal of variance 1 / fan-in, embeddings and
    tables normal of deviation 0.02, ones for norms, zero biases. The start of training, and of
    benchmarks.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, shape in parameter_shapes(cfg).items():
        if name.endswith(".bias"):
            tensors[name] = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            tensors[name] = np.ones(shape, np.float32)
        else:
            linear = name.endswith(".weight")
            deviation = shape[1] ** -0.5 if linear else 0.02
            tensors[name] = rng.standard_normal(shape, np.float32) * np.float32(deviation)
    return Params(tensors)
