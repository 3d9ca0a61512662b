"""Swin: attention in shifted windows, in stages of halved resolution (Liu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from refvit.models.blocks import Pair, attention, crop, embed_patches, mlp
from refvit.models.shapes import (
    Shapes,
    block_shapes,
    check_form,
    check_sizes,
    linear_shapes,
    norm_shapes,
)
from refvit.models.windows import relative_index, shift_mask, up_to
from refvit.ops.protocol import Ops
from refvit.params import Params

T = TypeVar("T")
RULES = ("hf", "timm")
STEM_EPS = 1e-5  # of the norms of patches and of merging, whatever `eps` says


@dataclass(frozen=True)
class Stage:
    """One stage: its grid of tokens, its blocks, their window, and the shift of every other."""

    grid: Pair
    width: int
    depth: int
    heads: int
    hidden: int
    window: Pair
    shift: Pair
    table: Pair  # the window that the table of relative positions was made for
    eps: float
    gelu: str
    qk_norm: bool = False

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class SwinConfig:
    """The shape of a Swin; `depths`, `heads`, `hidden` and `windows` have an entry for each stage.

    Stage i has width * 2**i channels. `rule` says whose conventions hold where a grid does not
    divide. "hf": the image is padded to whole patches; a grid is padded to whole windows and
    then rolled; where the shorter side is at most the window, the window is that side and the
    shift 0. "timm": the image is cut to whole patches, a grid is rolled and then padded, each side
    is clamped by itself, and the table of positions is that of the clamped window. `clamp` False
    keeps window and shift whatever the grid. `positions` are absolute ones, added to the patches.
    `classes` 0 means features.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    windows: tuple[Pair, ...]
    image: Pair = (224, 224)
    patch: Pair = (4, 4)
    channels: int = 3
    classes: int = 1000
    eps: float = 1e-5
    qkv_bias: bool = True
    gelu: str = "erf"
    positions: bool = False
    rule: str = "timm"
    clamp: bool = True

    def __post_init__(self) -> None:
        names = ("width", "depths", "heads", "hidden", "image", "patch", "channels")
        sizes = {n: getattr(self, n) for n in names}
        check_sizes("Swin", sizes | {"windows": tuple(n for w in self.windows for n in w)}, self)
        check_form(self.eps, self.gelu, self.classes)
        counts = {n: len(getattr(self, n)) for n in ("depths", "heads", "hidden", "windows")}
        if len(set(counts.values())) > 1 or not self.depths:
            raise ValueError(f"a Swin has as many of each as stages; got {counts}")
        for i, heads in enumerate(self.heads):
            if self.width * 2**i % heads:
                raise ValueError(f"width {self.width * 2**i} is not a multiple of {heads} heads")
        if self.rule not in RULES or len(self.image) != 2 or 0 in self.grid:
            raise ValueError(
                f"rule is one of {', '.join(RULES)} and an image at least one patch; got "
                f"{self.rule!r}, image {self.image}, patch {self.patch}"
            )

    @property
    def grid(self) -> Pair:
        """Patches down and across."""
        spare = [i % p for i, p in zip(self.image, self.patch, strict=True)]
        more = [self.rule == "hf" and s > 0 for s in spare]
        return (
            self.image[0] // self.patch[0] + more[0],
            self.image[1] // self.patch[1] + more[1],
        )

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, its grid half of the one before, rounded up."""
        stages = []
        down, across = self.grid
        for i, (depth, heads, hidden) in enumerate(
            zip(self.depths, self.heads, self.hidden, strict=True)
        ):
            grid = (-(-down // 2**i), -(-across // 2**i))
            window, shift, table = self._window(grid, self.windows[i])
            stages.append(
                Stage(
                    grid, self.width * 2**i, depth, heads, hidden, window, shift, table,
                    self.eps, self.gelu,
                )
            )  # fmt: skip
        return tuple(stages)

    def _window(self, grid: Pair, window: Pair) -> tuple[Pair, Pair, Pair]:
        """Return window, shift and the table's window of a stage, as `rule` has them."""
        shift = window[0] // 2, window[1] // 2
        if not self.clamp:
            return window, shift, window
        if self.rule == "hf":
            least = min(grid)
            if least <= window[0]:
                return (least, least), (0, 0), window
            return window, shift, window
        cut = min(grid[0], window[0]), min(grid[1], window[1])
        moved = tuple(0 if g <= w else s for g, w, s in zip(grid, window, shift, strict=True))
        return cut, (moved[0], moved[1]), cut

    @property
    def features(self) -> int:
        """The width of what the head reads."""
        return self.stages[-1].width


def swin(ops: Ops[T], images: Any, p: Params, cfg: SwinConfig) -> Any:  # [B, C, H, W] -> [B, K]
    x = embed(ops, ops.input(images, site="input"), p, cfg)
    for i, stage in enumerate(cfg.stages):
        if i > 0:
            x = merge(ops, x, p.stages[i].merge, cfg.stages[i - 1].grid)
        for j in range(stage.depth):
            shift = stage.shift if j % 2 else (0, 0)
            x = swin_block(ops, x, p.stages[i].blocks[j], stage, shift, cfg.rule)
    x = ops.mean(ops.layer_norm(x, p.norm, eps=cfg.eps), axis=1, site="pool")  # [B, D]
    return ops.output(ops.linear(x, p.head) if cfg.classes else x, site="logits")


def embed(ops: Ops[T], images: T, p: Params, cfg: SwinConfig) -> T:  # [B, C, H, W] -> [B, N, D]
    (i, j), (rows, cols) = cfg.patch, cfg.grid
    more = max(0, rows * i - cfg.image[0]), max(0, cols * j - cfg.image[1])
    padded = ops.pad(images, more, axes=(2, 3))
    x = embed_patches(ops, padded, p.patch_embed, cfg.patch, cfg.grid)
    x = ops.layer_norm(x, p.patch_norm, eps=STEM_EPS)
    return ops.add(x, ops.param(p, "pos_embed"), site="embed") if cfg.positions else x


def merge(ops: Ops[T], x: T, p: Params, grid: Pair) -> T:  # [B, y x, D] -> [B, y/2 x/2, 2 D]
    """Four neighbours, in the order (0,0), (1,0), (0,1), (1,1), become one token."""
    x = ops.rearrange(x, "b (y x) c -> b y x c", y=grid[0])
    x = ops.pad(x, (grid[0] % 2, grid[1] % 2), axes=(1, 2))
    x = ops.rearrange(x, "b (y i) (x j) c -> b (y x) (j i c)", i=2, j=2)
    return ops.linear(ops.layer_norm(x, p.norm, eps=STEM_EPS), p.reduction)


def swin_block(
    ops: Ops[T], x: T, p: Params, cfg: Stage, shift: Pair, rule: str
) -> T:  # [B, N, D] -> [B, N, D]
    normed = ops.layer_norm(x, p.norm1, eps=cfg.eps)
    x = ops.add(x, window_attention(ops, normed, p.attn, cfg, shift, rule), site=p.at("add1"))
    normed = ops.layer_norm(x, p.norm2, eps=cfg.eps)
    return ops.add(x, mlp(ops, normed, p.mlp, cfg), site=p.at("add2"))


def window_attention(
    ops: Ops[T], x: T, p: Params, cfg: Stage, shift: Pair, rule: str
) -> T:  # [B, N, D] -> [B, N, D]
    (rows, cols), (i, j) = cfg.grid, cfg.window
    more = up_to(rows, i), up_to(cols, j)
    whole, back = (rows + more[0], cols + more[1]), (-shift[0], -shift[1])
    x = ops.rearrange(x, "b (y x) c -> b y x c", y=rows)
    if rule == "hf":
        x = ops.roll(ops.pad(x, more, axes=(1, 2)), back, axes=(1, 2))
    else:
        x = ops.pad(ops.roll(x, back, axes=(1, 2)), more, axes=(1, 2))
    x = ops.rearrange(x, "b (y i) (x j) c -> (b y x) (i j) c", i=i, j=j)
    x = attention(ops, x, p, cfg, position_bias(ops, p, cfg), shift_mask(whole, (i, j), shift))
    down, across = whole[0] // i, whole[1] // j
    x = ops.rearrange(x, "(b y x) (i j) c -> b (y i) (x j) c", y=down, x=across, i=i)
    if rule == "hf":
        x = crop(ops, ops.roll(x, shift, axes=(1, 2)), cfg.grid, (1, 2))
    else:
        x = ops.roll(crop(ops, x, cfg.grid, (1, 2)), shift, axes=(1, 2))
    return ops.rearrange(x, "b y x c -> b (y x) c")


def position_bias(ops: Ops[T], p: Params, cfg: Stage) -> T:  # -> [1, H, N, N]
    index = relative_index(cfg.window, cfg.table)
    rows = ops.select(ops.param(p, "bias_table"), index, axis=0)
    return ops.rearrange(rows, "(n m) (g h) -> g h n m", g=1, n=cfg.window[0] * cfg.window[1])


def swin_shapes(cfg: SwinConfig) -> Shapes:
    """Return the name and shape of every parameter of a Swin, in the order of its forward."""
    patch = cfg.channels * cfg.patch[0] * cfg.patch[1]
    shapes = linear_shapes("patch_embed", patch, cfg.width) | norm_shapes("patch_norm", cfg.width)
    shapes |= {"pos_embed": (1, cfg.grid[0] * cfg.grid[1], cfg.width)} if cfg.positions else {}
    for i, stage in enumerate(cfg.stages):
        if i > 0:
            shapes |= norm_shapes(f"stages.{i}.merge.norm", 2 * stage.width)
            shapes |= linear_shapes(
                f"stages.{i}.merge.reduction", 2 * stage.width, stage.width, False
            )
        rows = (2 * stage.table[0] - 1) * (2 * stage.table[1] - 1)
        for j in range(stage.depth):
            at = f"stages.{i}.blocks.{j}"
            shapes |= block_shapes(at, stage.width, stage.width, stage.hidden, cfg.qkv_bias)
            shapes[f"{at}.attn.bias_table"] = (rows, stage.heads)
    shapes |= norm_shapes("norm", cfg.features)
    return shapes | (linear_shapes("head", cfg.features, cfg.classes) if cfg.classes else {})
