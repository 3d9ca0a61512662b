"""The transformer encoder block as a page of algebra (Dosovitskiy et al. 2021, equations 2, 3).

Attention has six products, as the survey counts them: the projections q, k, v, proj, and the two
of activations by activations, scores and context. Swin gives the scores a bias and a mask; newer
ViTs normalise q and k by head, and scale each branch by channel (LayerScale), which is the gain of
its last linear.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from refvit.ops.protocol import Mask, Ops
from refvit.params import Params

T = TypeVar("T")
Pair = tuple[int, int]


class BlockConfig(Protocol):
    """What a block needs to know of a model's configuration."""

    @property
    def heads(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def eps(self) -> float: ...
    @property
    def qk_norm(self) -> bool: ...
    @property
    def gelu(self) -> str: ...


def crop(ops: Ops[T], x: T, size: Pair, axes: Pair) -> T:  # the first `size` of two axes
    return ops.select(
        ops.select(x, slice(0, size[0]), axis=axes[0]), slice(0, size[1]), axis=axes[1]
    )


def embed_patches(
    ops: Ops[T], images: T, p: Params, patch: Pair, grid: Pair
) -> T:  # [B, C, H, W] -> [B, N, D]; what is beyond a whole grid of patches is left out
    (i, j), (rows, cols) = patch, grid
    whole = crop(ops, images, (rows * i, cols * j), (2, 3))
    return ops.linear(ops.rearrange(whole, "b c (y i) (x j) -> b (y x) (c i j)", i=i, j=j), p)


def attention(
    ops: Ops[T],
    x: T,
    p: Params,
    cfg: BlockConfig,
    bias: T | None = None,  # [1, H, N, N], added to the scores
    mask: Mask | None = None,
) -> T:  # [B, N, D] -> [B, N, D]
    q, k, v = (
        ops.rearrange(ops.linear(x, p[name]), "b n (h d) -> b h n d", h=cfg.heads) for name in "qkv"
    )
    if cfg.qk_norm:
        q = ops.layer_norm(q, p.q_norm, eps=cfg.eps)
        k = ops.layer_norm(k, p.k_norm, eps=cfg.eps)
    k = ops.rearrange(k, "b h n d -> b h d n")
    scores = ops.matmul(q, k, site=p.at("scores"), scale=cfg.head_width**-0.5)  # [B, H, N, N]
    if bias is not None:
        scores = ops.add(scores, bias, site=p.at("biased"))
    weights = ops.softmax(scores, site=p.at("softmax"), mask=mask)
    context = ops.matmul(weights, v, site=p.at("context"))  # [B, H, N, d]
    return ops.linear(ops.rearrange(context, "b h n d -> b n (h d)"), p.proj)


def mlp(ops: Ops[T], x: T, p: Params, cfg: BlockConfig) -> T:  # [B, N, D] -> [B, N, D]
    hidden = ops.gelu(ops.linear(x, p.fc1), site=p.at("act"), form=cfg.gelu)
    return ops.linear(hidden, p.fc2)


def encoder_block(ops: Ops[T], x: T, p: Params, cfg: BlockConfig) -> T:  # [B, N, D] -> [B, N, D]
    normed = ops.layer_norm(x, p.norm1, eps=cfg.eps)
    x = ops.add(x, attention(ops, normed, p.attn, cfg), site=p.at("add1"))
    normed = ops.layer_norm(x, p.norm2, eps=cfg.eps)
    return ops.add(x, mlp(ops, normed, p.mlp, cfg), site=p.at("add2"))
