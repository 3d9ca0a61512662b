"""Laws of softmax and GELU: near the exact function, and exact where a symmetry says so.

The reference is float64, one line each. The bounds are those refvit's kernels are tested to; a
permutation, a shift of the row or a neighbour must not change a single code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import code_dtype
from refvit.testing import strategies
from refvit.testing.extra import st
from refvit.testing.laws.trial import Case, Trial

IntArray = NDArray[Any]
FloatArray = NDArray[Any]
Answer = IntArray | tuple[IntArray, float]

GRAIN = 0.5 / 47607  # of probability, per token: half a unit of refvit's 16-bit exponential


def scaled(trial: Trial, case: Case, codes: IntArray, out_scale: float) -> tuple[IntArray, float]:
    """Return the codes that `fn(codes)` gives, and their scale if it gives that too."""
    out = trial.call(case, codes)
    if isinstance(out, tuple) and len(out) == 2:
        out, out_scale = out[0], float(out[1])
    return trial.codes(out, case, codes.shape), out_scale


def softmax(
    fn: Callable[[IntArray], Answer],
    scale: float,
    *,
    bits: int = 8,
    out_scale: float = 1 / 255,
    tolerance: float = 0.0023,
) -> None:
    """Hold `fn(codes)`, softmax over the last axis at one scale, to clause 4.1.

    `codes` are signed scores [..., N] of `bits`; the answer is probabilities / out_scale, or a pair
    of those and out_scale. Every probability is within `tolerance`, half a code and N / 95,214 of
    the exact one, since what N exponentials of 16 bits round adds up, and a row sums to one within
    4/3 `tolerance` and half a code for each token. Order is kept, equal scores get equal codes, and
    permuting a row or adding to all of it changes no code.
    """
    __tracebackhide__ = True
    trial = Trial("softmax", "4.1", fn)

    def law(codes: IntArray) -> None:
        case = {"codes": codes, "scale": scale}
        got, step = scaled(trial, case, codes, out_scale)
        near_the_exact(trial, case, got, step, tolerance)
        in_order(trial, case, got)
        tokens = codes.shape[-1]
        order = np.roll(np.arange(tokens)[::-1], tokens // 2)
        moves = [
            ("a permuted row gives permuted codes", codes[..., order], got[..., order]),
            ("a constant added to a row changes nothing", to_an_end(codes, bits), got),
        ]
        for name, moved, wanted in moves:
            case = {"codes": moved, "scale": scale}
            trial.agree(name, case, wanted, scaled(trial, case, moved, out_scale)[0])

    trial.hold(st.builds(with_axes, strategies.rows_of_codes(bits), st.integers(1, 4)), law)
    trial.hold(strategies.score_rows(bits), law, examples=60)


def with_axes(rows: IntArray, axes: int) -> IntArray:
    """Return [R, N] as an array of so many axes: the first row alone, or with axes of one."""
    return rows[0] if axes == 1 else rows.reshape(*[1] * (axes - 2), *rows.shape)


def near_the_exact(trial: Trial, case: Case, got: IntArray, step: float, tolerance: float) -> None:
    """Refuse a probability, or the sum of a row, that is off by more than the bound."""
    tokens = got.shape[-1]
    x = case["codes"].astype(np.float64) * case["scale"]
    with np.errstate(under="ignore"):
        e = np.exp(x - x.max(-1, keepdims=True))
        exact = e / e.sum(-1, keepdims=True) / step
    within = 0.5 + (tolerance + tokens * GRAIN) / step
    name = f"within {within:.4g} codes of the exact softmax"
    trial.agree("one token has probability one" if tokens == 1 else name, case, exact, got, within)
    reach = tolerance * 4 / 3 / step + tokens / 2
    name = f"a row sums to one within {reach:.4g} codes"
    trial.agree(name, case, 1 / step, got.sum(-1, keepdims=True), reach)


def in_order(trial: Trial, case: Case, got: IntArray) -> None:
    """Refuse codes that order two scores of a row otherwise, or tell equal ones apart."""
    order = np.argsort(case["codes"], axis=-1, kind="stable")
    score = np.take_along_axis(case["codes"], order, -1)
    p = np.take_along_axis(got, order, -1)
    equal = score[..., 1:] == score[..., :-1]

    def in_place(values: IntArray) -> IntArray:
        wanted = got.copy()
        np.put_along_axis(wanted, order[..., 1:], values, -1)
        return wanted

    same = in_place(np.where(equal, p[..., :-1], p[..., 1:]))
    trial.agree("equal scores, equal probabilities", case, same, got)
    rising = in_place(np.maximum(p[..., 1:], p[..., :-1]))
    trial.agree("a greater score has no smaller code", case, rising, got)


def to_an_end(codes: IntArray, bits: int) -> IntArray:
    """Return `codes` plus a constant that takes the whole to one end of its range."""
    lo, hi = strategies.code_range(bits)
    wide = codes.astype(np.int64)
    up = hi - wide.max()
    return np.asarray(wide + (up if up else lo - wide.min())).astype(codes.dtype)


def gelu_of(
    trial: Trial, case: Case, ends: tuple[int, int], out_scale: float, tolerance: float
) -> int:
    """Return the answer for the one code of `case`; refuse one that is off by more than clause 4.2
    allows, or does not saturate at `ends`."""
    (lo, hi), codes, scale = ends, case["codes"], case["scale"]
    got, step = scaled(trial, case, codes, out_scale)
    x = int(codes[0]) * scale
    exact = x / 2 * (1 + math.erf(x / math.sqrt(2))) / step
    if x == 0:
        trial.agree("GELU(0) = 0", case, 0, got)
    within = 0.5 + (tolerance - lo * scale * 2.0**-12) / step
    law = f"within {within:.4g} codes of the exact GELU"
    law = law if lo < exact < hi else f"saturation at {lo} and {hi}"
    trial.agree(law, case, min(max(exact, lo), hi), got, within)
    return int(got[0])


def gelu(
    fn: Callable[[IntArray], Answer],
    scale: float,
    *,
    bits: int = 8,
    out_scale: float | None = None,
    tolerance: float = 0.0183,
) -> None:
    """Hold `fn(codes)`, GELU at one scale, to clause 4.2.

    `codes` are signed, of `bits`, any shape; the answer is as wide, at `out_scale` (that of the
    input unless given), or a pair of codes and out_scale. All 256 codes of 8 bits are tried alone,
    those of 16 bits as drawn: each is within `tolerance`, half a step of the output and 2**-12 of
    the greatest input, saturated at the ends of its width, and 0 for 0. In any company every code
    gives what it gives alone.
    """
    __tracebackhide__ = True
    trial = Trial("gelu", "4.2", fn)
    out_scale = scale if out_scale is None else out_scale
    lo, hi = strategies.code_range(bits)
    dtype, known = code_dtype(lo, hi), dict[int, int]()

    def alone(code: int) -> int:
        case = {"codes": np.array([code], dtype), "scale": scale}
        return gelu_of(trial, case, (lo, hi), out_scale, tolerance)

    def law(codes: IntArray) -> None:
        distinct = sorted(set(codes.ravel().tolist()), key=abs)
        known.update({code: alone(code) for code in distinct if code not in known})
        case = {"codes": codes, "scale": scale}
        got, _ = scaled(trial, case, codes, out_scale)
        table = np.array([known[code] for code in codes.ravel().tolist()]).reshape(codes.shape)
        trial.agree("a code does not see its neighbours", case, table, got)

    if bits <= 8:
        known.update({code: alone(code) for code in sorted(range(lo, hi + 1), key=abs)})
    trial.hold(st.builds(with_axes, strategies.rows_of_codes(bits), st.integers(1, 4)), law)
