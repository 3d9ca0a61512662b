"""Artefacts: an engine as one safetensors file of integers, with labels as metadata.

Learned codes of fewer than 8 bits are packed (`refvit.quant.packing`), so that the file has the
size its recipe says. What a file claims is checked against its configuration: specification
clauses 8.1 to 8.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refvit.checkpoints import class_names, config_from, describe, parse_metadata
from refvit.files import read_tensors, write_tensors
from refvit.integer.bounds import Proof
from refvit.integer.fixedpoint import MAX_SHIFT, MULTIPLIER_BITS
from refvit.integer.kernels.profiles import PROFILES
from refvit.models import Config, parameter_shapes, workload_records
from refvit.params import Params
from refvit.quant import pack, unpack

if TYPE_CHECKING:
    from refvit.integer.engine import IntegerModel

FORMAT = "refvit-integer"
SPECIFICATION = 2  # the version of specification.md
KEYS = (
    "specification", "kernels", "config", "scales", "proofs", "widths", "preprocess", "labels",
    "recipe", "provenance", "digest",
)  # fmt: skip
Tensors = dict[str, NDArray[Any]]


def save_engine(path: Path, engine: IntegerModel) -> None:
    """Write `engine` to `path` atomically, codes of fewer than 8 bits packed."""
    more = {
        "specification": SPECIFICATION,
        "kernels": engine.kernels,
        "scales": dict(engine.scales),
        "proofs": [asdict(proof) for proof in engine.proofs],
        "widths": dict(engine.widths),
        "recipe": engine.recipe,
        "provenance": engine.provenance,
        "digest": engine.digest,
    }
    held = {
        name: pack(tensor, engine.widths[name]) if engine.widths.get(name, 8) < 8 else tensor
        for name, tensor in engine.constants.items()
    }
    write_tensors(path, held, describe(FORMAT, engine, more))


def read_engine(path: Path) -> dict[str, Any]:
    """Return the fields of the engine in `path`, and the digest it was written with.

    Raises ValueError if the file is not an artefact, is of another specification, holds anything
    but integers, or contradicts itself about widths, shapes or sites.
    """
    tensors, meta = read_tensors(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} is not an integer artefact of refvit")
    version = parse_metadata(path, meta, KEYS[:1])["specification"]
    if version != SPECIFICATION:
        newer = isinstance(version, int) and version > SPECIFICATION
        mend = "update refvit" if newer else "compile the model again"
        raise ValueError(
            f"{str(path)!r} follows specification {version}, this refvit knows "
            f"{SPECIFICATION}; {mend}"
        )
    about = parse_metadata(path, meta, KEYS)
    config, preprocess = config_from(path, about)
    try:
        constants = unpacked(tensors, about["widths"], config)
        check(constants, about, config)
        proofs = tuple(Proof(**proof) for proof in about["proofs"])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is not consistent: {error}") from None
    return {
        "config": config,
        "constants": Params(constants),
        "scales": about["scales"],
        "proofs": proofs,
        "preprocess": preprocess,
        "labels": class_names(path, about, config),
        **{key: about[key] for key in ("recipe", "kernels", "widths", "provenance", "digest")},
    }


def unpacked(tensors: Tensors, widths: Mapping[str, int], config: Config) -> Tensors:
    """Return the constants of a file; ValueError for a width that its tensor does not have."""
    shapes, found = parameter_shapes(config), dict(tensors)
    for name, bits in widths.items():
        if name not in tensors or name not in shapes:
            raise ValueError(f"a width is given for {name}, which the model does not have")
        if not isinstance(bits, int) or not 2 <= bits <= 32:
            raise ValueError(f"{name} has codes of {bits!r} bits")
        if bits < 8:
            try:
                found[name] = unpack(tensors[name], bits, shapes[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        codes, top = found[name], 1 << (bits - 1)
        if codes.dtype.kind != "i" or codes.min() < -top or codes.max() >= top:
            raise ValueError(f"{name} does not hold signed codes of {bits} bits")
    return found


def check(constants: Tensors, about: Mapping[str, Any], config: Config) -> None:
    """Raise ValueError unless every constant has the type, width and shape that it must."""
    if about["kernels"] not in PROFILES:
        raise ValueError(f"it wants kernels {about['kernels']!r}, there are {', '.join(PROFILES)}")
    for name, tensor in constants.items():
        if tensor.dtype.kind not in "iu" or tensor.dtype.itemsize > 4:
            raise ValueError(f"{name} does not hold integers of at most 32 bits")
        kind = name.rpartition(".")[2]
        if kind.endswith("multiplier") and np.abs(tensor.astype(np.int64)).max() >> MULTIPLIER_BITS:
            raise ValueError(f"{name} has more than {MULTIPLIER_BITS} bits")
        if kind.endswith("shift") and not 1 <= tensor.min() <= tensor.max() <= MAX_SHIFT:
            raise ValueError(f"{name} is not a shift of 1 to {MAX_SHIFT}")
    shapes = parameter_shapes(config)
    for record in workload_records(config):
        if record.op == "output":
            continue
        site, learned = record.site, record.op == "param"
        needs = [site] if learned else [f"{site}.clamp"]
        needs += [f"{site}.weight", f"{site}.multiplier"] if record.op == "linear" else []
        missing = [name for name in needs if name not in constants]
        if missing or site not in about["scales"]:
            raise ValueError(f"it lacks {(missing or [f'the scale of {site}'])[0]}")
        for name in (site, f"{site}.weight", f"{site}.bias"):
            wanted = shapes.get(name)
            if name in constants and constants[name].shape != wanted:
                found = list(constants[name].shape)
                raise ValueError(f"{name} is {found}, the model has {list(wanted or ())}")
