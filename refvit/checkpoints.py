"""Models on disk: shipped names, refvit's own files, and where directories of peers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refvit import hub
from refvit.files import Arrays, read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.matching import matched
from refvit.model import Model
from refvit.models import VARIANTS, Config, config_of, describe_config, tuples
from refvit.peers import load_directory, load_lone

FORMAT = "refvit-float"


def shipped() -> list[str]:
    """Return the names of the models that travel with refvit."""
    return sorted(path.stem for path in weights_folder().glob("*.safetensors"))


def weights_folder() -> Path:
    """Return `weights/`: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "weights"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "weights"


def find_model(where: str | Path) -> Path:
    """Return the path of a shipped name, of `hf:org/name` in the local cache of Hugging Face, of a
    directory or a file; FileNotFoundError if there is none."""
    if str(where).startswith(hub.PREFIX):
        return hub.cached(str(where))
    if str(where) in shipped():
        return weights_folder() / f"{where}.safetensors"
    if str(where) in VARIANTS and not Path(where).exists():
        raise FileNotFoundError(
            f"{str(where)!r} names a variant, which has no weights; name a shipped model, of "
            f"{', '.join(shipped())}, or a checkpoint (in Python refvit.random makes weights)"
        )
    if str(where) == "" or not _exists(Path(where)):
        names = ", ".join(shipped()) or "none"
        asked = f"{str(where)!r:.200}"
        raise FileNotFoundError(f"no model {asked}: not a path; shipped models are {names}")
    return Path(where)


def _exists(path: Path) -> bool:
    """Say whether there is such a path; a name that no file system holds is none."""
    try:
        return path.exists()
    except OSError:
        return False


def file_format(path: Path) -> str:
    """Return what a safetensors file says it is: its `format` metadata, or ""."""
    return read_tensors(path, only=())[1].get("format", "")


def load_model(path: Path, known: Mapping[str, Any] | None = None) -> Model:
    """Return the float model at `path`: a directory of Hugging Face or timm, or a file.

    A file is refvit's own, or a peer's: with config.json beside it, it is its directory's model;
    alone, its architecture is inferred. `known` are fields of the configuration that hold whatever
    a peer's checkpoint says. Raises FileNotFoundError or ValueError in one line that says what is
    wrong.
    """
    if path.is_dir():
        return load_directory(path, known or {})
    tensors, meta = read_tensors(path)
    if meta.get("format") == FORMAT:
        return _own_file(path, tensors, meta, known or {})
    if path.name == "model.safetensors" and (path.parent / "config.json").is_file():
        return load_directory(path.parent, known or {})
    return load_lone(path, tensors, known or {})


def save_model(path: str | Path, model: Model, card: dict[str, Any]) -> None:
    """Write `model` as one safetensors file whose metadata says all that `load` needs."""
    metadata = describe(FORMAT, model, {"card": card})
    write_tensors(Path(path), dict(model.params.items()), metadata)


def describe(kind: str, model: Any, more: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file: what belongs to any model of refvit, and `more`, as JSON."""
    about = {
        "config": describe_config(model.config),
        "preprocess": asdict(model.preprocess),
        "labels": model.labels,
        **more,
    }
    return {"format": kind, **{key: json.dumps(value) for key, value in about.items()}}


def _own_file(path: Path, tensors: Arrays, meta: Mapping[str, str], known: Any) -> Model:
    if known:
        raise ValueError(f"{str(path)!r} says its configuration itself; it is not overridden")
    about = parse_metadata(path, meta, ("config", "preprocess", "labels"))
    config, preprocess = config_from(path, about)
    params = matched(tensors, config, str(path))
    return Model(config, params, preprocess, class_names(path, about, config), str(path))


def parse_metadata(path: Path, meta: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    """Return the JSON values of a file's metadata; ValueError if a key is missing or damaged."""
    try:
        return {key: json.loads(meta[key]) for key in keys}
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r}: its metadata is damaged: {error!r:.200}") from None


def config_from(path: Path, about: Mapping[str, Any]) -> tuple[Config, Preprocess]:
    """Return the configuration and the preprocessing that a file's metadata describe."""
    try:
        ready = {key: tuples(value) for key, value in about["preprocess"].items()}
        return config_of(about["config"]), Preprocess(**ready)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r}: its configuration is damaged: {error}") from None


def class_names(path: Path, about: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """Return the class names in a file's metadata; ValueError if there is not one a class."""
    labels = about["labels"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{str(path)!r}: its labels are not a list of names")
    labels = tuple(labels)
    if len(labels) != config.classes:
        raise ValueError(f"{str(path)!r} names {len(labels)} of {config.classes} classes")
    return labels
