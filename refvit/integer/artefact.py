"""Artefacts: an engine as one safetensors file of integers, with labels as metadata."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refvit.checkpoints import class_names, config_from, describe, parse_metadata
from refvit.files import read_tensors, write_tensors
from refvit.integer.bounds import Proof
from refvit.params import Params

if TYPE_CHECKING:
    from refvit.integer.engine import IntegerModel

FORMAT = "refvit-integer"
SPECIFICATION = 1  # of the roundings, clamps and shifts documented in `refvit.integer`
KEYS = ("specification", "config", "scales", "proofs", "preprocess", "labels", "recipe", "digest")


def save_engine(path: Path, engine: IntegerModel) -> None:
    """Write `engine` to `path` atomically; sub-byte codes are held in bytes."""
    more = {
        "specification": SPECIFICATION,
        "scales": dict(engine.scales),
        "proofs": [asdict(proof) for proof in engine.proofs],
        "recipe": engine.recipe,
        "digest": engine.digest,
    }
    write_tensors(path, dict(engine.constants.items()), describe(FORMAT, engine, more))


def read_engine(path: Path) -> dict[str, Any]:
    """Return the fields of the engine in `path`, and the digest it was written with.

    Raises ValueError if the file is not an artefact, is of another specification, or holds
    anything but integers.
    """
    tensors, meta = read_tensors(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} is not an integer artefact of refvit")
    about = parse_metadata(path, meta, KEYS)
    if about["specification"] != SPECIFICATION:
        found = f"{str(path)!r} follows specification {about['specification']}"
        raise ValueError(f"{found}, this refvit knows {SPECIFICATION}; compile the model again")
    floats = [name for name, t in tensors.items() if not np.issubdtype(t.dtype, np.integer)]
    if floats:
        raise ValueError(f"{str(path)!r}: {floats[0]} does not hold integers")
    config, preprocess = config_from(path, about)
    sites = {name.rpartition(".")[0] for name in tensors if name.endswith(".clamp")}
    if not sites <= set(about["scales"]):
        raise ValueError(f"{str(path)!r}: its scales are not complete")
    return {
        "config": config,
        "constants": Params(tensors),
        "scales": about["scales"],
        "proofs": tuple(Proof(**proof) for proof in about["proofs"]),
        "preprocess": preprocess,
        "labels": class_names(path, about, config),
        "recipe": about["recipe"],
        "digest": about["digest"],
    }
