"""Scale reparameterisation (RepQ-ViT, Li et al. 2023, section 3.2): a grid for every channel of a
LayerNorm's output in calibration, one grid for all of them at run time.

What a channel's grid has more than the common one, a ratio of scales and a difference of zero
points, goes into the norm's weight and bias and is undone by the linears behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.matching import expects, one_of
from refvit.model import Model
from refvit.quant.affine import QParams, covering
from refvit.quant.folding import Fold, channel_ranges, rewrite

FloatArray = NDArray[Any]
FORMS = ("symmetric", "centred", "asymmetric")


def reparameterise(
    model: Model, pixels: NDArray[Any], form: str = "symmetric", bits: int = 8
) -> Model:
    """Return `model`, its float function unchanged, with the channels of every LayerNorm that only
    linears read brought to one range, as seen on calibration pixels [n, C, H, W].

    "symmetric" equalises max|y| and moves no zero point. "centred" first moves the middle of each
    channel's range to 0, (min + max) / 2, as Outlier Suppression+ does (Wei et al. 2023): the
    symmetric grid of most recipes then wastes no code. "asymmetric" is the paper's, for grids of
    `bits` with zero points. Norms whose readers take no offset (`Fold.shifts`) get "symmetric";
    the release gives such a linear a bias that its architecture lacks. Quantize the result as any
    other; ranges here are min-max, where the release searches percentiles.
    """
    expects(model, Model, "reparameterise")
    one_of(form, FORMS, "form")
    ends = channel_ranges(model, pixels)

    def choose(fold: Fold) -> tuple[FloatArray, FloatArray]:
        kind = form if fold.shifts else "symmetric"
        middle = ends[fold.norm].mean(0) if kind == "centred" else np.zeros(fold.width)
        lo, hi = ends[fold.norm] - middle
        grid = channel_grid(lo, hi, bits, symmetric=kind != "asymmetric")
        _, scale, offset = one_grid(grid)
        return scale, middle + offset

    return rewrite(model, choose)


def channel_grid(lo: FloatArray, hi: FloatArray, bits: int, *, symmetric: bool) -> QParams:
    """Return the grid of tokens [N, C] whose channels have the ranges [lo, hi], each [C].

    A channel that was always 0 gets the mean scale of the others, where the release divides by 0.

    >>> q = channel_grid(np.array([-1.0, 0.0]), np.array([127.0, 0.0]), 8, symmetric=True)
    >>> q.scale
    array([1., 1.])
    """
    grid = covering(lo, hi, bits, symmetric=symmetric, axis=1)
    living = (lo < 0) | (hi > 0)
    usual = grid.scale[living].mean() if living.any() else 1.0
    return grid.with_scale(np.where(living, grid.scale, usual))


def one_grid(channels: QParams) -> tuple[QParams, FloatArray, FloatArray]:
    """Return the grid for all channels of [N, C], and scale and offset [C], such that
    `(y - offset) / scale` has on it the codes that y has on the grid of `channels`.

    The common scale D is the mean of theirs (any would do: it is a label, and the weights take the
    inverse), the common zero point Z the mean of theirs, rounded; scale_c = D_c / D and
    offset_c = (Z - z_c) D_c. With an integer Z the offset is a whole number of steps of every
    channel, so the codes are equal, but for the parity of ties and the rounding of floats. The
    released code does not round Z: its codes are no integers, and what it makes of a value differs
    from the channel's own grid by up to a whole step.

    >>> channels = QParams(np.array([1.0, 3.0]), 8, False, 1, np.array([100, 131]))
    >>> grid, scale, offset = one_grid(channels)
    >>> float(grid.scale), int(grid.zero_point), scale, offset
    (2.0, 116, array([0.5, 1.5]), array([ 16., -45.]))
    """
    step = channels.scale.mean()
    zero = np.rint(np.mean(channels.zero_point)).astype(np.int64)
    grid = QParams(step, channels.bits, channels.signed, zero_point=zero)
    return grid, channels.scale / step, (zero - channels.zero_point) * channels.scale
