"""What Swin's windows need to know before any value flows: who is where, and who may meet.

Liu et al. 2021, section 3.2: relative positions (equation 4) and the mask of shifted windows.
"""

from __future__ import annotations

from functools import cache

import einops
import numpy as np
from numpy.typing import NDArray

from refvit.models.blocks import Pair


@cache
def relative_index(window: Pair, table: Pair) -> NDArray[np.intp]:
    """Return, for every two tokens of a window, the row of their bias in the table: [N * N].

    The row is `(dy + T - 1) * (2 T' - 1) + (dx + T' - 1)` for the table of a window (T, T'), which
    is the window itself or, where that was cut to a small resolution, the larger one before.

    >>> relative_index((1, 2), (1, 2)), relative_index((1, 2), (2, 2))
    (array([1, 0, 2, 1]), array([4, 3, 5, 4]))
    """
    y, x = np.indices(window).reshape(2, -1)
    down = y[:, None] - y[None, :] + table[0] - 1
    across = x[:, None] - x[None, :] + table[1] - 1
    index = np.asarray((down * (2 * table[1] - 1) + across).ravel(), np.intp)
    index.flags.writeable = False  # every caller gets this one
    return index


@cache
def shift_mask(grid: Pair, window: Pair, shift: Pair) -> NDArray[np.bool_] | None:
    """Return [W, N, N], true for tokens that the cyclic shift brought into one window from two
    sides of the image; None without a shift. `grid` is a whole number of windows.

    >>> shift_mask((2, 4), (2, 2), (0, 1)).sum(axis=(1, 2)), shift_mask((2, 4), (2, 2), (0, 0))
    (array([0, 8]), None)
    """
    if shift == (0, 0):
        return None
    regions = np.zeros(grid, np.int64)
    for axis in (0, 1):
        place = np.indices(grid)[axis]
        cut = grid[axis] - window[axis], grid[axis] - shift[axis]
        if shift[axis]:  # three regions: untouched windows, and the two parts of the last
            regions = regions * 3 + (place >= cut[0]) + (place >= cut[1])
    i, j = window
    flat = einops.rearrange(regions, "(y i) (x j) -> (y x) (i j)", i=i, j=j)
    mask = np.asarray(flat[:, :, None] != flat[:, None, :])
    mask.flags.writeable = False  # every caller gets this one
    return mask


def up_to(size: int, step: int) -> int:
    """Return the zeros that bring `size` to a multiple of `step`.

    >>> up_to(7, 4), up_to(8, 4)
    (1, 0)
    """
    return -size % step
