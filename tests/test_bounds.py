"""Proofs with witnesses: some input comes within a tenth of every range that is claimed.

A range that nothing comes near would hide an error in its derivation. Where the slack is wanted,
`SLACK` says why and how much of the range is reached.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.integer import PLAIN, Proof, i_sqrt, widest
from refvit.integer.bounds import dot_range, product_range, prove
from refvit.integer.fixedpoint import GUARD, bit_length, dyadic, shift_round
from refvit.integer.kernels import gelu, ivit_norm, layer_norm, log_softmax, shiftmax, softmax
from refvit.integer.kernels.layer_norm import square_bits
from refvit.integer.prover import ProveOps
from refvit.integer.ranged import Ranged
from refvit.params import Params

INT8, INT16 = (-128, 127), (-32768, 32767)
WIDTH, TOKENS = 768, 197


def proofs_of(plan):
    return {proof.what: proof for proof in plan[1]}


def softmax_witness(scale=0.05):
    """Equal scores: every exponential is the greatest there is, and their codes are rounded up."""
    plan = softmax.plan("s", scale, 1 / 255, *INT8, TOKENS)
    c = Params(plan[0])
    _, total = softmax.exponentials(np.zeros((1, TOKENS), np.int8), c, PLAIN, None)
    lone, one = softmax.exponentials(np.array([[0]], np.int8), c, PLAIN, None)
    below = softmax.distances(np.array([[127, -128]], np.int8))
    last = (softmax.OCTAVES - 1) << softmax.GRID  # f = 0 at the greatest shift
    half = 1 << (softmax.OCTAVES - 1 + softmax.EXP_SHIFT - 1)
    spare = bit_length(one) - softmax.SUM_BITS
    share = lone * ((1 << softmax.RECIPROCAL) // shift_round(one, spare))
    codes = softmax.softmax(np.zeros((1, TOKENS), np.int8), c, PLAIN, 0, 255)
    return plan, {
        "input": 128,
        "score difference": below.max(),
        "polynomial + rounding": (last & 8191) + softmax.C + half,
        "sum of e + rounding": total.max(),
        "exponential x reciprocal": share.max(),
        softmax.ROW_SUM: codes.sum(),
    }


def gelu_witness(scale=0.05):
    plan = gelu.plan("s", scale, scale, *INT8)
    c, q = Params(plan[0]), np.int32(-128)
    gate = gelu.ONE + (gelu.ONE - 0)  # |x| beyond the end of the polynomial
    return plan, {
        "input": 128,
        "square": gelu.END**2,  # at x = 0
        "1 + L + rounding": gate + (1 << int(c.keep) >> 1),
        "x (1 + L)": abs(int(q)) * int(shift_round(np.int32(gate), c.keep)),
    }


def norm_witness():
    plan = layer_norm.plan("s", 1.0, 0.05, *INT16, np.ones(WIDTH), np.zeros(WIDTH), 0.0)
    lone = np.full(WIDTH, -32768, np.int32)
    lone[0] = 32767
    y = WIDTH * lone - lone.sum(dtype=np.int32)
    halves = np.where(np.arange(WIDTH) % 2, -21845, 21845)  # y is just below a power of two
    spread = WIDTH * halves - halves.sum()
    shift = int(np.abs(spread).max()).bit_length() - square_bits(WIDTH)
    coarse = shift_round(spread.astype(np.int32), shift)
    squares = int(np.square(coarse.astype(np.int64)).sum())
    n = layer_norm.normalise(lone[None].astype(np.int16), Params(plan[0]), PLAIN)
    c = Params(plan[0])
    out = PLAIN.requantize(n, c.multiplier, c.shift, -(2**31), 2**31 - 1)
    return plan, {
        "input": 32768,
        "centred value": np.abs(y).max(),
        "sum of squares + eps": squares,
        "y x reciprocal": norm_product(lone),
        "gamma n + beta": np.abs(out).max(),
    }


def norm_product(row):
    """The product of `normalise`, again by its clause."""
    y = WIDTH * row.astype(np.int64) - row.sum(dtype=np.int64)
    bits = int(np.abs(y).max()).bit_length()
    coarse = bits - square_bits(WIDTH)
    squares = int(np.square(shift_round(y.astype(np.int32), coarse).astype(np.int64)).sum())
    spread = (30 - squares.bit_length()) >> 1
    root = max(int(i_sqrt(np.array([squares << 2 * spread], np.int32))[0]), 1 << 14)
    return int(np.abs(shift_round(y.astype(np.int32), bits - 15)).max()) * (2**29 // root)


def shiftmax_witness(scale=0.05):
    plan = shiftmax.plan("s", scale, 1 / 255, *INT8, TOKENS)
    c = Params(plan[0])
    e = shiftmax.shift_exp(np.zeros(TOKENS, np.int32), c.unit, c.octaves)
    total = int(e.sum(dtype=np.int64))
    lone = int(e[0]) * ((2**31 - 1) // int(e[0]))
    ends = np.arange(256, dtype=np.int32)
    p = -ends + (-ends >> 1) - (-ends >> 4)
    codes = shiftmax.shiftmax(np.zeros((1, TOKENS), np.int8), c, PLAIN, 0, 255)
    return plan, {
        "input": 128, "1.4375 x": -p.min(), "sum of exponentials": total,
        "exponential x reciprocal": lone, softmax.ROW_SUM: codes.sum(),
    }  # fmt: skip


def shift_gelu_witness(scale=0.05):
    plan = shiftmax.plan_gelu("s", scale, scale, *INT8)
    c = Params(plan[0])
    e = shiftmax.shift_exp(np.zeros(1, np.int32), c.unit, c.octaves)
    ends = np.arange(256, dtype=np.int32)
    p = -ends + (-ends >> 1) - (-ends >> 4)
    return plan, {
        "input": 128,
        "1.4375 x": -p.min(),
        "sum of two exponentials": 2 * int(e[0]),  # a row whose greatest is 0
        "exponential x reciprocal": (2**14 - 1) * (2**28 // (2**14 - 1)),  # e is nearly all of S
        "x sigmoid": 127 * 2**14,
    }


def ivit_norm_witness():
    plan = ivit_norm.plan("s", 1.0, 0.05, *INT16, np.ones(WIDTH), np.zeros(WIDTH), 0.0)
    row = np.where(np.arange(WIDTH) % 2, *INT16)
    y = row - (row.sum() + WIDTH // 2) // WIDTH
    coarse = int(Params(plan[0]).coarse)
    squares = np.square(shift_round(y.astype(np.int32), coarse).astype(np.int64)).sum()
    lone = np.full(WIDTH, -32768)
    lone[0] = 32767
    apart = lone - (lone.sum() + WIDTH // 2) // WIDTH
    norm = 32767 * 2 - 100
    return plan, {
        "input": 32768, "sum of codes": abs(32768 * WIDTH),
        "centred value": np.abs(apart).max(), "sum of squares": squares,
        "y x reciprocal": int(np.abs(apart).max()) * (2**30 // norm),
        "gamma n + beta": 2**8 * 27.7 / 0.05,
    }  # fmt: skip


def log_witness(scale=0.05):
    plan = log_softmax.plan("s", scale, 2.0**-14, *INT8, TOKENS)
    c = Params(plan[0])
    _, total = softmax.exponentials(np.zeros((1, TOKENS), np.int8), c, PLAIN, None)
    # 181 equal scores are each 2**-7.4998: the power above is 2**-7, the root of two times as much
    many = log_softmax.log_softmax(np.zeros((1, 181), np.int8), c, PLAIN, 0, 15)
    _, reached = softmax_witness(scale)
    return plan, {
        what: reached[what] for what in ("input", "score difference", "polynomial + rounding")
    } | {
        "sum of e + rounding": total.max(), "sum << fraction": int(total.max()) << int(c.spare),
        softmax.ROW_SUM: int((1 << (14 - many)).sum()),
    }  # fmt: skip


WITNESSES = {
    "softmax": softmax_witness, "gelu": gelu_witness, "layer_norm": norm_witness,
    "shiftmax": shiftmax_witness, "shift_gelu": shift_gelu_witness,
    "i_layer_norm": ivit_norm_witness, "log_softmax": log_witness,
}  # fmt: skip
SLACK = {
    ("softmax", softmax.ROW_SUM): (0.4, "one code a token is allowed for roundings"),
    ("shiftmax", softmax.ROW_SUM): (0.4, "the same, and the floors of Shiftmax lose mass"),
    ("i_layer_norm", "y x reciprocal"): (
        0.6, "half a coarse step beyond the norm is allowed for, which only tiny rows reach",
    ),
    ("i_layer_norm", "gamma n + beta"): (0.6, "it follows the product's"),
    ("shift_gelu", "x sigmoid"): (0.9, "reached by the greatest code"),
    ("layer_norm", "y x reciprocal"): (0.4, "2**29 // root and y's 15 bits are not both extreme"),
    ("layer_norm", "sum of squares + eps"): (0.4, "more than half is for eps, which is 0 here"),
    ("softmax", "exponential x reciprocal"): (
        0.5, "exp(0) has 15.5 bits and its reciprocal 13.5: their product is 2**29",
    ),
    ("shiftmax", "1.4375 x"): (0.9, "1.5 bounds 1.4375"),
    ("shift_gelu", "1.4375 x"): (0.9, "1.5 bounds 1.4375"),
}  # fmt: skip


@pytest.mark.parametrize("operator", WITNESSES)
def test_every_proved_range_has_a_witness_or_its_slack_is_explained(operator):
    plan, reached = WITNESSES[operator]()
    proofs = proofs_of(plan)
    for what, proof in proofs.items():
        top = max(-proof.lo, proof.hi)
        share, _ = SLACK.get((operator, what), (0.9, ""))
        assert share * top <= int(reached[what]) <= top, (what, reached[what] / top)


def test_a_linear_reaches_both_ends_of_its_range():
    """Each weight meets the worse end of the codes: exact, with the bias, per channel."""
    model = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])
    engine = refvit.compile(refvit.quantize(model, pixels))
    proofs = {p.site: p for p in engine.proofs if p.what == "accumulator"}
    for site in ("patch_embed", "blocks.0.mlp.fc1", "blocks.3.attn.proj", "head"):
        c = engine.constants[site]
        weight, bias = c.weight.astype(np.int64), c.bias.astype(np.int64)
        highs = np.where(weight > 0, 127, -128)
        top = ((weight * highs).sum(1) + bias).max()
        low = ((weight * np.where(weight > 0, -128, 127)).sum(1) + bias).min()
        assert proofs[site].hi >= top >= 0.9 * proofs[site].hi, site
        assert proofs[site].lo <= low <= 0.9 * proofs[site].lo, site
    assert proofs["blocks.0.mlp.fc2"].why.split("integers in [")[1].startswith("-"), "GELU's least"
    heaviest = np.abs(engine.constants["blocks.0.mlp.fc2"].weight.astype(int)).sum(1).max()
    assert proofs["blocks.0.mlp.fc2"].lo > -128 * heaviest


def test_sums_reach_the_ends_of_their_ranges():
    """An addition of two streams, and a mean over tokens, of codes at their ends."""
    steps = np.array([0.02, 0.05]) / 0.06 * 2**GUARD
    multiplier, shift = dyadic(steps)
    clamp = np.array([-32768, 32767], np.int32)
    held = {"s.multiplier": multiplier, "s.shift": shift, "s.clamp": clamp}
    ops = ProveOps(Params(held), {}, "refvit", {})
    ops.add(Ranged((1, 4), *INT16), Ranged((1, 4), *INT16), site="s")
    low = sum(
        int(PLAIN.requantize(np.array([-32768]), m, s, -(2**31), 2**31 - 1)[0])
        for m, s in zip(multiplier, shift, strict=True)
    )
    assert ops.proofs[0].lo <= low <= 0.9 * ops.proofs[0].lo
    held = {"s.multiplier": multiplier[0], "s.shift": shift[0], "s.clamp": clamp}
    ops = ProveOps(Params(held), {}, "refvit", {})
    ops.mean(Ranged((1, TOKENS, 4), *INT16), axis=1, site="s")
    assert (ops.proofs[0].lo, ops.proofs[0].hi) == (-32768 * TOKENS, 32767 * TOKENS)


def test_products_with_probabilities_are_bounded_by_their_sum():
    assert product_range(197, (0, 255), (-128, 127)) == (-197 * 255 * 128, 197 * 255 * 127)
    assert product_range(197, (0, 255), (-128, 127), 353) == (-353 * 128, 353 * 127)
    assert product_range(2, (0, 255), (-128, 127), 999) == (-510 * 128, 510 * 127)
    one_hot = np.zeros((1, 197), np.uint8)
    one_hot[0, 0] = 255
    reached = PLAIN.matmul(one_hot, np.full((197, 1), -128, np.int8))
    assert -353 * 128 <= reached[0, 0] <= 0.7 * -353 * 128, "197 roundings are the slack"


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=6), st.integers(-500, 500))
def test_dot_range_is_brute_force(weights, bias):
    w, b = np.array([weights], np.int8), np.array([bias], np.int32)
    low, high = dot_range(w, b, -3, 2)
    ends = [0, bias]
    for choice in range(2 ** len(weights)):
        x = [2 if choice >> i & 1 else -3 for i in range(len(weights))]
        partial = np.cumsum(np.multiply(weights, x))
        ends += [int(partial[-1]) + bias, *map(int, partial)]
    assert low <= min(ends)
    assert high >= max(ends)


def test_a_refusal_names_site_range_and_cure():
    with pytest.raises(OverflowError, match=r"blocks\.0: sum range \[0, 2147483648\].*int32; use"):
        prove("blocks.0", "sum", 0, 2**31, "use shorter rows")
    proof = prove("s", "x", -5, 300, "", why="because")
    assert (proof.bits, proof.why) == (10, "because")
    assert widest([proof, Proof("t", "y", 0, 2**20, 32)]).site == "t"
