"""Artefacts: an engine as one safetensors file of integers, with labels as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refvit.checkpoints import config_from, parse_metadata
from refvit.files import read_tensors, write_tensors
from refvit.integer.bounds import Proof
from refvit.params import Params

if TYPE_CHECKING:
    from refvit.integer.engine import IntegerModel

FORMAT = "refvit-integer"
KEYS = ("specification", "config", "scales", "proofs", "preprocess", "labels", "recipe", "digest")


def save_engine(path: Path, engine: IntegerModel, specification: int) -> None:
    """Write `engine` to `path` atomically; sub-byte codes are held in bytes."""
    about: dict[str, Any] = {
        "specification": specification,
        "config": asdict(engine.config),
        "scales": dict(engine.scales),
        "proofs": [asdict(proof) for proof in engine.proofs],
        "preprocess": asdict(engine.preprocess),
        "labels": engine.labels,
        "recipe": engine.recipe,
        "digest": engine.digest,
    }
    metadata = {"format": FORMAT} | {key: json.dumps(value) for key, value in about.items()}
    write_tensors(path, dict(engine.constants.items()), metadata)


def read_engine(path: Path, specification: int) -> dict[str, Any]:
    """Return the fields of the engine in `path`, and the digest it was written with.

    Raises ValueError if the file is not an artefact, is of another specification, or holds
    anything but integers.
    """
    tensors, meta = read_tensors(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} is not an integer artefact of refvit")
    about = parse_metadata(path, meta, KEYS)
    if about["specification"] != specification:
        found = f"{str(path)!r} follows specification {about['specification']}"
        raise ValueError(f"{found}, this refvit knows {specification}; compile the model again")
    floats = [name for name, t in tensors.items() if not np.issubdtype(t.dtype, np.integer)]
    if floats:
        raise ValueError(f"{str(path)!r}: {floats[0]} does not hold integers")
    config, preprocess = config_from(path, about)
    sites = {name.rpartition(".")[0] for name in tensors if name.endswith(".clamp")}
    if not sites <= set(about["scales"]) or len(about["labels"]) != config.classes:
        raise ValueError(f"{str(path)!r}: its scales or class names are not complete")
    return {
        "config": config,
        "constants": Params(tensors),
        "scales": about["scales"],
        "proofs": tuple(Proof(**proof) for proof in about["proofs"]),
        "preprocess": preprocess,
        "labels": tuple(about["labels"]),
        "recipe": about["recipe"],
        "digest": about["digest"],
    }
