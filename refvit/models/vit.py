"""ViT and DeiT: patches, prefix tokens, encoder blocks, head.

Dosovitskiy et al. 2021, equations 1 to 4; the distillation token of Touvron et al. 2021, section
4; pooling over patches, LayerScale, q/k norm and register tokens as newer releases have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from refvit.models.blocks import embed_patches, encoder_block
from refvit.models.shapes import (
    Shapes,
    block_shapes,
    check_form,
    check_sizes,
    linear_shapes,
    norm_shapes,
)
from refvit.ops.protocol import Ops
from refvit.params import Params

T = TypeVar("T")
POOLS = ("token", "mean")
DISTILLATIONS = ("none", "token", "heads")


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a ViT; `hidden` is the MLP's width, `image` and `patch` are (height, width).

    An image that is not a whole number of patches loses its remainder at the right and bottom.
    `classes` 0 means features. `pool` is "token" (the first) or "mean" (of the patches);
    `fc_norm` puts the last norm behind the pooling. `distillation` is "token" for a second token
    that only takes part, "heads" for one with a head of its own, averaged with the first.
    `registers` counts further tokens; `embed_prefix` says that positions cover the tokens before
    the patches; `pre_norm` is a norm before the blocks, where the patch embedding has no bias.
    `head` is the width of an attention head, None for width / heads.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int] = (16, 16)
    channels: int = 3
    classes: int = 1000
    eps: float = 1e-6
    qkv_bias: bool = True
    pool: str = "token"
    fc_norm: bool = False
    class_token: bool = True
    distillation: str = "none"
    registers: int = 0
    embed_prefix: bool = True
    pre_norm: bool = False
    head: int | None = None
    gelu: str = "erf"
    layer_scale: bool = False
    qk_norm: bool = False
    proj_bias: bool = True

    def __post_init__(self) -> None:
        names = ("width", "depth", "heads", "hidden", "image", "patch", "channels", "head_width")
        check_sizes("ViT", {n: getattr(self, n) for n in names[:-1]}, self)
        if self.head is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        check_sizes("ViT", {"head_width": self.head_width}, self)
        check_form(self.eps, self.gelu, self.classes)
        if len(self.image) != 2 or len(self.patch) != 2 or 0 in self.grid:
            raise ValueError(f"image {self.image} is not one patch of {self.patch} large")
        if self.pool not in POOLS or self.distillation not in DISTILLATIONS:
            raise ValueError(
                f"pool is one of {', '.join(POOLS)} and distillation one of "
                f"{', '.join(DISTILLATIONS)}; got {self.pool!r} and {self.distillation!r}"
            )
        if self.pool == "token" and not self.class_token:
            raise ValueError("pool 'token' needs the class token; without one, pool is 'mean'")
        if self.distillation == "heads" and self.pool == "mean":
            raise ValueError("two heads read two tokens; pool is 'token' with distillation 'heads'")

    @property
    def head_width(self) -> int:
        return self.head or self.width // self.heads

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def prefix(self) -> tuple[str, ...]:
        """The learned tokens before the patches, in order."""
        names = {
            "cls_token": self.class_token,
            "dist_token": self.distillation != "none",
            "reg_token": self.registers > 0,
        }
        return tuple(name for name, there in names.items() if there)

    @property
    def prefix_tokens(self) -> int:
        return self.class_token + (self.distillation != "none") + self.registers

    @property
    def tokens(self) -> int:
        """Patches plus the tokens before them."""
        return self.grid[0] * self.grid[1] + self.prefix_tokens

    @property
    def features(self) -> int:
        """The width of what the head reads."""
        return self.width


def vit(ops: Ops[T], images: Any, p: Params, cfg: ViTConfig) -> Any:  # [B, C, H, W] -> [B, classes]
    x = embed(ops, ops.input(images, site="input"), p, cfg)
    for i in range(cfg.depth):
        x = encoder_block(ops, x, p.blocks[i], cfg)
    if not cfg.fc_norm:
        x = ops.layer_norm(x, p.norm, eps=cfg.eps)
    if cfg.distillation == "heads":
        return ops.output(two_heads(ops, x, p, cfg), site="logits")
    x = pool(ops, x, cfg)
    if cfg.fc_norm:
        x = ops.layer_norm(x, p.fc_norm, eps=cfg.eps)
    return ops.output(ops.linear(x, p.head) if cfg.classes else x, site="logits")


def embed(ops: Ops[T], images: T, p: Params, cfg: ViTConfig) -> T:  # [B, C, H, W] -> [B, N, D]
    x = embed_patches(ops, images, p.patch_embed, cfg.patch, cfg.grid)
    positions, prefix = ops.param(p, "pos_embed"), [ops.param(p, name) for name in cfg.prefix]
    if not cfg.embed_prefix:
        x = ops.add(x, positions, site="embed")
    if prefix:
        x = ops.concat([*prefix, x], axis=1, site="tokens")
    if cfg.embed_prefix:
        x = ops.add(x, positions, site="embed")
    return ops.layer_norm(x, p.norm_pre, eps=cfg.eps) if cfg.pre_norm else x


def pool(ops: Ops[T], x: T, cfg: ViTConfig) -> T:  # [B, N, D] -> [B, D]
    if cfg.pool == "token":
        return ops.select(x, 0, axis=1)
    patches = ops.select(x, slice(cfg.prefix_tokens, cfg.tokens), axis=1)
    return ops.mean(patches, axis=1, site="fc_pool" if cfg.fc_norm else "pool")


def two_heads(ops: Ops[T], x: T, p: Params, cfg: ViTConfig) -> T:  # [B, N, D] -> [B, classes]
    """The class token and the distillation token each have a head; the logits are their mean."""
    both = [ops.select(x, k, axis=1) for k in (0, 1)]
    if cfg.classes:
        both = [ops.linear(t, head) for t, head in zip(both, (p.head, p.head_dist), strict=True)]
    both = [ops.rearrange(t, "(b k) c -> b k c", k=1) for t in both]
    return ops.mean(ops.concat(both, axis=1, site="heads"), axis=1, site="heads_mean")


def vit_shapes(cfg: ViTConfig) -> Shapes:
    """Return the name and shape of every parameter of a ViT, in the order of its forward."""
    patch = cfg.channels * cfg.patch[0] * cfg.patch[1]
    shapes = linear_shapes("patch_embed", patch, cfg.width, bias=not cfg.pre_norm)
    for name in cfg.prefix:
        shapes[name] = (1, cfg.registers if name == "reg_token" else 1, cfg.width)
    covered = cfg.tokens if cfg.embed_prefix else cfg.grid[0] * cfg.grid[1]
    shapes["pos_embed"] = (1, covered, cfg.width)
    shapes |= norm_shapes("norm_pre", cfg.width) if cfg.pre_norm else {}
    for i in range(cfg.depth):
        shapes |= block_shapes(
            f"blocks.{i}", cfg.width, cfg.heads * cfg.head_width, cfg.hidden, cfg.qkv_bias,
            proj_bias=cfg.proj_bias, layer_scale=cfg.layer_scale,
            qk_norm=cfg.head_width if cfg.qk_norm else 0,
        )  # fmt: skip
    shapes |= norm_shapes("fc_norm" if cfg.fc_norm else "norm", cfg.width)
    for name in ("head", "head_dist") if cfg.distillation == "heads" else ("head",):
        shapes |= linear_shapes(name, cfg.width, cfg.classes) if cfg.classes else {}
    return shapes
