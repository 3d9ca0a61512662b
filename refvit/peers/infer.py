"""Sizes read off the names and shapes of a checkpoint's tensors: what a lone file still says.

Everything but the number of a ViT's heads, eps, and the image size of a Swin without positions is
in the shapes. What is taken from habit instead is said in a note.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from refvit.peers.names import Named

Fields = dict[str, Any]
Habits = dict[str, str]
# The widths of published ViTs, and their heads: 64 channels each but for ViT-H's 80.
PUBLISHED_HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16}
EPS = {"hf": 1e-12, "timm": 1e-6, "official": 1e-6}


def infer(found: Named, where: str) -> tuple[str, Fields, Habits]:
    """Return the family, the fields of its configuration, and notes, by field, of what was taken
    from habit.

    A field that cannot be told is absent. Raises ValueError if there is no model in these shapes.
    """
    swin = any(name.startswith("stages.") for name in found.tensors)
    try:
        fields, habits = (_swin if swin else _vit)(found)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{where}: its sizes cannot be read off its tensors: {error}") from None
    return ("swin" if swin else "vit"), fields, habits


def _shape(found: Named, name: str, ndim: int) -> tuple[int, ...]:
    if name not in found.tensors:
        raise ValueError(f"there is no {name}")
    shape = found.tensors[name].shape
    if len(shape) != ndim or 0 in shape:
        wanted = f"{ndim} axes, none of them empty"
        raise ValueError(f"{found.origin[name]} has shape {list(shape)}, wanted {wanted}")
    return shape


def _count(found: Named, pattern: str) -> int:
    """How many numbers from 0 on stand in that place of a name; ValueError if one is left out."""
    places = (re.match(pattern, name) for name in found.tensors)
    numbers = {place[1] for place in places if place}
    absent = next((k for k in range(len(numbers)) if str(k) not in numbers), None)
    if absent is not None:
        raise ValueError(f"there are layers up to {max(numbers, key=len):.20} but none is {absent}")
    return len(numbers)


def _stem(found: Named) -> Fields:
    width, channels, down, across = _shape(found, "patch_embed.weight", 4)
    classes = _shape(found, "head.weight", 2)[0] if "head.weight" in found.tensors else 0
    first = "blocks.0" if "blocks.0.norm1.weight" in found.tensors else "stages.0.blocks.0"
    return {
        "width": width,
        "channels": channels,
        "patch": (down, across),
        "classes": classes,
        "qkv_bias": f"{first}.attn.q.bias" in found.tensors,
    }


def _vit(found: Named) -> tuple[Fields, Habits]:
    there: Callable[[str], bool] = found.tensors.__contains__
    fields = _stem(found) | {
        "depth": _count(found, r"blocks\.(\d+)\."),
        "hidden": _shape(found, "blocks.0.mlp.fc1.weight", 2)[0],
        "fc_norm": there("fc_norm.weight"),
        "class_token": there("cls_token"),
        "pre_norm": there("norm_pre.weight"),
        "layer_scale": there("blocks.0.attn.proj.gain"),
        "qk_norm": there("blocks.0.attn.q_norm.weight"),
        "proj_bias": there("blocks.0.attn.proj.bias"),
        "registers": _shape(found, "reg_token", 3)[1] if there("reg_token") else 0,
        "eps": EPS[found.naming],
    }
    fields["pool"] = "mean" if fields["fc_norm"] or not fields["class_token"] else "token"
    bare = "heads" if found.naming == "timm" else "token"  # of a model without a head
    dist = "heads" if there("head_dist.weight") else "token" if fields["classes"] else bare
    fields["distillation"] = dist if there("dist_token") else "none"
    habits = {"eps": f"eps {fields['eps']:g}, as {found.naming} has it by default"}
    return fields, habits | _heads(found, fields) | _image(found, fields)


def _heads(found: Named, fields: Fields) -> Habits:
    """q/k norms are as wide as a head; without them published widths tell."""
    inner = _shape(found, "blocks.0.attn.q.weight", 2)[0]
    if fields["qk_norm"]:
        head = _shape(found, "blocks.0.attn.q_norm.weight", 1)[0]
        fields["heads"] = inner // head
        fields["head"] = None if head * fields["heads"] == fields["width"] else head
        return {}
    if fields["width"] not in PUBLISHED_HEADS or inner != fields["width"]:
        return {}
    heads = fields["heads"] = PUBLISHED_HEADS[fields["width"]]
    return {"heads": f"{heads} heads, as every published ViT of width {fields['width']} has"}


def _image(found: Named, fields: Fields) -> Habits:
    """Positions cover a square of patches, and the tokens before them or not."""
    covered = _shape(found, "pos_embed", 3)[1]
    prefix = fields["class_token"] + (fields["distillation"] != "none") + fields["registers"]
    for count, embed in ((covered - prefix, True), (covered, False)):
        side = math.isqrt(max(0, count))
        if side > 0 and side * side == count:
            fields["image"] = (side * fields["patch"][0], side * fields["patch"][1])
            fields["embed_prefix"] = embed
            bare = "" if embed else ", and the tokens before them without positions"
            return {"image": f"image {fields['image']}, its {count} patches a square{bare}"}
    return {}


def _swin(found: Named) -> tuple[Fields, Habits]:
    fields = _stem(found)
    count = _count(found, r"stages\.(\d+)\.blocks\.")
    depths = tuple(_count(found, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(count))
    tables = [_shape(found, f"stages.{i}.blocks.0.attn.bias_table", 2) for i in range(count)]
    hidden = tuple(_shape(found, f"stages.{i}.blocks.0.mlp.fc1.weight", 2)[0] for i in range(count))
    fields |= {
        "depths": depths,
        "heads": tuple(heads for _, heads in tables),
        "hidden": hidden,
        "rule": "hf" if found.naming == "hf" else "timm",
        "positions": "pos_embed" in found.tensors,
    }
    sides = [(math.isqrt(rows) + 1) // 2 for rows, _ in tables]
    if any((2 * side - 1) ** 2 != rows for side, (rows, _) in zip(sides, tables, strict=True)):
        return fields, {}  # a window that is not square: the settings must say
    fields["windows"] = tuple((side, side) for side in sides)
    side, reason = _swin_side(found, sides)
    fields["image"] = (side * fields["patch"][0], side * fields["patch"][1])
    return fields, {"image": f"image {fields['image']}, {reason}"}


def _swin_side(found: Named, sides: list[int]) -> tuple[int, str]:
    """The grid of the first stage: from positions, from a mask, or one window in the last stage."""
    if "pos_embed" in found.tensors:
        return math.isqrt(_shape(found, "pos_embed", 3)[1]), "from its absolute positions"
    for name, mask in found.buffers.items():
        stage = re.match(r"layers\.(\d+)\..*attn_mask$", name)
        if stage and mask.ndim == 3:
            i = int(stage[1])
            return math.isqrt(len(mask)) * sides[i] * 2**i, "from its attention mask"
    return sides[-1] * 2 ** (len(sides) - 1), "so that the last stage is one window"
