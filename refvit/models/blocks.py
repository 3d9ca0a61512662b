"""The transformer encoder block as a page of algebra (Dosovitskiy et al. 2021, equations 2, 3).

Attention has six products, as the survey counts them: the projections q, k, v, proj, and the two
of activations by activations, scores and context.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from refvit.ops.protocol import Ops
from refvit.params import Params

T = TypeVar("T")


class BlockConfig(Protocol):
    """What a block needs to know of a model's configuration."""

    @property
    def heads(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def eps(self) -> float: ...


def attention(ops: Ops[T], x: T, p: Params, cfg: BlockConfig) -> T:  # [B, N, D] -> [B, N, D]
    q = ops.rearrange(ops.linear(x, p.q), "b n (h d) -> b h n d", h=cfg.heads)
    k = ops.rearrange(ops.linear(x, p.k), "b n (h d) -> b h d n", h=cfg.heads)
    v = ops.rearrange(ops.linear(x, p.v), "b n (h d) -> b h n d", h=cfg.heads)
    scores = ops.matmul(q, k, site=p.at("scores"), scale=cfg.head_width**-0.5)  # [B, H, N, N]
    weights = ops.softmax(scores, site=p.at("softmax"))
    context = ops.matmul(weights, v, site=p.at("context"))  # [B, H, N, d]
    return ops.linear(ops.rearrange(context, "b h n d -> b n (h d)"), p.proj)


def mlp(ops: Ops[T], x: T, p: Params) -> T:  # [B, N, D] -> [B, N, D]
    return ops.linear(ops.gelu(ops.linear(x, p.fc1), site=p.at("act")), p.fc2)


def encoder_block(ops: Ops[T], x: T, p: Params, cfg: BlockConfig) -> T:  # [B, N, D] -> [B, N, D]
    normed = ops.layer_norm(x, p.norm1, eps=cfg.eps)
    x = ops.add(x, attention(ops, normed, p.attn, cfg), site=p.at("add1"))
    normed = ops.layer_norm(x, p.norm2, eps=cfg.eps)
    return ops.add(x, mlp(ops, normed, p.mlp), site=p.at("add2"))
