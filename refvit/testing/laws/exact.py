"""Laws with one right answer: the rounding, the product of codes, the quantizer.

Expected values are Python integers or int64 that cannot wrap; nothing is within a tolerance except
a quotient of floats that falls on a tie only by its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import largest_code
from refvit.testing import strategies
from refvit.testing.extra import st
from refvit.testing.laws.trial import Case, Index, Trial

IntArray = NDArray[Any]
FloatArray = NDArray[Any]

ROUNDING = "one rounding, ties toward plus infinity"
ARGUMENTS = ("acc", "multiplier", "shift", "lo", "hi")
PAIRS = [(np.int8, np.int8), (np.uint8, np.int8), (np.int16, np.int8)]
BATCHES = [((), ()), ((2,), (2,)), ((2, 1), (3,)), ((2,), ())]
INNER = [1024, 1025, 1026, 1041, 1536, 3072]  # about the longest sum float32 can hold, and beyond


def requantize(fn: Callable[[IntArray, IntArray, IntArray, int, int], IntArray]) -> None:
    """Hold `fn(acc, multiplier, shift, lo, hi)` to clause 2.2.

    `acc` is int32 [R, C]; `multiplier` and `shift` are int32, of shape [] for the whole tensor or
    [C] for each channel, 24 bits and 1..53; `lo` and `hi` are ints. The answer, of any integer
    type, is clip(floor(acc * multiplier / 2**shift + 1/2), lo, hi) in exact rationals: ties and
    their neighbours, negative multipliers, all of int32, and both ends of [lo, hi] are drawn.
    """
    __tracebackhide__ = True
    trial = Trial("requantize", "2.2", fn)

    def law(case: Case) -> None:
        exact = rounded(case["acc"], case["multiplier"], case["shift"])
        lo, hi = case["lo"], case["hi"]
        out = trial.call(case, *case.values())
        got = trial.codes(out, case, case["acc"].shape)

        def name(at: Index) -> str:
            return ROUNDING if lo < exact[at] < hi else f"saturation at {lo} and {hi}"

        trial.agree(name, case, np.clip(exact, lo, hi), got)

    trial.hold(requantizations(channels=1), law)
    trial.hold(requantizations(channels=3), law)


def rounded(acc: IntArray, multiplier: IntArray, shift: IntArray) -> IntArray:
    """Return floor(acc * multiplier / 2**shift + 1/2) in int64, whose product has 56 bits."""
    a, m, s = (x.astype(object) for x in np.broadcast_arrays(acc, multiplier, shift))
    quotient = (2 * a * m + 2**s) // 2 ** (s + 1)  # of Python integers
    return np.asarray(quotient).astype(np.int64)


def requantizations(channels: int) -> st.SearchStrategy[Case]:
    """Draw the arguments of one requantization, per tensor or for up to so many channels."""

    def make(ends: tuple[int, int], triples: list[Any], shared: bool, negated: bool) -> Case:
        acc, multiplier, shift = (np.array(part, np.int32) for part in zip(*triples, strict=True))
        if shared:
            multiplier, shift = multiplier[:1].reshape(()), shift[:1].reshape(())
        rows = [acc, -acc] if negated else [acc]  # -2**31 is its own negative
        return dict(zip(ARGUMENTS, (np.stack(rows), multiplier, shift, *ends), strict=True))

    any_product = st.tuples(strategies.accumulators(), strategies.dyadic_pairs())
    triple = any_product.map(lambda drawn: (drawn[0], *drawn[1])) | strategies.ties()
    triples = st.lists(triple, min_size=1, max_size=channels)
    return st.builds(make, strategies.code_ranges(), triples, st.booleans(), st.booleans())


def matmul(fn: Callable[[IntArray, IntArray], IntArray]) -> None:
    """Hold `fn(a, b)` to the sum of clause 3.3: the exact product of codes, of any integer type.

    `a` is int8, uint8 or int16 [..., M, K], `b` int8 [..., K, N], with up to two batch axes that
    broadcast. K goes to 3072, with codes at the ends of their ranges and their signs aligned, where
    a sum leaves float32 (2**24) though random codes would not; every product fits int32.
    """
    __tracebackhide__ = True
    trial = Trial("matmul", "3.3", fn)

    def law(case: Case) -> None:
        a, b = case["a"], case["b"]
        exact = np.matmul(a.astype(np.int64), b.astype(np.int64))
        got = trial.codes(trial.call(case, a, b), case, exact.shape)
        trial.agree("the exact product of codes", case, exact, got)

    short = st.one_of([products(types, st.integers(1, 5), 12) for types in PAIRS])
    lengths = st.integers(1, 3072) | st.sampled_from(INNER)
    trial.hold(short, law)
    long = st.one_of([products(types, lengths, 2) for types in PAIRS])
    trial.hold(long, law, examples=60)


def products(
    types: tuple[Any, Any], lengths: st.SearchStrategy[int], most: int
) -> st.SearchStrategy[Case]:
    """Draw two matrices, each a pattern of at most `most` codes repeated, but for the last code."""
    room = (2**31 - 1) // (largest_code(np.dtype(types[0])) * largest_code(np.dtype(types[1])))

    def fill(dtype: Any, shape: tuple[int, ...], pattern: list[int], last: int | None) -> IntArray:
        x = np.resize(np.array(pattern, dtype), shape)
        if last is not None:
            x.flat[-1] = last
        return x

    def make(inner: int, m: int, n: int, batch: Any, a: Any, b: Any) -> Case:
        inner = min(inner, room)
        lead_a, lead_b = batch
        return {
            "a": fill(types[0], (*lead_a, m, inner), *a),
            "b": fill(types[1], (*lead_b, inner, n), *b),
        }

    few = st.integers(1, 3)
    contents = (codes_and_last(np.dtype(t), most) for t in types)
    return st.builds(make, lengths, few, few, st.sampled_from(BATCHES), *contents)


def codes_and_last(dtype: np.dtype[Any], most: int) -> st.SearchStrategy[Any]:
    """Draw up to `most` codes of a type, and one more or None."""
    code = strategies.codes(8 * dtype.itemsize, dtype.kind == "i")
    return st.tuples(st.lists(code, min_size=1, max_size=most), st.none() | code)


def quantizer(fn: Callable[[FloatArray, float, int], IntArray], *, signed: bool = True) -> None:
    """Hold `fn(x, scale, bits)` to clause 1.4: clip(rint(x / scale), lo, hi), half to even.

    `x` is float32 or float64 [n], `scale` a float (one of float32 for such x), `bits` 2..16; the
    codes run over the full range of their width. Where the scale is no power of two, x / scale may
    be off by two units of x's last place, as it is by a product with 1 / scale.
    """
    __tracebackhide__ = True
    trial = Trial("quantizer", "1.4", fn)

    def law(case: Case) -> None:
        x, scale, bits = case["x"], case["scale"], case["bits"]
        lo, hi = strategies.code_range(bits, signed)
        got = trial.codes(trial.call(case, x, scale, bits), case, x.shape)
        ratio = x.astype(np.float64) / scale
        slack = 0 if np.frexp(scale)[0] == 0.5 else 2 * np.finfo(x.dtype).eps * np.abs(ratio)
        nearest = (np.clip(np.rint(ratio + side * slack), lo, hi) for side in (-1, 1))
        wanted = np.clip(got, *nearest).astype(np.int64)
        trial.agree(lambda at: reason(ratio[at], lo, hi), case, wanted, got)
        order = np.argsort(x, kind="stable")
        rising = got.copy()
        rising[order[1:]] = np.maximum(got[order[1:]], got[order[:-1]])
        trial.agree("a greater real has no smaller code", case, rising, got)
        grid = (got * scale).astype(x.dtype)
        again = {"x": grid, "scale": scale, "bits": bits}
        repeated = trial.codes(trial.call(again, grid, scale, bits), again, x.shape)
        trial.agree("codes come back from the reals they stand for", again, got, repeated)

    trial.hold(quantizations(signed), law, examples=150)


def reason(ratio: float, lo: int, hi: int) -> str:
    """Name the law that a wrong code for x / scale = `ratio` breaks."""
    if ratio == 0:
        return "zero is exact"
    if not lo < ratio < hi:
        return f"saturation at {lo} and {hi}"
    return "half to even" if ratio % 1 == 0.5 else "within half a step"


def quantizations(signed: bool) -> st.SearchStrategy[Case]:
    """Draw reals around a grid, in either precision."""

    def make(dtype: Any, scale: float, bits: int, ratios: list[float]) -> Case:
        scale = float(np.asarray(scale, dtype))
        return {"x": np.array([scale * r for r in ratios], dtype), "scale": scale, "bits": bits}

    def of_width(bits: int) -> st.SearchStrategy[Case]:
        ratios = st.lists(strategies.reals(1.0, bits, signed), min_size=1, max_size=6)
        types = st.sampled_from([np.float64, np.float32])
        return st.builds(make, types, strategies.scales(), st.just(bits), ratios)

    return st.one_of([of_width(bits) for bits in range(2, 17)])
