"""config.json of timm: the arguments of a model's constructor, or a name of timm's hub.

What it does not say is read off the tensors, where they say it, and else is timm 1.0's default.
"""

from __future__ import annotations

import re
from typing import Any

from refvit.peers.fields import flag, pair, real, whole, wholes
from refvit.peers.hugging_face import activation
from refvit.peers.infer import Fields
from refvit.peers.names import Named

# Arguments that change numbers in ways refvit does not model, and the values that do not.
SETTLED: dict[str, tuple[Any, ...]] = {
    "pos_embed": ("learn",),
    "pool_include_prefix": (False,),
    "scale_attn_norm": (False,),
    "scale_mlp_norm": (False,),
    "final_norm": (True,),
    "embed_norm_layer": (None,),
    "norm_layer": (None, "layernorm"),
    "dynamic_img_pad": (False,),
    "head_dim": (None,),
    "block_fn": (None,),
    "mlp_layer": (None,),
    "attn_layer": (None,),
    "embed_layer": (None,),
    "window_ratio": (None,),
}
READ = (
    "in_chans num_classes embed_dim act_layer img_size patch_size global_pool depth num_heads "
    "class_token mlp_ratio layer_norm_eps norm_eps depths window_size always_partition"
).split()
# Read off the tensors, or without meaning once a model is trained.
HARMLESS = (
    "qkv_bias qk_norm init_values no_embed_class reg_tokens pre_norm fc_norm proj_bias distilled "
    "drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate "
    "weight_init fix_init dynamic_img_size strict_img_size"
).split()
# What timm's hub tells by a name alone, where it differs from what the width or the default says
# (timm 1.0.31, vision_transformer.py).
HEADS = (
    (r"so400m|giantopt|gigantic|giant(?!.*(?:dinov2|tipsv2|radio))|vit_base_patch16_gap_224", 16),
    (r"_plus_|so150m_", 14),
    (r"so150m2", 13),
    (r"betwixt", 10),
    (r"little", 5),
    (r"wee|xsmall", 4),
)
TANH = re.compile(
    r"vit_base_patch32_siglip|giantopt.*siglip|vit_large_patch16_siglip(?:_gap)?_512"
    r"|so400m_patch16_siglip"
)
POOLS = {"token": "token", "avg": "mean"}


def read_config(about: dict[str, Any], family: str, inferred: Fields, found: Named) -> Fields:
    """Return the fields of the configuration: `inferred`, overridden by what `about` says.

    Raises ValueError for an argument with a value that is not supported; the caller says where.
    """
    more, args, name = about.get("model_args") or {}, _arguments(about), str(about["architecture"])
    for key, allowed in SETTLED.items():
        if args.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{key} {args[key]!r:.60} is not supported; {allowed[0]!r} is")
    for key in more:
        if key not in (*SETTLED, *READ, *HARMLESS):
            raise ValueError(f"model_args has {key!r}, which refvit does not know")
    fields = inferred | {
        ours: whole(args, theirs, 0)
        for theirs, ours in (
            ("in_chans", "channels"), ("num_classes", "classes"), ("embed_dim", "width"),
        )
        if theirs in args
    }  # fmt: skip
    fields["gelu"] = activation(args.get("act_layer") or _named_activation(name))
    image = _image(about)
    if image is not None:
        fields["image"] = pair(image, "img_size")
    if "patch_size" in args:
        fields["patch"] = pair(args["patch_size"], "patch_size")
    if min(fields["patch"]) < 1:
        raise ValueError(f"patch_size is at least 1, got {fields['patch']}")
    if "clip" in name and family == "vit":
        fields["eps"] = 1e-5
    return fields | (_swin(args, fields) if family == "swin" else _vit(args, fields, name, found))


def _arguments(about: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor: beside the architecture, or apart."""
    return about | (about.get("model_args") or {})


def _image(about: dict[str, Any]) -> Any:
    """The size of images, as an argument or of the pretrained model; None if neither says it."""
    size = (about.get("pretrained_cfg") or {}).get("input_size")
    pretrained = size[1:] if isinstance(size, list) and len(size) == 3 else None
    return _arguments(about).get("img_size", pretrained)


def _named_activation(name: str) -> str:
    if "quickgelu" in name:
        return "quick_gelu"
    return "gelu_tanh" if TANH.search(name) else "gelu"


def sayings(about: dict[str, Any]) -> set[str]:
    """Return the fields a config.json settles, of those otherwise taken from habit."""
    return {"eps", "heads"} | ({"image"} if _image(about) is not None else set())


def _vit(args: dict[str, Any], inferred: Fields, name: str, found: Named) -> Fields:
    pool = args.get("global_pool", "token")
    if pool not in POOLS:
        raise ValueError(f"global_pool {pool!r:.40} is not supported; 'token' and 'avg' are")
    fields: Fields = {"pool": POOLS[pool], "heads": _heads(args, inferred, name)}
    fields |= {"depth": whole(args, "depth", 0)} if "depth" in args else {}
    fields |= {"class_token": flag(args, "class_token", True)} if "class_token" in args else {}
    if "mlp_ratio" in args:
        fields["hidden"] = int(inferred["width"] * real(args, "mlp_ratio", 4.0))
    for key in ("layer_norm_eps", "norm_eps"):
        fields |= {"eps": real(args, key, 1e-6)} if key in args else {}
    if "image" in inferred:  # DeiT-III's names do not say it
        covered = found.tensors["pos_embed"].shape[1]
        down, across = (i // p for i, p in zip(inferred["image"], inferred["patch"], strict=True))
        fields["embed_prefix"] = covered != down * across
    return fields


def _heads(args: dict[str, Any], inferred: Fields, name: str) -> int:
    """Arguments say it, or are timm's default; a name of the hub, or the width, tells."""
    if "num_heads" in args or "embed_dim" in args:
        return whole(args, "num_heads", 12)
    for pattern, count in HEADS:
        if re.search(pattern, name):
            return count
    if "heads" not in inferred:
        raise ValueError(
            f"the number of heads of {name!r} is neither in its settings nor in its shapes; give "
            "it: refvit.load(path, heads=...), or --set heads=..."
        )
    heads: int = inferred["heads"]
    return heads


def _swin(args: dict[str, Any], inferred: Fields) -> Fields:
    if args.get("global_pool", "avg") != "avg":
        raise ValueError(f"global_pool {args['global_pool']!r:.40} is not supported; 'avg' is")
    fields: Fields = {"clamp": not flag(args, "always_partition", False)}
    for theirs, ours in (("depths", "depths"), ("num_heads", "heads")):
        fields |= {ours: wholes(args, theirs, ())} if theirs in args else {}
    stages = len((inferred | fields)["depths"])
    if "mlp_ratio" in args:
        ratio = args["mlp_ratio"]
        ratios = [ratio] * stages if isinstance(ratio, int | float) else ratio
        fields["hidden"] = tuple(int(inferred["width"] * 2**i * r) for i, r in enumerate(ratios))
    if "window_size" in args or "windows" not in inferred:
        fields["windows"] = windows(args.get("window_size", 7), stages)
    return fields


def windows(size: Any, stages: int) -> tuple[tuple[int, int], ...]:
    """Return (height, width) for each stage: of one size for all, or one size a stage.

    >>> windows(7, 2), windows([4, 8], 3), windows([[4, 4], 7], 2)
    (((7, 7), (7, 7)), ((4, 8), (4, 8), (4, 8)), ((4, 4), (7, 7)))
    """
    one = isinstance(size, int) or (len(size) == 2 and not isinstance(size[0], list | tuple))
    return tuple(pair(w) for w in ([size] * stages if one else size))
