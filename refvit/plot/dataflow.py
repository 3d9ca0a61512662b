"""The data flow of one encoder block: how wide the codes on every edge are, and the sums inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refvit.integer import IntegerModel
from refvit.plot.base import BLUE, GREY, LINES, axes

WIDTH, HEIGHT = 1.96, 0.95  # of a box

# site in the block: what it is called, and where its centre is
BOXES = {
    "norm1": ("LayerNorm", 1.1, 3.0),
    "attn.q": ("linear q", 4.4, 4.2),
    "attn.k": ("linear k", 4.4, 3.0),
    "attn.v": ("linear v", 4.4, 1.8),
    "attn.scores": ("scores q kᵀ", 7.2, 3.6),
    "attn.softmax": ("softmax", 9.9, 3.6),
    "attn.context": ("context p v", 12.7, 3.0),
    "attn.proj": ("linear proj", 15.4, 3.0),
    "add1": ("add", 18.2, 3.0),
    "norm2": ("LayerNorm", 1.1, -0.6),
    "mlp.fc1": ("linear fc1", 5.4, -0.6),
    "mlp.act": ("GELU", 9.7, -0.6),
    "mlp.fc2": ("linear fc2", 14.0, -0.6),
    "add2": ("add", 18.2, -0.6),
}
# from, to, and the y at which the edge reaches the second, above or below its centre
EDGES = (
    ("norm1", "attn.q", 0.0), ("norm1", "attn.k", 0.0), ("norm1", "attn.v", 0.0),
    ("attn.q", "attn.scores", 0.15), ("attn.k", "attn.scores", -0.15),
    ("attn.scores", "attn.softmax", 0.0), ("attn.softmax", "attn.context", 0.15),
    ("attn.v", "attn.context", -0.15), ("attn.context", "attn.proj", 0.0),
    ("attn.proj", "add1", 0.0), ("norm2", "mlp.fc1", 0.0), ("mlp.fc1", "mlp.act", 0.0),
    ("mlp.act", "mlp.fc2", 0.0), ("mlp.fc2", "add2", 0.0),
)  # fmt: skip
SAME = (("norm1", "attn.q"), ("norm1", "attn.v"))  # one value, labelled once
Point = tuple[float, float]


def dataflow(engine: IntegerModel, block: str = "blocks.0", ax: Any = None) -> Any:
    """Draw one encoder block of a ViT's engine: a box for each operator with the bits that its
    widest 32-bit integer needs, proved, as a number and as a bar; an edge for each value with the
    width of its codes, the wider the heavier. The residual runs around the branches."""
    ax = axes(ax)
    before = _before(engine, block)
    top, foot, out = 3.0 + HEIGHT / 2, -0.6 - HEIGHT / 2, 18.2 + WIDTH / 2
    _route(ax, engine, before, [(-2.4, 3.0), (-0.6, 3.0), (0.1, 3.0)])
    _route(ax, engine, before, [(-0.6, 3.0), (-0.6, 5.2), (18.2, 5.2), (18.2, top)], 1)
    down = [(out, 3.0), (19.8, 3.0), (19.8, 0.75), (-0.6, 0.75), (-0.6, -0.6), (0.1, -0.6)]
    _route(ax, engine, f"{block}.add1", down, 2)
    around = [(-0.6, -0.6), (-0.6, -1.9), (18.2, -1.9), (18.2, foot)]
    _route(ax, engine, f"{block}.add1", around, 1)
    _route(ax, engine, f"{block}.add2", [(out, -0.6), (20.6, -0.6)])
    for start, end, offset in EDGES:
        (_, x0, y0), (_, x1, y1) = BOXES[start], BOXES[end]
        path = [(x0 + WIDTH / 2, y0), (x1 - WIDTH / 2, y1 + offset)]
        shown = (start, end) not in SAME
        _route(ax, engine, f"{block}.{start}", path, 0 if shown else None)
    for site, (title, x, y) in BOXES.items():
        _box(ax, title, x, y, _bits(engine, f"{block}.{site}"))
    ax.set(xlim=(-2.5, 20.7), ylim=(-2.2, 5.8), aspect="equal")
    ax.axis("off")
    return ax


def _before(engine: IntegerModel, block: str) -> str:
    """Return the site whose result enters a block."""
    number = int(block.rsplit(".", 1)[1])
    return f"blocks.{number - 1}.add2" if number else "embed"


def _bits(engine: IntegerModel, site: str) -> int:
    """Return the bits that the widest 32-bit integer of a site needs."""
    return max(p.bits for p in engine.proofs if p.site == site and p.width == 32)


def _box(ax: Any, title: str, x: float, y: float, bits: int) -> None:
    left, low = x - WIDTH / 2, y - HEIGHT / 2
    place = {"left": left, "align": "edge"}
    ax.barh(low, WIDTH, HEIGHT, color="white", edgecolor="black", zorder=3, **place)
    ax.barh(low, WIDTH * bits / 32, HEIGHT / 6, color=GREY, zorder=4, **place)
    ax.text(x, y + 0.22, title, ha="center", va="center", fontsize=10, zorder=5)
    ax.text(x, y - 0.13, f"{bits} of 32 bits", ha="center", va="center", fontsize=9, zorder=5)


def _route(
    ax: Any, engine: IntegerModel, site: str, path: Sequence[Point], mark: int | None = 0
) -> None:
    """Draw the codes of a site along a path with an arrow at its end; their width stands at the
    stretch `mark`, if any."""
    grid: Any = engine.grid(site)
    colour, weight = (BLUE, 1.6) if grid.bits <= 8 else (LINES[1], 3.2)
    xs, ys = zip(*path, strict=True)
    ax.plot(xs[:-1], ys[:-1], color=colour, linewidth=weight, solid_capstyle="butt", zorder=1)
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": weight, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", path[-1], path[-2], arrowprops=arrow, zorder=1)
    if mark is None:
        return
    (x0, y0), (x1, y1) = path[mark], path[mark + 1]
    above = 0.1 if y0 == y1 else 0.2
    kind = f"{'int' if grid.signed else 'uint'}{grid.bits}"
    ax.text(
        (x0 + x1) / 2, (y0 + y1) / 2 + above, kind, ha="center", va="bottom", fontsize=9,
        color=colour, zorder=6,
    )  # fmt: skip
