"""ViT: patches, class token, encoder blocks, head (Dosovitskiy et al. 2021, equations 1 to 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from refvit.models.blocks import encoder_block
from refvit.ops.protocol import Ops
from refvit.params import Params

T = TypeVar("T")
MAX_SIZE = 1 << 20  # of a configuration that is meant, not damaged


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a ViT; `hidden` is the MLP's width, `image` and `patch` are (height, width)."""

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

    def __post_init__(self) -> None:
        whole = (
            self.width,
            self.depth,
            self.heads,
            self.hidden,
            self.channels,
            self.classes,
            *self.image,
            *self.patch,
        )
        if not all(isinstance(size, int) for size in whole) or len(whole) != 10:
            raise ValueError(f"the sizes of a ViT are whole numbers; got {self}")
        if not (isinstance(self.eps, float) and 0 <= self.eps < 1e6):
            raise ValueError(f"eps is a float of at least 0, got {self.eps!r}")
        if max(whole) > MAX_SIZE:
            raise ValueError(f"no size of a ViT is above {MAX_SIZE:,}; got {self}")
        if min(self.width, self.depth, self.heads, self.hidden, self.classes, self.channels) < 1:
            raise ValueError(f"every size of a ViT is at least 1; got {self}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if any(s < 1 or p < 1 or s % p for s, p in zip(self.image, self.patch, strict=True)):
            raise ValueError(f"image {self.image} is not a whole number of {self.patch} patches")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def tokens(self) -> int:
        """Patches plus the class token."""
        return self.grid[0] * self.grid[1] + 1


def vit(ops: Ops[T], images: Any, p: Params, cfg: ViTConfig) -> Any:  # [B, C, H, W] -> [B, classes]
    x = embed(ops, ops.input(images, site="input"), p, cfg)
    for i in range(cfg.depth):
        x = encoder_block(ops, x, p.blocks[i], cfg)
    x = ops.select(ops.layer_norm(x, p.norm, eps=cfg.eps), 0, axis=1)  # [B, D]: the class token
    return ops.output(ops.linear(x, p.head), site="logits")


def embed(ops: Ops[T], images: T, p: Params, cfg: ViTConfig) -> T:  # [B, C, H, W] -> [B, N, D]
    i, j = cfg.patch
    patches = ops.rearrange(images, "b c (y i) (x j) -> b (y x) (c i j)", i=i, j=j)
    x = ops.linear(patches, p.patch_embed)
    x = ops.concat([ops.param(p, "cls_token"), x], axis=1, site="tokens")
    return ops.add(x, ops.param(p, "pos_embed"), site="embed")


def vit_shapes(cfg: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of a ViT, in the order of its forward."""
    patch = cfg.channels * cfg.patch[0] * cfg.patch[1]
    shapes: dict[str, tuple[int, ...]] = {
        **_linear("patch_embed", patch, cfg.width),
        "cls_token": (1, 1, cfg.width),
        "pos_embed": (1, cfg.tokens, cfg.width),
    }
    for i in range(cfg.depth):
        shapes |= block_shapes(f"blocks.{i}", cfg.width, cfg.hidden, cfg.qkv_bias)
    return shapes | _norm("norm", cfg.width) | _linear("head", cfg.width, cfg.classes)


def block_shapes(at: str, width: int, hidden: int, qkv_bias: bool) -> dict[str, tuple[int, ...]]:
    """Return the parameters of one encoder block whose path is `at`."""
    shapes = _norm(f"{at}.norm1", width)
    for name in "qkv":
        shapes |= _linear(f"{at}.attn.{name}", width, width, bias=qkv_bias)
    shapes |= _linear(f"{at}.attn.proj", width, width) | _norm(f"{at}.norm2", width)
    return (
        shapes | _linear(f"{at}.mlp.fc1", width, hidden) | _linear(f"{at}.mlp.fc2", hidden, width)
    )


def _linear(at: str, ins: int, outs: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{at}.weight": (outs, ins)}
    return weight | ({f"{at}.bias": (outs,)} if bias else {})


def _norm(at: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.weight": (width,), f"{at}.bias": (width,)}
