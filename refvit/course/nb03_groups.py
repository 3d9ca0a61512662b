"""The exercises of notebook 03 on groups: their scales, and what those weigh."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import quant
from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def group_scales(w: Array, group: int, bits: int) -> Array:
    """Return the scales [R, G] of w [R, C] where every `group` columns of a row share one (group
    >= 1), as floats.

    G is C / group rounded up: the last group of a row may be shorter. The scale of a group is its
    max|w| / (2**(bits - 1) - 1), or 1 where it is all zero.
    """
    starts = range(0, w.shape[1], group)
    parts = [np.abs(w[:, start : start + group]).max(axis=1) for start in starts]
    largest = np.stack(parts, axis=1)
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


def _scales(w: Array, group: int, bits: int) -> Array:
    return quant.symmetric(quant.grouped(w, group), bits, axis=0, group=group).scale


def _of(parts: list[Array], bits: int, axis: int = 1) -> Array:
    largest = np.stack(parts, axis=axis)
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)


def _across(w: Array, group: int, bits: int) -> Array:
    """Return the scales of groups that run on from one row into the next."""
    flat = np.abs(w).ravel()
    parts = [flat[k : k + group].max(keepdims=True) for k in range(0, flat.size, group)]
    return _of(parts, bits, 0).reshape(-1)


GROUPS = Exercise(
    id="nb03.group_scales",
    title="a scale for every group of a row",
    answer=group_scales,
    cases=st.tuples(draw.matrices((1, 3), (1, 5)), st.integers(1, 4), draw.bits()),
    truth=_scales,
    judge=closely(1e-9),
    returns="scales",
    edges=((np.array([[1.0, -2.0, 0.0], [0.0, 0.0, 3.0]]), 2, 3),),
    hints=(
        "range(0, C, group) gives the first column of every group; a slice past the end is cut.",
        "np.stack(parts, axis=1) puts one vector [R] for each group side by side.",
    ),
    wrong=(
        Wrong("drops_rest", "a last group that is left out where it is shorter",
              lambda w, group, bits: _of([np.zeros(len(w)), *(
                  np.abs(w[:, k : k + group]).max(1)
                  for k in range(0, w.shape[1] - group + 1, group))], bits)[:, 1:]),
        Wrong("row_groups", "groups of rows where groups of columns were meant",
              lambda w, group, bits: _of([np.abs(w[k : k + group]).max(0)
                                          for k in range(0, len(w), group)], bits, 0)),
        Wrong("across", "groups that run on from one row into the next", _across),
        Wrong("one_sided", "the largest weight of a group where the largest magnitude was meant",
              lambda w, group, bits: _of([w[:, k : k + group].max(1)
                                          for k in range(0, w.shape[1], group)], bits)),
        Wrong("repeated", "a scale for every column: repeated ones are stored once",
              lambda w, group, bits: np.repeat(_scales(w, group, bits), group, 1)[:, : w.shape[1]]),
        Wrong("transposed", "scales [G, R]: rows come first",
              lambda w, group, bits: _scales(w, group, bits).T),
        Wrong("zero", "a scale of 0 for a group of zeros",
              lambda w, group, bits: quant.grouped(w, group) / (2 ** (bits - 1) - 1)),
    ),
)  # fmt: skip


def bits_per_weight(cols: int, group: int, bits: int, scale_bits: int) -> float:
    """Return what one weight takes, in bits, with its share of the scales: a row of `cols` weights
    of `bits` bits each has a scale of `scale_bits` bits for every `group` of them (group >= 1). The
    last group may be shorter; its scale is not.
    """
    groups = -(-cols // group)
    return bits + groups * scale_bits / cols


def _counted(cols: int, group: int, bits: int, scale_bits: int) -> float:
    total = sum(bits + (scale_bits if k % group == 0 else 0) for k in range(cols))
    return float(Fraction(total, cols))


EFFECTIVE = Exercise(
    id="nb03.bits_per_weight",
    title="effective bits of a weight",
    answer=bits_per_weight,
    cases=st.tuples(
        st.integers(1, 200), st.sampled_from([1, 2, 3, 16, 32, 48, 64, 128]), draw.bits(),
        st.sampled_from([8, 16, 32]),
    ),
    truth=_counted,
    judge=closely(1e-9),
    returns="bits",
    edges=((48, 16, 4, 16), (5, 2, 4, 16), (1, 128, 2, 32)),
    hints=(
        "How many scales has a row? -(-cols // group) divides and rounds up.",
        "Their bits are shared by cols weights.",
    ),
    wrong=(
        Wrong("even", "scale_bits / group, which forgets that a shorter group has a whole scale",
              lambda cols, group, bits, scale_bits: bits + scale_bits / group),
        Wrong("down", "a number of groups that was rounded down",
              lambda cols, group, bits, scale_bits: bits + (cols // group) * scale_bits / cols),
        Wrong("each", "a scale for every weight",
              lambda cols, group, bits, scale_bits: float(bits + scale_bits)),
        Wrong("row", "one scale for the whole row",
              lambda cols, group, bits, scale_bits: bits + scale_bits / cols),
        Wrong("free", "weights without their scales",
              lambda cols, group, bits, scale_bits: float(bits)),
        Wrong("total", "the bits of a whole row",
              lambda cols, group, bits, scale_bits:
              float(cols * bits - (-cols // group) * scale_bits)),
    ),
)  # fmt: skip


def grouped_bytes() -> int:
    """Predict the bytes of a weight matrix [192, 48] at 4 bits, two codes to a byte, in groups of
    16 columns with a float32 scale each."""
    return 192 * 48 // 2 + 192 * 3 * 4


def _weighed() -> int:
    w = np.random.default_rng(0).standard_normal((192, 48))
    q = quant.symmetric(quant.grouped(w, 16), 4, axis=0, group=16)
    return int(quant.pack(quant.quantize(w, q), 4).nbytes + q.scale.astype(np.float32).nbytes)


BYTES = Exercise(
    id="nb03.grouped_bytes",
    title="a prediction: bytes of a grouped matrix",
    answer=grouped_bytes,
    cases=st.tuples(),
    truth=_weighed,
    returns="bytes",
    hints=(
        "There are 192 * 48 codes of half a byte, and 192 * 3 scales.",
        "A float32 has 4 bytes.",
    ),
    wrong=(
        Wrong("codes_only", "the codes without their scales", lambda: 192 * 48 // 2),
        Wrong("unpacked", "a whole byte for every code", lambda: 192 * 48 + 192 * 3 * 4),
        Wrong("rows", "one scale for each row", lambda: 192 * 48 // 2 + 192 * 4),
        Wrong("half", "scales of 16 bits", lambda: 192 * 48 // 2 + 192 * 3 * 2),
        Wrong("bits", "bits, of which a byte has eight", lambda: 192 * 48 * 4 + 192 * 3 * 32),
        Wrong("columns", "groups of 16 rows", lambda: 192 * 48 // 2 + 48 * 12 * 4,
              equivalent="192 / 16 groups of 48 columns happen to be as many"),
    ),
)  # fmt: skip
