"""What `refvit predict` and `refvit info` compute, as text and as data for `--json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import refvit
from refvit.checkpoints import find_model
from refvit.integer import IntegerModel
from refvit.model import Model
from refvit.models import VARIANTS, Config, workload_records
from refvit.ops.functional import softmax


def config_of(name: str) -> Config:
    """Return the configuration of a variant, a shipped model, a directory or a file."""
    if name in VARIANTS:
        return VARIANTS[name]
    try:
        path = find_model(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; variants are {', '.join(VARIANTS)}") from None
    return refvit.load(path).config


def predict(model: Model | IntegerModel, image: Path, top: int) -> tuple[str, Any]:
    """Return the `top` classes of one image file, with probabilities, as text and as data.

    An integer engine ranks by its codes; the probabilities shown are those of codes x label.
    """
    pixels = model.preprocess(image)[None]
    logits = model(pixels)[0]
    scale = model.scale if isinstance(model, IntegerModel) else 1.0
    chance = softmax(logits[None] * scale)[0]
    best = np.argsort(-logits, kind="stable")[:top]
    rows = [
        {
            "label": model.labels[k],
            "index": int(k),
            "probability": float(chance[k]),
            "logit": logits[k].item(),
        }
        for k in best
    ]
    kind = "integer-only" if isinstance(model, IntegerModel) else "float"
    lines = [
        f"{row['label']:>16}  {row['probability']:6.1%}  {'#' * round(30 * row['probability'])}"
        for row in rows
    ]
    return "\n".join([f"{image} ({kind})", *lines]), {
        "image": str(image),
        "engine": kind,
        "top": rows,
    }


def info(name: str, config: Config) -> tuple[str, Any]:
    """Return the layers of a model: output shape, parameters and MACs of one image."""
    rows = [
        {"layer": r.site, "op": r.op, "shape": list(r.shape), "params": r.params, "macs": r.macs}
        for r in workload_records(config)
        if r.op not in ("input", "output")
    ]
    totals = {key: sum(row[key] for row in rows) for key in ("params", "macs")}  # type: ignore[misc]
    lines = [f"{name}  {config}", f"{'layer':<26}{'op':<12}{'shape':<20}{'params':>12}{'MACs':>16}"]
    for row in rows:
        shape = " x ".join(map(str, row["shape"][1:]))  # type: ignore[index]
        lines.append(
            f"{row['layer']:<26}{row['op']:<12}{shape:<20}{row['params']:>12,}{row['macs']:>16,}"
        )
    lines.append(f"{'total':<58}{totals['params']:>12,}{totals['macs']:>16,}")
    return "\n".join(lines), {"model": name, "layers": rows, "totals": totals}
