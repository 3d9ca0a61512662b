"""config.json of Hugging Face: every field that changes a number, with the defaults of its class.

Defaults: ViTConfig, DeiTConfig and SwinConfig of transformers 5.
"""

from __future__ import annotations

from typing import Any

from refvit.peers.fields import flag, pair, real, whole, wholes
from refvit.peers.infer import Fields
from refvit.peers.names import Named

# The exact form; and the tanh form, whose names differ in nothing that a float32 can see.
ACTIVATIONS = {"gelu": "erf", "gelu_python": "erf"} | dict.fromkeys(
    (
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_tanh",
        "gelu_fast",
        "gelu_python_tanh",
        "gelu_accurate",
    ),
    "tanh",
)
MODEL_TYPES = ("vit", "deit", "swin")


def read_config(about: dict[str, Any], found: Named) -> tuple[str, Fields, dict[int, str]]:
    """Return the family, the fields of its configuration, and the class names it gives, of a
    `model_type` that is one of `MODEL_TYPES`.

    Raises ValueError for an unknown activation, or labels that are none; the caller says where.
    """
    kind, labels = about["model_type"], _labels(about)
    fields: Fields = {
        "image": pair(about.get("image_size", 224), "image_size"),
        "patch": pair(about.get("patch_size", 4 if kind == "swin" else 16), "patch_size"),
        "channels": whole(about, "num_channels", 3),
        "classes": _classes(about, labels, found),
        "qkv_bias": flag(about, "qkv_bias", True),
        "gelu": activation(about.get("hidden_act", "gelu")),
    }
    fields |= _swin(about) if kind == "swin" else _vit(about, found, kind)
    return ("swin" if kind == "swin" else "vit"), fields, labels


def _vit(about: dict[str, Any], found: Named, kind: str) -> Fields:
    width, heads = whole(about, "hidden_size", 768), whole(about, "num_attention_heads", 12)
    if heads < 1:
        raise ValueError(f"num_attention_heads is at least 1, got {heads}")
    uneven = width // heads if width % heads else None  # its heads are then narrower together
    fields: Fields = {
        "width": width,
        "depth": whole(about, "num_hidden_layers", 12),
        "heads": heads,
        "hidden": whole(about, "intermediate_size", 3072),
        "eps": real(about, "layer_norm_eps", 1e-12),
        "head": whole(about, "head_dim", 0) if about.get("head_dim") is not None else uneven,
    }
    if kind == "deit":  # the token is there in every class, the second head in one
        teacher = "WithTeacher" in _architecture(about) or "head_dist.weight" in found.tensors
        fields["distillation"] = "heads" if teacher else "token"
    return fields


def _swin(about: dict[str, Any]) -> Fields:
    width, depths = whole(about, "embed_dim", 96), wholes(about, "depths", (2, 2, 6, 2))
    window, ratio = whole(about, "window_size", 7), real(about, "mlp_ratio", 4.0)
    return {
        "width": width,
        "depths": depths,
        "heads": wholes(about, "num_heads", (3, 6, 12, 24)),
        "hidden": tuple(int(ratio * width * 2**i) for i in range(len(depths))),
        "windows": (pair(window),) * len(depths),
        "eps": real(about, "layer_norm_eps", 1e-5),
        "positions": flag(about, "use_absolute_embeddings", False),
        "rule": "hf",
    }


def _architecture(about: dict[str, Any]) -> str:
    names = about.get("architectures") or [""]
    return str(names[0]) if isinstance(names, list) and names else ""


def _classes(about: dict[str, Any], labels: dict[int, str], found: Named) -> int:
    """A model saved without its head gives features; otherwise the settings decide, or, where
    they are silent, the head."""
    head = found.tensors.get("head.weight")
    if head is None and "Classification" not in _architecture(about):
        return 0
    if about.get("id2label") is not None:
        return len(labels)
    said = about.get("num_labels")
    if isinstance(said, int):
        return said
    return 2 if head is None else len(head)


def _labels(about: dict[str, Any]) -> dict[int, str]:
    given = about.get("id2label") or {}
    if not isinstance(given, dict) or not all(str(k).isdigit() for k in given):
        raise ValueError(f"id2label maps numbers to names, got {given!r:.60}")
    return {int(k): str(v) for k, v in given.items()}


def activation(name: Any) -> str:
    """Return the form of the GELU that a peer calls `name`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not supported; {', '.join(ACTIVATIONS)} are")
    return ACTIVATIONS[name]
