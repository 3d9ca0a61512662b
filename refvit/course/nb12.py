"""The exercises of notebook 12: machine and recipe chosen together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.accel import machine
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb12_design import DESIGN
from refvit.course.nb12_more import FRONT, HOLDS, PICK
from refvit.testing.extra import st

Array = NDArray[Any]


def bigger_array() -> float:
    """Return what you expect: the time of nano_vit on 64 x 64 PEs over its time on 32 x 32.

    The machine is edge32, all else as it is, one image, 8-bit codes. Four times as many
    multipliers: 0.25 would be four times as fast, 1.0 as fast as before. Within 10 % counts.
    """
    small, big = (refvit.simulate("nano_vit", {"base": "edge32", "rows": n, "cols": n})
                  for n in (32, 64))  # fmt: skip
    return float(big.totals["us"] / small.totals["us"])


BIGGER = Exercise(
    id="nb12.bigger_array",
    title="predict what four times the PEs gain",
    answer=bigger_array,
    cases=st.just(()),
    returns="ratio",
    judge=closely(0.10),
    hints=(
        "Look at the table: which share of the time does an array that multiplies decide?",
        "A larger array also takes longer to be filled and drained. It may even lose.",
    ),
    wrong=(
        Wrong("four", "four times the multipliers, so a quarter of the time: true only of what the "
              "multipliers bound", lambda: 0.25),
        Wrong("two", "half the time, as if one side of the array counted", lambda: 0.5),
        Wrong("amdahl", "the array's share of the time a quarter as long: the array was not full "
              "before", lambda: 0.82),
        Wrong("inverse", "the ratio the other way round", lambda: 4.0),
    ),
)  # fmt: skip


def weight_bytes(sizes: Array, bits: Array, widths: Array) -> int:
    """Return the bytes in which a machine stores the weights of a recipe, as an int.

    Layer k has sizes[k] weights of bits[k] bits. The machine has codes of the given `widths`
    (ascending; the last is at least as wide as any of bits): a weight takes the least of them that
    is at least its bits. Weights lie packed layer by layer, so round the bytes of each layer up.
    """
    stored = widths[np.searchsorted(widths, bits)]
    return int(np.sum(-(-sizes * stored // 8)))


def _stored(sizes: Array, bits: Array, widths: Array) -> int:
    """By the machine itself, layer by layer."""
    hw = machine({"base": "edge32", "widths": widths.tolist()})
    each = zip(sizes.tolist(), bits.tolist(), strict=True)
    return sum((size * hw.stored_bits(b) + 7) // 8 for size, b in each)


def _next(bits: Array, widths: Array, side: Any = "left") -> Array:
    return widths[np.minimum(np.searchsorted(widths, bits, side), len(widths) - 1)]


def _layers() -> st.SearchStrategy[tuple[Array, Array, Array]]:
    layer = st.tuples(st.integers(1, 40), st.integers(2, 8))
    widths = st.sampled_from([(8,), (4, 8), (2, 4, 8), (4, 8, 16), (3, 6, 8)])

    def arrays(drawn: Any) -> tuple[Array, Array, Array]:
        layers, chosen = drawn
        return np.array([n for n, _ in layers]), np.array([b for _, b in layers]), np.array(chosen)

    return st.tuples(st.lists(layer, min_size=1, max_size=4), widths).map(arrays)


BYTES = Exercise(
    id="nb12.weight_bytes",
    title="what a recipe's weights take on a machine",
    answer=weight_bytes,
    cases=_layers(),
    returns="bytes",
    truth=_stored,
    hints=(
        "np.searchsorted(widths, bits) is the place of the least width that is at least bits.",
        "-(-a // 8) rounds up.",
    ),
    wrong=(
        Wrong("bits", "the recipe's own bits, of which a machine stores only some",
              lambda sizes, bits, widths: int(np.sum(-(-sizes * bits // 8)))),
        Wrong("down", "bytes rounded down, which loses the last weight",
              lambda sizes, bits, widths: int(np.sum(sizes * _next(bits, widths) // 8))),
        Wrong("whole", "one rounding for all layers together, where each is packed alone",
              lambda sizes, bits, widths: int(-(-np.sum(sizes * _next(bits, widths)) // 8))),
        Wrong("above", "the next width even where one has just the bits",
              lambda sizes, bits, widths: int(
                  np.sum(-(-sizes * _next(bits, widths, "right") // 8)))),
        Wrong("widest", "the widest width for all layers",
              lambda sizes, bits, widths: int(np.sum(-(-sizes * widths[-1] // 8)))),
        Wrong("in_bits", "bits where bytes were meant",
              lambda sizes, bits, widths: int(np.sum(sizes * _next(bits, widths)))),
    ),
)  # fmt: skip


EXERCISES = (BIGGER, BYTES, FRONT, HOLDS, PICK, DESIGN)
