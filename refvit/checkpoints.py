"""Models on disk: refvit's own files, and the names and settings of Hugging Face and timm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.files import Arrays, read_tensors, write_tensors
from refvit.images import FILTERS, Preprocess
from refvit.model import Model, check_params
from refvit.models import ViTConfig


def shipped() -> list[str]:
    """Return the names of the models that travel with refvit."""
    return sorted(path.stem for path in weights_folder().glob("*.safetensors"))


def weights_folder() -> Path:
    """Return `weights/`: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "weights"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "weights"


def find_model(where: str | Path) -> Path:
    """Return the path of a shipped name, a directory or a file; FileNotFoundError if none."""
    if str(where) in shipped():
        return weights_folder() / f"{where}.safetensors"
    if not Path(where).exists():
        names = ", ".join(shipped()) or "none"
        raise FileNotFoundError(f"no model {str(where)!r}: not a path; shipped models are {names}")
    return Path(where)


def file_format(path: Path) -> str:
    """Return what a safetensors file says it is: its `format` metadata, or ""."""
    return read_tensors(path, only=())[1].get("format", "")


def load_model(path: Path) -> Model:
    """Return the float model at `path`: a directory of Hugging Face or timm, or a refvit file.

    Raises FileNotFoundError or ValueError in one line that says what is wrong.
    """
    return _load_directory(path) if path.is_dir() else _load_file(path)


def save_model(path: Path, model: Model, card: dict[str, Any]) -> None:
    """Write `model` as one safetensors file whose metadata says all that `load` needs."""
    about = {
        "config": asdict(model.config),
        "preprocess": asdict(model.preprocess),
        "labels": model.labels,
        "card": card,
    }
    metadata = {
        "format": "refvit-float",
        **{key: json.dumps(value) for key, value in about.items()},
    }
    write_tensors(path, dict(model.params.items()), metadata)


def _load_file(path: Path) -> Model:
    tensors, meta = read_tensors(path)
    if meta.get("format") != "refvit-float":
        raise ValueError(
            f"{str(path)!r} carries no configuration of refvit; name its directory with config.json"
        )
    about = parse_metadata(path, meta, ("config", "preprocess", "labels"))
    config, preprocess = config_from(path, about)
    params = check_params(tensors, config, str(path))
    return Model(config, params, preprocess, tuple(about["labels"]), str(path))


def parse_metadata(path: Path, meta: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    """Return the JSON values of a file's metadata; ValueError if a key is missing or damaged."""
    try:
        return {key: json.loads(meta[key]) for key in keys}
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r}: its metadata is damaged: {error!r}") from None


def config_from(path: Path, about: Mapping[str, Any]) -> tuple[ViTConfig, Preprocess]:
    """Return the configuration and the preprocessing that a file's metadata describe."""
    try:
        return ViTConfig(**tuples(about["config"])), Preprocess(**tuples(about["preprocess"]))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r}: its configuration is damaged: {error}") from None


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where the dataclasses have tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}


def _load_directory(path: Path) -> Model:
    about = _json(path / "config.json")
    tensors, _ = read_tensors(path / "model.safetensors")
    if "model_type" in about:
        return _from_hf(path, about, tensors)
    if "architecture" in about:
        return _from_timm(path, about, tensors)
    raise ValueError(
        f"{str(path / 'config.json')!r} has neither model_type (Hugging Face) nor "
        "architecture (timm)"
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{str(path)!r} holds a {type(about).__name__}, wanted an object")
    return about


# Hugging Face names, old (the hub's) and new (transformers 5), to refvit's. Order matters: a
# longer name stands before one that it contains.
HF_NAMES = (
    (r"^vit\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)


def _from_hf(path: Path, about: dict[str, Any], tensors: Arrays) -> Model:
    if about["model_type"] != "vit":
        raise ValueError(f"{path}: model_type {about['model_type']!r} is not supported; 'vit' is")
    if about.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{path}: hidden_act {about['hidden_act']!r} is not supported; 'gelu' is")
    labels = {int(k): str(v) for k, v in about.get("id2label", {}).items()}
    config = ViTConfig(
        width=about.get("hidden_size", 768),
        depth=about.get("num_hidden_layers", 12),
        heads=about.get("num_attention_heads", 12),
        hidden=about.get("intermediate_size", 3072),
        image=_pair(about.get("image_size", 224)),
        patch=_pair(about.get("patch_size", 16)),
        channels=about.get("num_channels", 3),
        classes=len(labels) or about.get("num_labels", 2),
        eps=about.get("layer_norm_eps", 1e-12),
        qkv_bias=about.get("qkv_bias", True),
    )
    named = {_rename(name): tensor for name, tensor in tensors.items()}
    params = check_params(_flatten_patches(named), config, str(path))
    names = tuple(labels.get(k, f"class {k}") for k in range(config.classes))
    return Model(config, params, _hf_preprocess(path, config.image), names, str(path))


def _hf_preprocess(path: Path, image: tuple[int, int]) -> Preprocess:
    """Read preprocessor_config.json; without one, ViT's defaults: squashed, bilinear, 0.5."""
    if not (path / "preprocessor_config.json").is_file():
        return Preprocess(image)
    about = _json(path / "preprocessor_config.json")
    if about.get("do_center_crop"):
        raise ValueError(
            f"{path}: preprocessor_config.json asks for a centre crop, which is not supported"
        )
    names = {code: name for name, code in FILTERS.items()}
    return Preprocess(
        image,
        tuple(about.get("image_mean", (0.5, 0.5, 0.5))),
        tuple(about.get("image_std", (0.5, 0.5, 0.5))),
        names[about.get("resample", 2)],
    )


def _rename(name: str) -> str:
    for pattern, name_of_refvit in HF_NAMES:
        name = re.sub(pattern, name_of_refvit, name)
    return name


def _from_timm(path: Path, about: dict[str, Any], tensors: Arrays) -> Model:
    if "vit" not in about["architecture"] and "deit" not in about["architecture"]:
        raise ValueError(f"{path}: architecture {about['architecture']!r} is not supported; vit is")
    width = about.get("embed_dim", 768)
    config = ViTConfig(
        width=width,
        depth=about.get("depth", 12),
        heads=about.get("num_heads", 12),
        hidden=int(width * about.get("mlp_ratio", 4.0)),
        image=_pair(about.get("img_size", 224)),
        patch=_pair(about.get("patch_size", 16)),
        channels=about.get("in_chans", 3),
        classes=about.get("num_classes", 1000),
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
    )
    named = {part: t for name, tensor in tensors.items() for part, t in _split_qkv(name, tensor)}
    named = {re.sub(r"^patch_embed\.proj\.", "patch_embed.", name): t for name, t in named.items()}
    params = check_params(_flatten_patches(named), config, str(path))
    names = tuple(f"class {k}" for k in range(config.classes))
    preprocess = Preprocess(config.image, resample="bicubic", crop=0.9)
    return Model(config, params, preprocess, names, str(path))


def _split_qkv(name: str, tensor: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """timm stacks the rows of q, k and v in one tensor, in this order."""
    if ".attn.qkv." not in name or len(tensor) % 3:
        return [(name, tensor)]
    parts = np.split(tensor, 3)
    return [(name.replace(".qkv.", f".{k}."), part) for k, part in zip("qkv", parts, strict=True)]


def _flatten_patches(tensors: Arrays) -> Arrays:
    """The patch convolution [D, C, i, j] is a linear over flattened patches [D, (C i j)]."""
    weight = tensors.get("patch_embed.weight")
    if weight is not None and weight.ndim == 4:
        tensors["patch_embed.weight"] = weight.reshape(len(weight), -1)
    return tensors


def _pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
