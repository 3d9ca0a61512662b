"""Asymmetric activations in the engine: zero points anywhere, exactly. Clauses 1.5, 3.7 and 5.3."""

import dataclasses

import numpy as np
import pytest
from asymmetric_models import CONFIGS, KERNELS, activations, plain, shifted, simulated, zeros
from hypothesis import example, given, settings
from hypothesis import strategies as st

import refvit
from refvit.integer import FAST, PLAIN, IntegerOps, QTensor
from refvit.integer.arithmetic import fast_matmul
from refvit.integer.grids import operand
from refvit.integer.zero_points import stored
from refvit.models import logits_site
from refvit.params import Params
from refvit.quant import PowerOfTwoFactor, QParams, code_range

EXACT = ("linear", "matmul", "concat", "mean")


@settings(max_examples=10)
@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 2**16), st.sampled_from(KERNELS))
@example("swin", 3, "table")
@example("deit", 1, "ivit")
@example("vit", 2, "log2")
@example("vit", 5, "table")
def test_any_zero_point_runs_exactly(tmp_path_factory, name, seed, kernels):
    """Lockstep in both arithmetics, which agree; labels say nothing; a file replays."""
    quantized, pixels = shifted(name, seed)
    engine = refvit.compile(quantized, kernels)
    for row in refvit.lockstep(quantized, engine, pixels, PLAIN):
        assert row.passes, row
        assert row.op not in EXACT or row.allowed == 0
    assert all(row.passes for row in refvit.lockstep(quantized, engine, pixels))
    logits = engine(pixels)
    assert np.array_equal(logits, engine(pixels, PLAIN))
    nothing = dict.fromkeys(engine.scales, float("nan"))
    unlabelled = dataclasses.replace(engine, scales=nothing)
    assert np.array_equal(unlabelled.run(engine.encode(pixels)), logits)
    path = tmp_path_factory.mktemp("asymmetric") / "e.safetensors"
    engine.save(path)
    assert np.array_equal(refvit.load(path)(pixels), logits)
    wanted = zeros(quantized.qparams)
    softmaxes = {s for s in wanted if kernels == "log2" and s.endswith("softmax")}  # powers of two
    found = {s: engine.grid(s) for s in activations(engine.config)}
    assert zeros(found) == {s: z for s, z in wanted.items() if s not in softmaxes}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_zero_point_in_the_middle_is_the_symmetric_engine(name, kernels):
    """Unsigned codes less 2^(b-1) are signed ones: every integer is the same, padding too."""
    quantized, pixels = simulated(name)
    middle = {
        s: dataclasses.replace(q, signed=False, zero_point=1 << q.bits - 1)
        for s in activations(quantized.config)
        if (q := quantized.qparams[s]).signed and q.bits == 8
    }
    moved = dataclasses.replace(quantized, qparams={**quantized.qparams, **middle})
    engines = [refvit.compile(q, kernels) for q in (quantized, moved)]
    seen = [{}, {}]
    logits = [
        e.run(e.encode(pixels), FAST, s.__setitem__) for e, s in zip(engines, seen, strict=True)
    ]
    assert np.array_equal(*logits)
    for site, codes in seen[0].items():
        shift = 0 if site not in middle else int(middle[site].zero_point)
        assert np.array_equal(codes.astype(int) + shift, seen[1][site]), site
        assert codes.itemsize == seen[1][site].itemsize


DIGESTS = {
    ("vit", "refvit"): "e782a279dd6c77e8", ("vit", "ivit"): "9f3d47bc37b07e20",
    ("vit", "log2"): "b5123582a64fea15", ("vit", "table"): "6dab9eeb7fba40c4",
    ("deit", "refvit"): "fdbba6d72dea23b1", ("deit", "ivit"): "f52478cedc95e077",
    ("deit", "log2"): "ce88ba940bd3f4ed", ("deit", "table"): "d2839fdd72e5d1bb",
    ("swin", "refvit"): "3651669effed2eb3", ("swin", "ivit"): "034fefd80dcae84c",
    ("swin", "log2"): "b639ba49428e412b", ("swin", "table"): "bb397832eee68892",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kernels"), DIGESTS)
def test_symmetric_grids_compile_to_the_constants_they_always_did(name, kernels):
    """The digests are those from before there were zero points."""
    engine = refvit.compile(plain(name)[0], kernels)
    assert engine.digest[:16] == DIGESTS[name, kernels]
    assert not [n for n, _ in engine.constants.items() if "zero_point" in n]


@given(st.integers(2, 16), st.booleans(), st.integers(0, 2**16), st.integers(1, 40))
def test_reading_undoes_writing_and_bounds_are_those_of_the_grid(bits, signed, place, count):
    """Of every integer that a site can make; the greatest is known, for FAST to stay in float32."""
    lo, hi = code_range(bits, signed)
    zero = lo + place % (hi - lo + 1)
    clamp = np.array([lo, hi], np.int32)
    c = {"s.clamp": clamp, "s.zero_point": np.array(zero, np.int32),
         "s.input0_clamp": clamp, "s.input0_zero_point": np.array(zero, np.int32)}  # fmt: skip
    made = np.linspace(lo - zero, hi - zero, count + 1).astype(np.int32)
    codes = stored(made, clamp, zero)
    assert lo <= codes.min() <= codes.max() <= hi
    integers, most = operand(Params(c).s, 0, codes)
    assert np.array_equal(integers, made)
    assert np.abs(integers.astype(int)).max() == most == max(zero - lo, hi - zero)


@pytest.mark.parametrize(("zero", "far"), [(1, 255), (255, 0)])
def test_fast_is_told_the_greatest_integers_that_there_are(zero, far):
    """No less, as a float32 would lose a bit, and no more: of codes as far from zero as any."""
    most, told = abs(far - zero), []

    def told_of(a, b, given):
        told.append((given, tuple(int(np.abs(x.astype(int)).max()) for x in (a, b))))
        return FAST.matmul(a, b, given)

    one, clamp = {"multiplier": np.int32(1 << 23), "shift": np.int32(24)}, np.array([0, 255])
    constants = {"out.clamp": np.array([-128, 127]), "out.weight": np.full((1, 2), -128, np.int8)}
    constants |= {f"out.{name}": value for name, value in one.items()}
    for k in (0, 1):
        constants |= {f"out.input{k}_clamp": clamp, f"out.input{k}_zero_point": np.int32(zero)}
    ops = IntegerOps(Params(constants), {"out": 1.0}, FAST._replace(matmul=told_of))
    x = QTensor(np.full((2, 2), far, np.uint8), 1.0, zero)
    ops.linear(x, Params(constants).out)
    ops.matmul(x, x, site="out")
    assert told == [((most, 128), (most, 128)), ((most, most), (most, most))]


def test_nine_bits_are_multiplied_in_float32_where_that_is_exact():
    """At the ends, where one more in K would round."""
    a, b = np.full((1, 258), -255, np.int16), np.full((258, 1), 255, np.int16)
    a[0, 0], a[0, 1] = -254, -255
    known, unknown = fast_matmul(a, b, (255, 255)), fast_matmul(a, b)
    assert (known.dtype, unknown.dtype) == (np.float32, np.float64)
    assert known[0, 0] == unknown[0, 0] == -(257 * 255 + 254) * 255


def test_padding_stands_for_zero():
    ops = refvit.compile(simulated("swin")[0]).ops()
    x = QTensor(np.array([[[3, -4]]], np.int8), 1.0, zero=-7)
    rolled = ops.roll(ops.rearrange(x, "b n c -> b c n"), (1,), axes=(1,))
    padded = ops.pad(rolled, (1,), axes=(2,))
    assert padded.codes.tolist() == [[[-4, -7], [3, -7]]]
    assert (padded.zero, padded.codes.dtype) == (-7, np.int8)


def test_operators_of_differences_take_codes_as_they_are():
    """So scores keep their table, and a norm reads a stream of 16 bits."""
    quantized, pixels = simulated("vit")
    scores, stream = "blocks.0.attn.scores", "blocks.0.add1"
    grids = dict(quantized.qparams)
    grids[scores] = QParams(grids[scores].scale, 8, zero_point=-100)
    grids[stream] = QParams(grids[stream].scale, 16, zero_point=-9000)
    shift = dataclasses.replace(quantized, qparams=grids)
    engine = refvit.compile(shift, "table")
    assert engine.constants["blocks.0.attn.softmax.table"].shape == (256,)
    assert not [n for n in ("attn.softmax", "norm2")
                if engine.constants.get(f"blocks.0.{n}.input0_zero_point") is not None]  # fmt: skip
    assert engine.constants["blocks.0.add2.input0_zero_point"] == -9000
    assert all(row.passes for row in refvit.lockstep(shift, engine, pixels))
    assert np.array_equal(engine(pixels), refvit.compile(shift)(pixels))


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_what_the_codes_of_the_head_stand_for(name):
    """Also where these have a factor for each channel."""
    quantized, pixels = simulated(name)
    head = logits_site(quantized.config)
    seen, q = {}, QParams(quantized.qparams[head].scale * 300, 8, False, zero_point=90)
    engine = refvit.compile(dataclasses.replace(quantized, qparams={**quantized.qparams, head: q}))
    logits = engine.run(engine.encode(pixels), FAST, seen.__setitem__)
    assert logits.dtype == np.int32
    assert np.array_equal(logits, seen[head].astype(int) - 90)
    if name != "deit":  # whose logits are a mean
        ptf = PowerOfTwoFactor(q.scale, np.array([0, 1, 2]), signed=True)
        with_ptf = dataclasses.replace(quantized, qparams={**quantized.qparams, head: ptf})
        engine = refvit.compile(with_ptf)
        logits = engine.run(engine.encode(pixels), FAST, seen.__setitem__)
        assert np.array_equal(logits, seen[head].astype(int) << [0, 1, 2])
