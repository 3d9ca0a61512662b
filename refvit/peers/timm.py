"""config.json of timm: the arguments of a model's constructor, or a name of timm's hub.

What it does not say is read off the tensors, where they say it, and else is timm 1.0's default.
"""

from __future__ import annotations

from typing import Any

from refvit.peers.hugging_face import activation, pair
from refvit.peers.infer import Fields

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
}
POOLS = {"token": "token", "avg": "mean"}


def read_config(about: dict[str, Any], family: str, inferred: Fields, where: str) -> Fields:
    """Return the fields of the configuration: `inferred`, overridden by what `about` says.

    Raises ValueError for an argument with a value that is not supported.
    """
    args = about | about.get("model_args", {})
    for key, allowed in SETTLED.items():
        if args.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{where}: {key} {args[key]!r} is not supported; {allowed[0]!r} is")
    fields = inferred | {
        ours: args[theirs]
        for theirs, ours in (
            ("in_chans", "channels"), ("num_classes", "classes"), ("embed_dim", "width"),
        )
        if theirs in args
    }  # fmt: skip
    name = str(about["architecture"])
    default = "quick_gelu" if "quickgelu" in name else "gelu"
    fields["gelu"] = activation(args.get("act_layer") or default, where)
    if "clip" in name and family == "vit":  # what timm's hub tells by the name alone
        fields["eps"] = 1e-5
    size = about.get("pretrained_cfg", {}).get("input_size")
    image = args.get("img_size", size[1:] if isinstance(size, list) and len(size) == 3 else None)
    if image is not None:
        fields["image"] = pair(image)
    if "patch_size" in args:
        fields["patch"] = pair(args["patch_size"])
    return fields | (_swin(args, fields, where) if family == "swin" else _vit(args, fields, where))


def sayings(about: dict[str, Any]) -> set[str]:
    """Return the fields a config.json settles, of those otherwise taken from habit."""
    args = about | about.get("model_args", {})
    size = about.get("pretrained_cfg", {}).get("input_size")
    settled = {
        "eps": True,
        "heads": "num_heads" in args or "embed_dim" in args,
        "image": "img_size" in args or size is not None,
    }
    return {field for field, yes in settled.items() if yes}


def _vit(args: dict[str, Any], inferred: Fields, where: str) -> Fields:
    covered = inferred.pop("covered", None)
    pool = args.get("global_pool", "token")
    if pool not in POOLS:
        raise ValueError(f"{where}: global_pool {pool!r} is not supported; 'token' and 'avg' are")
    fields: Fields = {"pool": POOLS[pool]}
    for theirs, ours in (
        ("depth", "depth"),
        ("num_heads", "heads"),
        ("class_token", "class_token"),
    ):
        if theirs in args:
            fields[ours] = args[theirs]
    if "num_heads" not in args and ("embed_dim" in args or "heads" not in inferred):
        fields["heads"] = 12
    if "mlp_ratio" in args:
        fields["hidden"] = int(inferred["width"] * args["mlp_ratio"])
    for theirs, ours in (("layer_norm_eps", "eps"), ("norm_eps", "eps")):
        if theirs in args:
            fields[ours] = float(args[theirs])
    if "image" in inferred and covered is not None:  # DeiT-III's names do not say it
        down, across = (i // p for i, p in zip(inferred["image"], inferred["patch"], strict=True))
        fields["embed_prefix"] = covered != down * across
    return fields


def _swin(args: dict[str, Any], inferred: Fields, where: str) -> Fields:
    if args.get("global_pool", "avg") != "avg":
        raise ValueError(f"{where}: global_pool {args['global_pool']!r} is not supported; 'avg' is")
    fields: Fields = {"clamp": not args.get("always_partition", False)}
    for theirs, ours in (("depths", "depths"), ("num_heads", "heads")):
        if theirs in args:
            fields[ours] = tuple(args[theirs])
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
