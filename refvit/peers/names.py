"""Tensor names of the peers, and refvit's: one table for each naming."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.files import Arrays

Table = tuple[tuple[str, str], ...]

# Hugging Face, old names (the hub's) and new ones (transformers 5). Order matters: each pattern
# sees what the ones before have made of a name.
HF_NAMES: Table = (
    (r"^(?:vit|deit|swin)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.norm\.", "patch_norm."),
    (r"^(?:encoder\.)?layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"^(?:encoder\.)?layers\.(\d+)\.downsample\.", r"stages.\1.merge_after."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.(?:attention\.|self\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (
        r"\.attention\.(?:self|relative_position_bias)\.relative_position_bias_table$",
        ".attn.bias_table",
    ),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^(?:cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
# timm, and the official releases, which timm's names come from.
TIMM_NAMES: Table = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^patch_embed\.norm\.", "patch_norm."),
    (r"^absolute_pos_embed$", "pos_embed"),
    (r"^layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"^layers\.(\d+)\.downsample\.", r"stages.\1.merge."),
    (r"\.relative_position_bias_table$", ".bias_table"),
    (r"\.(?:ls1\.gamma|gamma_1)$", ".attn.proj.gain"),
    (r"\.(?:ls2\.gamma|gamma_2)$", ".mlp.fc2.gain"),
    (r"^head\.fc\.", "head."),
)
BUFFERS = re.compile(r"(?:^|\.)(?:relative_position_index|attn_mask|position_ids)$")
UNREAD = re.compile(r"^(?:(?:vit|deit|swin)\.)?(?:pooler\.dense\.|embeddings\.mask_token$)")


@dataclass
class Named:
    """Tensors under refvit's names; `origin` has the peers' names of those.

    `naming` is "hf", "timm" or "official". `buffers` and `unread` are what was left: computed
    anew, and not part of a classifier.
    """

    naming: str
    tensors: Arrays = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    buffers: Arrays = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, name: str, tensor: NDArray[Any], origin: str) -> None:
        self.tensors[name] = tensor
        self.origin[name] = origin


def named(tensors: Arrays, where: str) -> Named:
    """Return the tensors of a peer's checkpoint under refvit's names, q, k and v apart.

    Raises ValueError if the names are those of no peer, or two names mean one tensor.
    """
    found = Named(naming_of(tensors, where))
    table = HF_NAMES if found.naming == "hf" else TIMM_NAMES
    for origin, tensor in tensors.items():
        if BUFFERS.search(origin):
            found.buffers[origin] = tensor
        elif UNREAD.search(origin):
            found.unread.append(origin)
        else:
            for name, part in split_qkv(renamed(origin, table, found.naming), tensor):
                if name in found.tensors:
                    both = f"{found.origin[name]} and {origin}"
                    raise ValueError(f"{where}: {both} are two names of one tensor")
                found.add(name, part, origin)
    return found


def naming_of(tensors: Arrays, where: str) -> str:
    """Return whose names these are."""
    if any("patch_embeddings.projection" in name for name in tensors):
        return "hf"
    if "patch_embed.proj.weight" not in tensors:
        some = ", ".join(sorted(tensors)[:3])
        raise ValueError(
            f"{where}: no patch embedding by the name of Hugging Face "
            f"(embeddings.patch_embeddings.projection.weight) or timm (patch_embed.proj.weight) "
            f"among its {len(tensors)} tensors: {some}, ..."
        )
    ends = "layers.0.downsample.reduction.weight" in tensors
    whole = "head.weight" in tensors and "layers.0.blocks.0.norm1.weight" in tensors
    return "official" if ends or whole else "timm"


def renamed(name: str, table: Table, naming: str) -> str:
    """Return refvit's name of a peer's tensor; one that no pattern knows stays."""
    for pattern, ours in table:
        name = re.sub(pattern, ours, name)
    return re.sub(r"^stages\.(\d+)\.merge(_after)?\.", lambda m: _merge(m, naming), name)


def _merge(found: re.Match[str], naming: str) -> str:
    """Merging stands at the end of a stage (Hugging Face, official) or the start of the next."""
    stage = int(found[1]) + (1 if found[2] or naming == "official" else 0)
    return f"stages.{stage}.merge."


def split_qkv(name: str, tensor: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """timm stacks the rows of q, k and v in one tensor, in this order."""
    if ".attn.qkv." not in name or tensor.ndim == 0 or len(tensor) % 3:
        return [(name, tensor)]
    parts = np.split(tensor, 3)
    return [(name.replace(".qkv.", f".{k}."), part) for k, part in zip("qkv", parts, strict=True)]
