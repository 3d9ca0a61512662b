"""What `refvit predict` and `refvit info` compute, as text and as data for `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import refvit
from refvit.checkpoints import find_model
from refvit.hub import PREFIX
from refvit.integer import IntegerModel
from refvit.model import Model
from refvit.models import VARIANTS, Config, describe_config, family, workload_records
from refvit.ops.functional import softmax
from refvit.peers import configuration
from refvit.tree import tree_lines


def config_of(name: str, known: Mapping[str, Any]) -> Config:
    """Return the configuration of a variant, a shipped model, a directory or a file."""
    return describe_model(name, known)[0]


def _path_of(name: str) -> Path:
    try:
        return find_model(name)
    except FileNotFoundError as error:
        if name.startswith(PREFIX):
            raise
        raise FileNotFoundError(f"{error}; variants are {', '.join(VARIANTS)}") from None


def predict(model: Model | IntegerModel, image: Path, top: int) -> tuple[str, Any]:
    """Return the `top` classes of one image file, with probabilities, as text and as data.

    An integer engine ranks by its codes; the probabilities shown are those of codes x label.
    """
    if not model.labels:
        raise ValueError(
            "this model has no classifier: it gives features, model(pixels), and no classes"
        )
    pixels = model.preprocess(image)[None]
    logits = model(pixels)[0]
    scale = model.scale if isinstance(model, IntegerModel) else 1.0
    chance = softmax(logits[None] * scale)[0]
    rows = [
        {"label": model.labels[k], "index": int(k), "probability": float(chance[k]),
         "logit": logits[k].item()}
        for k in np.argsort(-logits, kind="stable")[:top]
    ]  # fmt: skip
    kind = "integer-only" if isinstance(model, IntegerModel) else "float"
    lines = [
        f"{row['label']:>16}  {row['probability']:6.1%}  {'#' * round(30 * row['probability'])}"
        for row in rows
    ]
    notes = () if isinstance(model, IntegerModel) else model.notes
    lines += [f"note: {note}" for note in notes]
    about = {"image": str(image), "engine": kind, "top": rows, "notes": list(notes)}
    return "\n".join([f"{image} ({kind})", *lines]), about


def describe_model(where: str, known: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration of a variant or a model, and what is to be said of it."""
    if where in VARIANTS and where not in refvit.shipped():
        config = VARIANTS[where]
        fields = asdict(config) | dict(known)
        return configuration(family(config), fields, where), ()
    model = refvit.load(_path_of(where), **known)
    if isinstance(model, IntegerModel):
        return model.config, (repr(model),)
    ready = model.preprocess
    lines = (f"classes: {_few(model.labels)}", f"images: {ready}", *model.notes)
    return model.config, lines


def _few(labels: tuple[str, ...]) -> str:
    more = f", ... ({len(labels)})" if len(labels) > 5 else ""
    return (", ".join(labels[:5]) or "none: features") + more


def info(where: str, every: bool, known: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the tree of a model's layers: output shape, parameters and MACs of one image.

    Modules that follow one that is alike are counted, not shown, unless `every` layer is wanted.
    """
    config, notes = describe_model(where, known)
    rows = [
        {"layer": r.site, "op": r.op, "shape": list(r.shape), "params": r.params, "macs": r.macs}
        for r in workload_records(config)
        if r.op not in ("input", "output")
    ]
    totals = {key: sum(row[key] for row in rows) for key in ("params", "macs")}  # type: ignore[misc]
    head = f"{'layer':<30}{'op':<12}{'output':<20}{'params':>13}{'MACs':>18}"
    said = " ".join(f"{key}={value}" for key, value in describe_config(config).items())
    lines = [f"{where}: {said}", *notes, head, *tree_lines(rows, every)]
    lines.append(f"{'total':<62}{totals['params']:>13,}{totals['macs']:>18,}")
    about = {"model": where, "config": describe_config(config), "notes": list(notes)}
    return "\n".join(lines), about | {"layers": rows, "totals": totals}
