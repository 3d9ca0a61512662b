"""Recipes: a table of site patterns to widths, read from the top, the first match deciding.

The presets follow the integer-only systems of the survey: per-channel weights, per-tensor
activations, unsigned attention weights, and a residual stream of 16 bits (I-ViT, table of
section 4), because the sums of many layers outgrow eight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Spec:
    """The width of one value; `axis=0` gives every output channel of a weight its own scale."""

    bits: int
    signed: bool = True
    axis: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A name and a table `{site pattern: Spec}`; patterns are those of `fnmatch`.

    >>> w8a8 = PRESETS["w8a8"]
    >>> w8a8.spec("blocks.0.attn.q.weight")
    Spec(bits=8, signed=True, axis=0)
    >>> w8a8.spec("blocks.0.add1").bits, w8a8.spec("blocks.0.attn.softmax").signed
    (16, False)
    """

    name: str
    table: Mapping[str, Spec]

    def spec(self, site: str) -> Spec:
        """Return the first spec whose pattern matches `site`; ValueError if none does."""
        for pattern, spec in self.table.items():
            if fnmatchcase(site, pattern):
                return spec
        raise ValueError(f"recipe {self.name!r} has no line for site {site!r}; end it with '*'")


STREAM = (
    "patch_embed",
    "cls_token",
    "pos_embed",
    "tokens",
    "embed",
    "*.attn.proj",
    "*.mlp.fc2",
    "*.add?",
    "norm_pre",
    "patch_norm",
    "*.merge.reduction",
    "fc_pool",
    "head",
    "head_dist",
    "heads",
    "heads_mean",
)


def uniform(name: str, weight_bits: int, activation_bits: int) -> Recipe:
    """Return weights and activations at one width each, the residual stream and logits at 16.

    The image itself keeps 8 bits, as in RepQ-ViT and I-ViT.
    """
    table = {"*.weight": Spec(weight_bits, axis=0), "input": Spec(8)}
    table |= dict.fromkeys(STREAM, Spec(16))
    table |= {"*.softmax": Spec(activation_bits, signed=False), "*": Spec(activation_bits)}
    return Recipe(name, table)


PRESETS = {
    f"w{w}a{a}": uniform(f"w{w}a{a}", w, a)
    for w, a in ((8, 8), (6, 6), (4, 8), (4, 4), (3, 8), (3, 3))
}


def recipe(name: str | Recipe) -> Recipe:
    """Return the preset called `name` (a `Recipe` passes through); ValueError lists them."""
    if isinstance(name, Recipe):
        return name
    if name not in PRESETS:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
