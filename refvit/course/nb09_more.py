"""Exercises of notebook 09: what a sum can reach."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.course import draw
from refvit.course.exercise import Exercise, Wrong
from refvit.testing import strategies
from refvit.testing.extra import st

Array = NDArray[Any]
ENDS = st.sampled_from([(-128, 127), (-4, 127), (0, 255), (-127, 127), (-2, 1), (0, 3)])


def accumulator_range(weight: Array, bias: int, lo: int, hi: int) -> tuple[int, int]:
    """Return (least, greatest) of sum(weight * x) + bias over all codes x [K] with lo <= x <= hi.

    weight is int64 [K], bias a whole number, lo <= 0 < hi. Both ends are reached by some x; return
    them as Python integers.
    """
    ends = np.stack([weight * lo, weight * hi])
    return int(ends.min(0).sum()) + bias, int(ends.max(0).sum()) + bias


def _by_trial(weight: Array, bias: int, lo: int, hi: int) -> tuple[int, int]:
    corners = itertools.product((lo, hi), repeat=len(weight))
    sums = [bias + sum(w * x for w, x in zip(weight.tolist(), xs, strict=True)) for xs in corners]
    return min(sums), max(sums)


def _even(reach: Any, bias: int) -> tuple[int, int]:
    return bias - int(reach), bias + int(reach)


def _alike(weight: Array, bias: int, lo: int, hi: int) -> tuple[int, int]:
    ends = int(weight.sum()) * lo, int(weight.sum()) * hi
    return min(ends) + bias, max(ends) + bias


WEIGHTS = draw.vectors(1, 4, strategies.codes(), np.int64)
RANGE = Exercise(
    id="nb09.accumulator_range",
    title="the range of a sum, from its weights",
    answer=accumulator_range,
    cases=st.builds(lambda w, b, ends: (w, b, *ends), WEIGHTS, st.integers(-99, 99), ENDS),
    truth=_by_trial,
    returns="range",
    hints=(
        "Every product w * x can be made greatest by itself: which code does a positive weight "
        "want, which a negative one?",
        "weight * lo and weight * hi are the two ends of every product; take the greater of each "
        "pair, and sum.",
    ),
    wrong=(
        Wrong("magnitudes", "sum|w| times the largest code, as if every sign could have its wish",
              lambda weight, bias, lo, hi: _even(np.abs(weight).sum() * max(-lo, hi), bias)),
        Wrong("unsigned", "weights without their signs: a negative one takes lo for the greatest",
              lambda weight, bias, lo, hi:
              (int(np.abs(weight).sum()) * lo + bias, int(np.abs(weight).sum()) * hi + bias)),
        Wrong("by_shape", "K times the largest weight times the largest code: the shape's bound",
              lambda weight, bias, lo, hi:
              _even(len(weight) * np.abs(weight).max() * max(-lo, hi), bias)),
        Wrong("all_alike", "one code for all of x, where every weight may meet its own",
              _alike),
        Wrong("least_and_greatest", "lo everywhere for the least sum and hi everywhere for the "
              "greatest: a negative weight wants it the other way round",
              lambda weight, bias, lo, hi:
              (int((weight * lo).sum()) + bias, int((weight * hi).sum()) + bias)),
        Wrong("no_bias", "a range without the bias",
              lambda weight, bias, lo, hi: accumulator_range(weight, 0, lo, hi)),
        Wrong("bias_both_ways", "a bias that is added to one end and taken from the other",
              lambda weight, bias, lo, hi:
              (accumulator_range(weight, -abs(bias), lo, hi)[0],
               accumulator_range(weight, abs(bias), lo, hi)[1])),
        Wrong("swapped", "the two ends in the wrong order",
              lambda weight, bias, lo, hi: accumulator_range(weight, bias, lo, hi)[::-1]),
    ),
)  # fmt: skip


def worst_codes(weight: Array, lo: int, hi: int) -> Array:
    """Return codes x, int64 [K] with lo <= x <= hi, for which sum(weight * x) is greatest.

    weight is int64 [K], lo <= 0 < hi. Where a weight is 0 any code in [lo, hi] will do.
    """
    return np.where(weight > 0, hi, lo)


def _reaches(found: Any, expected: Any, weight: Array, lo: int, hi: int) -> str:
    if not isinstance(found, np.ndarray):
        return "it is no array: np.array(...) makes one"
    if found.dtype.kind not in "iu":
        return f"its dtype is {found.dtype}, expected integers: .astype(np.int64) makes them"
    if found.shape != weight.shape:
        return f"its shape is {found.shape}, expected {weight.shape}"
    if found.min() < lo or found.max() > hi:
        outside = found[(found < lo) | (found > hi)][0]
        return f"the code {outside} lies outside [{lo}, {hi}]"
    reached, greatest = int((weight * found).sum()), int((weight * expected).sum())
    return "" if reached == greatest else f"it reaches {reached}, and {greatest} can be reached"


WORST = Exercise(
    id="nb09.worst_codes",
    title="a witness that reaches the bound",
    answer=worst_codes,
    cases=st.builds(lambda w, ends: (w, *ends), WEIGHTS, ENDS),
    judge=_reaches,
    returns="codes",
    hints=(
        "A positive weight wants the greatest code, a negative weight the least.",
        "np.where(condition, one, other) chooses element by element.",
    ),
    wrong=(
        Wrong("all_greatest", "the greatest code everywhere, which negative weights pay for",
              lambda weight, lo, hi: np.full(len(weight), hi)),
        Wrong("least_sum", "the codes of the least sum",
              lambda weight, lo, hi: np.where(weight > 0, lo, hi)),
        Wrong("sign_times_top", "hi times the sign, which is not always in the range, nor its end",
              lambda weight, lo, hi: np.sign(weight) * hi),
        Wrong("zero_for_negative", "0 where a negative weight wants the least code",
              lambda weight, lo, hi: np.where(weight > 0, hi, 0)),
        Wrong("like_the_weights", "codes that resemble the weights: only their signs count",
              lambda weight, lo, hi: np.clip(weight, lo, hi)),
    ),
)  # fmt: skip


def proved_bits() -> int:
    """Predict how many bits, with the sign, compile proves to be enough for the sums of
    `blocks.0.mlp.fc2` in nano_vit's w8a8 engine.

    Its 192 input codes, what GELU left, lie in [-4, 127]; weights and biases are in
    engine.constants.blocks[0].mlp.fc2. Return a whole number.
    """
    fc2 = engine.constants.blocks[0].mlp.fc2
    weight, bias = fc2.weight.astype(np.int64), fc2.bias
    greatest = (np.where(weight > 0, 127, -4) * weight).sum(1) + bias
    least = (np.where(weight > 0, -4, 127) * weight).sum(1) + bias
    return 1 + int(max(-least.min(), greatest.max())).bit_length()


@functools.cache
def _compiled() -> refvit.integer.IntegerModel:
    model: Any = refvit.load("nano_vit")
    images = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
    return refvit.compile(refvit.quantize(model, images, recipe="w8a8"))


class _Lazily:
    """The engine, compiled when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_compiled(), name)


engine = _Lazily()  # in the notebook it is the engine itself


def _proved() -> int:
    site = "blocks.0.mlp.fc2"
    return next(p.bits for p in _compiled().proofs if (p.site, p.what) == (site, "accumulator"))


PROVED = Exercise(
    id="nb09.proved_bits",
    title="predict what the compiler proves",
    answer=proved_bits,
    cases=st.just(()),
    truth=_proved,
    returns="bits",
    hints=(
        "A row of weights meets 127 where they are positive and -4 where they are negative.",
        "Take the greatest of all rows, bias included, and the least; the sign costs one bit.",
        "int.bit_length() counts the bits of a magnitude.",
    ),
    wrong=(
        Wrong("by_shape", "192 products of the largest codes there are, 128 by 128: the weights of "
              "this layer are smaller", lambda: 23),
        Wrong("heaviest", "the heaviest row's sum|w| times 127, as if negative weights could meet "
              "-127; the least code here is -4", lambda: 22),
        Wrong("no_sign", "a magnitude without its sign", lambda: 20),
        Wrong("one_product", "one product of two codes; 192 are summed", lambda: 16),
        Wrong("held", "the bits that hold the sum, not those it needs", lambda: 32),
    ),
)  # fmt: skip
