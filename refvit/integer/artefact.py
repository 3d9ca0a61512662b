"""Artefacts: an engine as one safetensors file of integers, with labels as metadata.

Learned codes of fewer than 8 bits are packed (`refvit.quant.packing`), so that the file has the
size its recipe says. A seal over all metadata shows a change of what no integer depends on; what
the integers must be is `refvit.integer.prover`'s business. Specification, clauses 8.1 to 8.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refvit.checkpoints import class_names, config_from, describe, parse_metadata
from refvit.files import read_tensors, write_tensors
from refvit.integer.kernels.profiles import profile
from refvit.models import Config, parameter_shapes, workload_records
from refvit.params import Params
from refvit.quant import pack, unpack

if TYPE_CHECKING:
    from refvit.integer.engine import IntegerModel

FORMAT = "refvit-integer"
SPECIFICATION = 2  # the version of specification.md
KEYS: Mapping[str, type] = {
    "specification": int, "kernels": str, "config": dict, "scales": dict, "widths": dict,
    "preprocess": dict, "labels": list, "recipe": str, "provenance": dict, "digest": str,
}  # fmt: skip
Tensors = dict[str, NDArray[Any]]


def save_engine(path: Path, engine: IntegerModel) -> None:
    """Write `engine` to `path` atomically, codes of fewer than 8 bits packed."""
    more = {
        "specification": SPECIFICATION,
        "kernels": engine.kernels,
        "scales": dict(engine.scales),
        "widths": dict(engine.widths),
        "recipe": engine.recipe,
        "provenance": engine.provenance,
        "digest": engine.digest,
    }
    held = {
        name: pack(tensor, engine.widths[name]) if engine.widths.get(name, 8) < 8 else tensor
        for name, tensor in engine.constants.items()
    }
    meta = describe(FORMAT, engine, more)
    write_tensors(path, held, meta | {"seal": seal(meta)})


def seal(meta: Mapping[str, str]) -> str:
    """Return the sha256 of all metadata but the seal, as lines "key value" in the order of keys."""
    lines = "".join(f"{key} {meta[key]}\n" for key in sorted(meta) if key != "seal")
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def read_engine(path: Path) -> dict[str, Any]:
    """Return the fields of the engine in `path`, without its proofs, and its stored digest.

    Raises ValueError if the file is not an artefact, is of another specification, has metadata
    that were changed, or labels and widths that do not go with its configuration.
    """
    tensors, meta = read_tensors(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} is not an integer artefact of refvit")
    check_version(path, parse_metadata(path, meta, ("specification",))["specification"])
    if meta.get("seal") != seal(meta):
        raise ValueError(f"{str(path)!r} was changed: its metadata are not those that were sealed")
    about = parse_metadata(path, meta, tuple(KEYS))
    wrong = [key for key, kind in KEYS.items() if not isinstance(about[key], kind)]
    if wrong:
        raise ValueError(f"{str(path)!r}: {wrong[0]} is not a {KEYS[wrong[0]].__name__}")
    config, preprocess = config_from(path, about)
    try:
        profile(about["kernels"])
        check_scales(about["scales"], config)
        constants = Params(unpacked(tensors, about["widths"], config))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not consistent: {error}") from None
    return {
        "config": config,
        "constants": constants,
        "preprocess": preprocess,
        "labels": class_names(path, about, config),
        **{key: about[key] for key in ("recipe", "kernels", "scales", "widths", "provenance")},
        "digest": about["digest"],
    }


def check_version(path: Path, version: Any) -> None:
    """Raise ValueError, with the cure, for a specification that is not this refvit's."""
    if version != SPECIFICATION or not isinstance(version, int):
        newer = isinstance(version, int) and version > SPECIFICATION
        mend = "update refvit" if newer else "compile the model again"
        found = f"{str(path)!r} follows specification {version!s:.20}"
        raise ValueError(f"{found}, this refvit knows {SPECIFICATION}; {mend}")


def unpacked(tensors: Tensors, widths: Mapping[str, Any], config: Config) -> Tensors:
    """Return the constants of a file; ValueError for a width that its tensor does not have."""
    shapes, found = parameter_shapes(config), dict(tensors)
    for name, bits in widths.items():
        if name not in tensors or name not in shapes:
            raise ValueError(f"a width is given for {name}, which the model does not have")
        if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
            raise ValueError(f"{name} has codes of {bits!r} bits, it must have 2 to 16")
        if bits < 8:
            try:
                found[name] = unpack(tensors[name], bits, shapes[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return found


def check_scales(scales: Mapping[str, Any], config: Config) -> None:
    """Raise ValueError unless every value of a forward has a positive label."""
    for record in workload_records(config):
        label = scales.get(record.site, 1.0 if record.op == "output" else None)
        if not isinstance(label, float) or not 0 < label < np.inf:
            raise ValueError(f"the scale of {record.site} is {label!r:.40}, it must be above 0")
