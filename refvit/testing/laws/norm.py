"""Laws of LayerNorm: any row, any gamma, any eps, against the exact value of the same codes.

The reference has no rounded mean: y = C q - sum(q) is an integer, and only the root is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.kernels.layer_norm import stated_error
from refvit.testing import strategies
from refvit.testing.extra import st
from refvit.testing.laws.kernels import to_an_end
from refvit.testing.laws.trial import Case, Index, Trial

IntArray = NDArray[Any]
FloatArray = NDArray[Any]


def layer_norm(
    fn: Callable[[IntArray, FloatArray, FloatArray, float, float, float], IntArray],
    *,
    bits: int = 16,
    out_bits: int = 8,
) -> None:
    """Hold `fn(codes, gamma, beta, scale, out_scale, eps)` to clause 4.3.

    `codes` are signed, of `bits` (8 or 16), [R, C]; gamma and beta are float64 [C], any sign and 0;
    the answer is signed codes of `out_bits` at out_scale, saturated. Each is within 0.51 codes, 8
    parts in 1000 of itself before beta (more from C = 1,536 on, as section 6 of the specification
    says) and 2**-15 of its row's greatest; a row without variance
    gives beta, whatever eps; adding to a row changes nothing, and rows do not see each other.
    gamma sqrt(C) / out_scale stays below 2**20.
    """
    __tracebackhide__ = True
    trial = Trial("layer_norm", "4.3", fn)

    def answer(case: Case) -> IntArray:
        return trial.codes(trial.call(case, *case.values()), case, case["codes"].shape)

    def law(case: Case) -> None:
        lo, hi = strategies.code_range(out_bits)
        codes, got, exact = case["codes"], answer(case), normalised(case)
        gain = np.abs(case["gamma"]) / case["out_scale"]
        part = max(0.008, stated_error(codes.shape[1]))
        reach = part * np.abs(exact) + 2.0**-15 * np.abs(exact).max(1, keepdims=True)
        codes_of = (exact * case["gamma"] + case["beta"]) / case["out_scale"]
        name = norm_reason(case, exact, got, lo, hi)
        trial.agree(name, case, np.clip(codes_of, lo, hi), got, 0.51 + reach * gain)
        moved = {**case, "codes": to_an_end(codes, bits)}
        trial.agree("a constant added to a row changes nothing", moved, got, answer(moved))
        if len(codes) > 1:
            row = {**case, "codes": codes[-1:]}
            trial.agree("rows do not see each other", row, got[-1:], answer(row))

    trial.hold(normalisations(strategies.rows_of_codes(bits), out_bits), law)
    trial.hold(normalisations(strategies.tensors(bits), out_bits), law, examples=60)


def normalised(case: Case, eps: float | None = None) -> FloatArray:
    """Return the exact (x - mean) / sqrt(var + eps) from integers y = C q - sum(q), [R, C]."""
    codes = case["codes"].astype(np.int64)
    width = codes.shape[1]
    y = (width * codes - codes.sum(1, keepdims=True)).astype(np.float64)
    added = width**3 * (case["eps"] if eps is None else eps) / case["scale"] ** 2
    squares = (y**2).sum(1, keepdims=True) + added
    return np.asarray(y * math.sqrt(width) / np.sqrt(np.where(squares > 0, squares, 1)))


def norm_reason(
    case: Case, exact: FloatArray, got: IntArray, lo: int, hi: int
) -> Callable[[Index], str]:
    """Return what names the law that a wrong code breaks: the special cases before the bound."""
    without = (normalised(case, 0.0) * case["gamma"] + case["beta"]) / case["out_scale"]
    without = np.clip(without, lo, hi)

    def name(at: Index) -> str:
        if not exact[at[0]].any():
            return "a row without variance gives beta"
        if case["gamma"][at[1]] == 0:
            return "gamma = 0 gives beta"
        if case["eps"] and abs(got[at] - without[at]) <= 1:
            return "eps is kept"
        return "within a code of the exact LayerNorm"

    return name


def normalisations(codes: st.SearchStrategy[IntArray], out_bits: int) -> st.SearchStrategy[Case]:
    """Draw the arguments of one LayerNorm: gamma and beta of a few values repeated, and an output
    scale that leaves room or saturates.
    """

    def make(codes: IntArray, gains: list[float], addends: list[float], scale: float,
             eps: float, room: float) -> Case:  # fmt: skip
        width = codes.shape[1]
        gamma, beta = np.resize(gains, width), np.resize(addends, width)
        case = {"codes": codes, "gamma": gamma, "beta": beta, "scale": scale, "out_scale": 1.0,
                "eps": eps}  # fmt: skip
        largest = np.abs(normalised(case) * gamma + beta).max() / 2 ** (out_bits - 1)
        least = 2.0**-19 * max(np.abs(gamma).max() * math.sqrt(width), np.abs(beta).max(), 1.0)
        return {**case, "out_scale": float(f"{max(largest * room or 1.0, least):.3g}")}

    gains = st.sampled_from([1.0, 0.0, -1.0, 0.5, -1.5, 3.0])
    addends = st.sampled_from([0.0, 1.0, -2.0, 0.25])
    return st.builds(
        make,
        codes,
        st.lists(gains, min_size=1, max_size=4),
        st.lists(addends, min_size=1, max_size=3),
        strategies.scales(-12, 0),
        st.sampled_from([0.0, 1.0, 1e-2, 1e-5, 1e-6, 1e-12]),
        st.sampled_from([1.05, 4.0, 0.5]),
    )
