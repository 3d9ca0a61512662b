"""Pictures of models, grids, reports and proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel import Row
from refvit.accel.page import BOUND_COLOURS
from refvit.integer import Proof
from refvit.plot.base import BLUE, GREY, LINES, axes
from refvit.quant import QParams, fake_quantize


def patches(image: NDArray[np.uint8], patch: tuple[int, int], ax: Any = None) -> Any:
    """Draw an image [H, W, 3] cut into its patches, a white line between them."""
    ax = axes(ax)
    (height, width), (i, j) = image.shape[:2], patch
    ax.imshow(image, interpolation="nearest")
    ax.hlines(np.arange(i, height, i) - 0.5, -0.5, width - 0.5, colors="white", linewidth=0.8)
    ax.vlines(np.arange(j, width, j) - 0.5, -0.5, height - 0.5, colors="white", linewidth=0.8)
    ax.set(xticks=[], yticks=[])
    return ax


def heat(
    share: NDArray[Any], image: NDArray[np.uint8] | None = None, ax: Any = None, most: Any = None
) -> Any:
    """Draw shares [rows, cols], one a token, over the image [H, W, 3] they belong to, in grey;
    `most` is the end of the colours, else the greatest share."""
    ax = axes(ax)
    height, width = share.shape if image is None else image.shape[:2]
    if image is not None:
        ax.imshow(image.mean(-1), cmap="gray", interpolation="nearest")
    ax.imshow(
        share, cmap="cividis", alpha=1.0 if image is None else 0.7, vmin=0, vmax=most,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest",
    )  # fmt: skip
    ax.set(xticks=[], yticks=[])
    return ax


def attention(
    weights: NDArray[Any], grid: tuple[int, int], image: NDArray[np.uint8], ax: Any = None
) -> Any:
    """Draw what the class token attends to: softmax weights [N, N], averaged over heads before,
    as a map over the image."""
    ax = heat(weights[0, 1:].reshape(grid), image, ax)
    ax.figure.colorbar(ax.images[-1], ax=ax, shrink=0.8, label="attention of the class token")
    return ax


def histogram(values: NDArray[Any], grid: QParams, ax: Any = None) -> Any:
    """Draw how values are spread before a grid, and where its codes collect them."""
    ax = axes(ax)
    flat = values.ravel()
    ax.hist(flat, bins=200, color=GREY, label="before, float32")
    levels, counts = np.unique(fake_quantize(flat, grid), return_counts=True)
    ax.vlines(levels, 0, counts, colors=BLUE, linewidth=1.2, label=f"after, {grid.bits}-bit codes")
    ax.set(xlabel="value", ylabel="how many", yscale="log")
    ax.legend(frameon=False)
    return ax


def layers(rows: Sequence[Row], what: str = "us", ax: Any = None) -> Any:
    """Draw a bar for each row of a report: its time (`us`), or its energy (`uj`) as the low
    estimate with the way to the high one in a lighter tone."""
    ax = axes(ax)
    places, colours = range(len(rows)), [BOUND_COLOURS[row.bound] for row in rows]
    if what == "uj":
        ax.barh(places, [row.uj_high for row in rows], color=colours, alpha=0.4)
    key = "uj_low" if what == "uj" else what
    ax.barh(places, [getattr(row, key) for row in rows], color=colours)
    ax.set(yticks=places, ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticklabels([row.name for row in rows], fontsize=9)
    ax.set_xlabel({"us": "microseconds", "uj": "microjoules, low to high estimate"}.get(what, what))
    shown = {row.bound for row in rows} | {"compute", "memory", "vector"}
    kinds = [kind for kind in BOUND_COLOURS if kind in shown]
    handles = [ax.barh(-9, 0, color=BOUND_COLOURS[kind], label=kind) for kind in kinds]
    ax.legend(handles=handles, title="bound by", frameon=False, loc="upper right")
    return ax


def curves(
    x: NDArray[Any],
    named: Mapping[str, NDArray[Any]],
    ax: Any = None,
    fits: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Any:
    """Draw a line for each name, its values [n] over x [n], on a logarithmic scale.

    Where `fits[name]` [n] is false the line is thin and dotted: there, some integer is too wide.
    """
    ax = axes(ax)
    for number, (name, values) in enumerate(named.items()):
        colour = LINES[number % len(LINES)]
        fit = np.asarray(True if fits is None else fits[name])
        ax.plot(x, values, ":", color=colour, linewidth=1.2, label=None if fit.any() else name)
        solid = np.where(fit, values, np.nan)
        ax.plot(x, solid, color=colour, linewidth=2, label=name if fit.any() else None)
    ax.set(yscale="log")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


def ranges(proofs: Sequence[Proof], ax: Any = None) -> Any:
    """Draw a bar for each proved range: the bits it needs, before those that hold it."""
    ax = axes(ax)
    places = range(len(proofs))
    ax.barh(places, [proof.width for proof in proofs], color=GREY, alpha=0.3, label="bits held")
    ax.barh(places, [proof.bits for proof in proofs], color=BLUE, label="bits needed")
    ax.set(xlabel="bits, sign included", xlim=(0, 32.2), xticks=range(0, 33, 4))
    ax.set(yticks=places, ylim=(len(proofs) - 0.5, -0.5))
    ax.set_yticklabels([f"{proof.site}  {proof.what}" for proof in proofs], fontsize=9)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def confusion(
    counts: NDArray[np.int64], labels: Sequence[str], title: str = "", ax: Any = None
) -> Any:
    """Draw a confusion matrix [K, K], true classes down: shares of each row, with the counts of
    errors; the diagonal has the share that is right."""
    ax = axes(ax)
    size = len(labels)
    ax.figure.set_size_inches(2.6 + 0.55 * size, 1.6 + 0.5 * size)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    shown = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(size), labels, rotation=45, ha="right")
    ax.set_yticks(range(size), labels)
    ax.set(xlabel="taken for", ylabel="true class", title=title)
    for i, j in zip(*np.nonzero(counts), strict=True):
        said = f"{share[i, j]:.0%}" if i == j else f"{counts[i, j]}"
        dark = share[i, j] > 0.5
        ax.text(
            j, i, said, ha="center", va="center", fontsize=8, color="white" if dark else "black"
        )
    ax.figure.colorbar(shown, ax=ax, shrink=0.8, label="share of the true class")
    return ax
