"""Checkpoints of the peers: the names, settings and preprocessing of Hugging Face and timm.

Hugging Face's config.json decides every size; both its old names (the hub's) and the new ones
(transformers 5) are read. timm stacks q, k and v, and its settings hold less: what they leave out
is timm's own default.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.files import Arrays, read_tensors
from refvit.images import FILTERS, Preprocess
from refvit.model import Model, check_params
from refvit.models import ViTConfig


def load_directory(path: Path) -> Model:
    """Return the model of a directory with config.json and model.safetensors.

    Raises FileNotFoundError, or ValueError for an architecture or a file that is not understood.
    """
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
    named_labels = about.get("id2label") or {}
    if not isinstance(named_labels, dict) or not all(str(k).isdigit() for k in named_labels):
        raise ValueError(f"{path}: id2label maps numbers to names, got {named_labels!r:.60}")
    labels = {int(k): str(v) for k, v in named_labels.items()}
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
    return Model(
        config, params, _hf_preprocess(path, config.image, config.channels), names, str(path)
    )


def _hf_preprocess(path: Path, image: tuple[int, int], channels: int) -> Preprocess:
    """Read preprocessor_config.json; what it leaves out, or its absence, means ViT's defaults:
    squashed to the model's size, bilinear, mean and deviation 0.5."""
    file = path / "preprocessor_config.json"
    about = _json(file) if file.is_file() else {}
    unit = 255.0  # what a level is divided by: 255 x the rescale factor, folded into mean and std
    if about.get("do_rescale", True):
        unit *= float(about.get("rescale_factor", 1 / 255))
    mean, std = (about.get(key, [0.5] * channels) for key in ("image_mean", "image_std"))
    if not about.get("do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    resize = _hf_size(about.get("size", list(image))) if about.get("do_resize", True) else image
    crop = _hf_size(about.get("crop_size", list(image))) if about.get("do_center_crop") else resize
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"{str(file)!r}: mean and std are for {len(mean)} channels, not {channels}"
        )
    if not isinstance(crop, tuple) or crop != image:
        raise ValueError(f"{str(file)!r} makes images of {crop}, the model reads {image}")
    resample = int(about.get("resample", 2))
    if not 0 <= resample < len(FILTERS):
        raise ValueError(f"{str(file)!r}: no Pillow filter has the code {resample}")
    mean, std = (tuple(float(v) / unit for v in values) for values in (mean, std))
    return Preprocess(image, mean, std, FILTERS[resample], resize)


def _hf_size(size: Any) -> tuple[int, int] | int:
    """A size of Hugging Face: a number or {height, width} to squash to, or {shortest_edge}."""
    if isinstance(size, dict) and "shortest_edge" in size:
        return _pair(size["shortest_edge"])[0]
    if isinstance(size, dict):
        return _pair([size.get("height"), size.get("width")])
    return _pair(size)


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
    return Model(config, params, _timm_preprocess(about, config), names, str(path))


def _timm_preprocess(about: dict[str, Any], config: ViTConfig) -> Preprocess:
    """Read `pretrained_cfg`; what it leaves out means timm's defaults for plain ViTs."""
    cfg = about.get("pretrained_cfg", {})
    mean, std = (tuple(cfg.get(key, (0.5,) * config.channels)) for key in ("mean", "std"))
    short = math.floor(min(config.image) / cfg.get("crop_pct", 0.9))
    resample = cfg.get("interpolation", "bicubic")
    return Preprocess(config.image, mean, std, resample, short, "round")


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


def _pair(size: Any) -> tuple[int, int]:
    """A size in a configuration: one number, or a list of height and width."""
    pair = [size, size] if isinstance(size, int) else size
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(n, int) for n in pair):
        raise ValueError(f"a size is a whole number or a list of two, got {size!r}")
    return pair[0], pair[1]
