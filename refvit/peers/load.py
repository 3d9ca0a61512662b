"""From a checkpoint of a peer to a `Model`: names, sizes, tensors, labels, preprocessing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from refvit.files import PICKLES, Arrays, read_json, read_sharded, read_tensors
from refvit.matching import matched, perhaps
from refvit.model import Model
from refvit.models import FAMILIES, Config
from refvit.peers import hugging_face, preprocess, timm
from refvit.peers.fields import flag
from refvit.peers.infer import Fields, infer
from refvit.peers.names import Named, named

WEIGHTS = "model.safetensors"
PAIRS = ("image", "patch")  # a number means both
KINDS = re.compile("vit|deit|swin")
ARCHITECTURES = re.compile(r"(?:flexi)?(?:vit|deit3?|swin)(?:_(?!.*(?:rope|relpos|rpn)).*)?")


def load_directory(path: Path, known: Mapping[str, Any]) -> Model:
    """Return the model of a directory with model.safetensors, or shards of it, and config.json;
    without that, what `load_lone` makes of the weights.

    `known` are fields of the configuration that override what is found. Raises FileNotFoundError,
    or ValueError for an architecture or a file that is not understood.
    """
    if not (path / "config.json").is_file():
        return load_lone(path, _tensors(path), known)
    about = read_json(path / "config.json")
    if "model_type" not in about and "architecture" not in about:
        raise ValueError(
            f"{str(path / 'config.json')!r} has neither model_type (Hugging Face) nor "
            "architecture (timm)"
        )
    kind = str(about.get("model_type", about.get("architecture")))
    pattern = KINDS if "model_type" in about else ARCHITECTURES
    if not pattern.fullmatch(kind):
        raise ValueError(f"{path}: model_type or architecture {kind!r} is not supported; "
                         f"{', '.join(hugging_face.MODEL_TYPES)} are")  # fmt: skip
    found = named(_tensors(path), str(path))
    try:
        make = _from_hugging_face if "model_type" in about else _from_timm
        return make(path, about, found, known)
    except (TypeError, AttributeError, KeyError, ArithmeticError) as error:
        raise ValueError(  # a list where a number belongs, and the like
            f"{str(path / 'config.json')!r}: a field has another type than it should: {error}"
        ) from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{str(path / 'config.json')!r}: {error}") from None


def _from_timm(path: Path, about: dict[str, Any], found: Named, known: Mapping[str, Any]) -> Model:
    family, inferred, habits = infer(found, str(path))
    fields = timm.read_config(about, family, inferred, found)
    config = configuration(family, fields | dict(known), str(path))
    ready = preprocess.timm(about, found.naming, family, config.image, config.channels)
    names = about.get("label_names") or (about.get("pretrained_cfg") or {}).get("label_names")
    labels = {k: str(name) for k, name in enumerate(names)} if isinstance(names, list) else {}
    said = timm.sayings(about) | set(known)
    notes = [habit for field, habit in habits.items() if field not in said]
    if not about.get("pretrained_cfg"):
        notes.append(f"no pretrained_cfg: images as timm makes them by default, {ready}")
    return make_model(config, found, ready, labels, str(path), tuple(notes))


def load_lone(path: Path, tensors: Arrays, known: Mapping[str, Any]) -> Model:
    """Return the model in a file without settings, its architecture read off names and shapes.

    `Model.notes` say what was inferred. Raises ValueError if the names are of no peer, or if a
    size is not in them and not in `known`.
    """
    found = named(tensors, str(path))
    family, fields, habits = infer(found, str(path))
    fields |= known
    if family == "vit" and "heads" not in fields:
        raise ValueError(
            f"{str(path)!r}: the number of heads is not in the shapes of a ViT of width "
            f"{fields['width']}; give it: refvit.load(path, heads=...), or --set heads=..."
        )
    config = configuration(family, fields, str(path))
    if found.naming == "hf":
        kind = "deit" if "dist_token" in found.tensors else family
        ready = preprocess.hugging_face(path, kind, config.image, config.channels)
    else:
        ready = preprocess.timm({}, found.naming, family, config.image, config.channels)
    said = f"inferred from names ({found.naming}) and shapes: {config}"
    notes = [habit for field, habit in habits.items() if field not in known]
    guessed = family == "swin" and not fields["positions"] and "image" not in known
    return make_model(
        config, found, ready, {}, str(path), (said, *notes, f"images {ready}"), guessed
    )


def _tensors(path: Path) -> Arrays:
    """Read the weights of a directory: one file, or the shards of an index."""
    index = path / f"{WEIGHTS}.index.json"
    if (path / WEIGHTS).is_file():
        return read_tensors(path / WEIGHTS)[0]
    if index.is_file():
        return read_sharded(index)
    others = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", *PICKLES))
    there = f"; there is {', '.join(others[:3])}" if others else ""
    mend = "; name the file itself" if others and others[0].endswith(".safetensors") else ""
    if others and not mend:
        mend = ", which refvit does not read; save it again as safetensors"
    raise FileNotFoundError(f"no {WEIGHTS} and no {index.name} in {str(path)!r}{there}{mend}")


def _from_hugging_face(
    path: Path, about: dict[str, Any], found: Named, known: Mapping[str, Any]
) -> Model:
    family, fields, labels = hugging_face.read_config(about, found)
    config = configuration(family, fields | dict(known), str(path))
    ready = preprocess.hugging_face(path, about["model_type"], config.image, config.channels)
    # Hugging Face's Swin looks at the size only where it has absolute positions.
    free = family == "swin" and not fields["positions"]
    any_size = free or flag(about, "interpolate_pos_encoding", False)
    notes = () if (path / preprocess.FILE).is_file() else (f"no {preprocess.FILE}: images {ready}",)
    return make_model(config, found, ready, labels, str(path), notes, any_size)


def configuration(family: str, fields: Fields, where: str) -> Config:
    """Return the configuration of these fields; ValueError that names the checkpoint, and for a
    field that such models do not have the nearest that they have."""
    kind = FAMILIES[family][0]
    names = [field.name for field in fields_of(kind)]
    for name in fields:
        if name not in names:
            near, has = perhaps(name, names), ", ".join(names)
            raise ValueError(f"{where}: a {family} has no {name!r}{near}; it has {has}")
    pairs = {key: (n, n) for key, n in fields.items() if key in PAIRS and isinstance(n, int)}
    try:
        config: Config = kind(**(fields | pairs))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    return config


def make_model(
    config: Config,
    found: Named,
    ready: Any,
    labels: Mapping[int, str],
    where: str,
    notes: tuple[str, ...],
    any_size: bool = False,
) -> Model:
    """Put a model together; its tensors are checked one by one, and named as in the file."""
    weight = found.tensors.get("patch_embed.weight")
    tensors = dict(found.tensors)
    if weight is not None:
        tensors["patch_embed.weight"] = flat_patches(weight, config, where)
    params = matched(tensors, config, where, found.origin)
    names = tuple(labels.get(k, f"class {k}") for k in range(config.classes))
    if found.unread:
        notes = (*notes, f"not part of a classifier, left unread: {', '.join(found.unread)}")
    if not config.classes:
        notes = (*notes, f"no classifier: the {config.features} features it would read come out")
    return Model(config, params, ready, names, where, notes, any_size)


def flat_patches(weight: Any, config: Config, where: str) -> Any:
    """The patch convolution [D, C, i, j] is a linear over flattened patches [D, (C i j)]."""
    wanted = (config.width, config.channels, *config.patch)
    if weight.shape != wanted:
        raise ValueError(
            f"{where}: the patch embedding has shape {list(weight.shape)}, wanted {list(wanted)} "
            "(width, channels, patch height, patch width): see patch_size, num_channels"
        )
    return weight.reshape(len(weight), -1)
