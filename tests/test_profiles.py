"""The kernel profiles: each runs whole models, in proved ranges, and does what its clause says."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.cli import main
from refvit.files import read_tensors, write_tensors
from refvit.integer import PLAIN, IntegerOps, clauses, specification
from refvit.integer.artefact import seal
from refvit.integer.kernels import (
    gelu,
    ivit_norm,
    layer_norm,
    log_softmax,
    shiftmax,
    softmax,
    tables,
)
from refvit.integer.kernels.profiles import PROFILES
from refvit.models import forward
from refvit.ops import functional as F
from refvit.params import Params
from refvit.quant import Log2Grid, pack, packed_bytes, unpack

MODELS = ["nano_vit", "nano_deit", "nano_swin"]
INT8, INT16 = (-128, 127), (-32768, 32767)


@functools.cache
def prepared(name):
    """A model with random weights, quantized, and three images of noise."""
    model = refvit.random(name, seed=1)
    pixels = np.random.default_rng(0).standard_normal((8, 3, 32, 32), np.float32)
    return refvit.quantize(model, pixels), pixels[:3]


@pytest.mark.parametrize("kernels", PROFILES)
@pytest.mark.parametrize("name", MODELS)
def test_a_profile_runs_every_model_alike_in_both_arithmetics(name, kernels, tmp_path):
    quantized, pixels = prepared(name)
    engine = refvit.compile(quantized, kernels)
    logits = engine(pixels)
    assert np.array_equal(logits, engine(pixels, PLAIN))
    for row in refvit.lockstep(quantized, engine, pixels[:1]):
        assert row.passes, row
    engine.save(tmp_path / "e.safetensors")
    again = refvit.load(tmp_path / "e.safetensors")
    assert (again.digest, again.kernels) == (engine.digest, kernels)
    assert np.array_equal(again(pixels), logits)


@pytest.mark.parametrize("name", MODELS)
def test_tables_are_their_kernels(name):
    quantized, pixels = prepared(name)
    one, other = (refvit.compile(quantized, kernels) for kernels in ("refvit", "table"))
    assert np.array_equal(one(pixels), other(pixels))
    assert any(key.endswith("act.table") for key, _ in other.constants.items())
    assert one.digest != other.digest, "an artefact says which kernels it wants"


@pytest.mark.parametrize("kernels", PROFILES)
def test_no_integer_leaves_its_proved_range(kernels, monkeypatch):
    """Every accumulator of a forward, and of codes at the ends of the grid, lies in its proof."""
    quantized, pixels = prepared("nano_deit")
    engine = refvit.compile(quantized, kernels)
    proofs = {p.site: p for p in engine.proofs if p.what == "accumulator"}
    seen = {}

    def watched(acc, multiplier, shift, lo, hi, bias=None):
        total = acc.astype(np.int64) + (0 if bias is None else bias)
        seen["last"] = (int(total.min()), int(total.max()))
        return PLAIN.requantize(acc, multiplier, shift, lo, hi, bias)

    def tap(site, codes):
        if site in proofs:
            low, high = seen["last"]
            assert proofs[site].lo <= low <= high <= proofs[site].hi, site

    worst = np.where(np.random.default_rng(0).random((3, 3, 32, 32)) < 0.5, -128, 127)
    for codes in (engine.encode(pixels), worst.astype(np.int8)):
        ops = IntegerOps(engine.constants, engine.scales, PLAIN._replace(requantize=watched), tap,
                         kernels)  # fmt: skip
        forward(ops, codes, engine.constants, engine.config)


def test_masked_probabilities_are_zero_in_every_profile():
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 1, 2:], mask[0, 2, :] = True, True
    x = np.random.default_rng(0).integers(-128, 128, (2, 3, 5, 5)).astype(np.int8)
    for name, profile in PROFILES.items():
        grid = Log2Grid(4) if profile.log2 else None
        scale = float(grid.scale) if grid else 1 / 255
        c = Params(profile.softmax.plan("s", 0.05, scale, *INT8, 5)[0])
        hi = 15 if grid else 255
        codes = profile.softmax.run(x, c, PLAIN, 0, hi, mask)
        real = grid.decode(codes, np.float64) if grid else codes * scale
        gone = np.broadcast_to(mask, x.shape)
        assert (real[gone] == 0).all(), name
        assert (real[:, :, 0].sum(-1) > 0.6).all(), name


scales = st.floats(2.0**-10, 1.0)


@given(scales, st.integers(1, 300), st.integers(0, 99))
def test_log_softmax_is_the_nearest_power_of_two(scale, tokens, seed):
    """The code is the exact logarithm rounded; below 2**-10 16-bit exponentials are coarse."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (4, tokens)).astype(np.int8)
    grid = Log2Grid(4)
    constants, proofs = log_softmax.plan("s", scale, float(grid.scale), *INT8, tokens)
    codes = log_softmax.log_softmax(x, Params(constants), PLAIN, 0, 15)
    with np.errstate(under="ignore"):
        exact = F.softmax(x * scale)
    with np.errstate(divide="ignore"):
        power = -np.log2(exact)
    off = np.abs(codes - np.minimum(power, 15))
    assert (off[power < 10] <= 0.53).all()
    assert (off <= 1.1).all()
    total = next(p.hi for p in proofs if p.what == softmax.ROW_SUM)
    assert grid.aligned(codes).sum(1, dtype=np.int64).max() <= total


def test_a_product_with_powers_of_two_is_a_sum_of_shifts():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 16, (3, 7)), rng.integers(-128, 128, (7, 5)).astype(np.int8)
    product = PLAIN.matmul(Log2Grid(4).aligned(a), b)
    for i in range(3):
        for j in range(5):
            shifted = [int(b[k, j]) << (14 - a[i, k]) for k in range(7) if a[i, k] < 15]
            assert product[i, j] == sum(shifted)


@given(st.integers(0, 2**30), st.sampled_from([1, 5, 10, 2048]), st.integers(6, 15))
def test_shift_exp_is_the_papers_formula(below, unit, octaves):
    """2**(-1.4375 x) with a straight line on the fraction, floored as the release does."""
    below = below % (unit * octaves * 2)
    p = max(-below + (-below >> 1) - (-below >> 4), -octaves * unit)
    z = -p // unit
    exact = math.floor(((p + z * unit) / 2 + unit) * 2.0 ** (octaves - z))
    got = shiftmax.shift_exp(np.array([below], np.int32), np.int32(unit), np.int32(octaves))
    assert got[0] == exact


@pytest.mark.parametrize("scale", [2.0**-11, 1 / 64, 1 / 16, 0.1, 0.25, 0.5])
def test_shiftmax_is_within_what_was_measured(scale):
    """No bound is published; 0.08 of a probability up to scale 0.5, as OPERATORS of I-ViT go."""
    ends, kind = (INT16, np.int16) if scale < 2**-7 else (INT8, np.int8)
    rng = np.random.default_rng(0)
    x = np.clip(rng.standard_normal((50, 197)) * 2 / scale, *ends).astype(kind)
    c = Params(shiftmax.plan("s", scale, 1 / 65535, *ends, 197)[0])
    got = shiftmax.shiftmax(x, c, PLAIN, 0, 65535) / 65535
    assert np.abs(got - F.softmax(x * scale)).max() <= 0.08
    assert got.sum(1).min() >= 0.9


@pytest.mark.parametrize(("reach", "error"), [(2, 0.028), (4, 0.028), (8, 0.29), (16, 8.1)])
def test_shift_gelu_fails_where_i_vit_does(reach, error):
    """Beyond 9.4 both exponentials end and the sigmoid is one half: the refvit profile does not."""
    x = np.arange(-128, 128, dtype=np.int8)[None]
    scale = reach / 127
    exact = F.gelu(x * scale)
    c = Params(shiftmax.plan_gelu("s", scale, reach / 32767, *INT8)[0])
    got = shiftmax.shift_gelu(x, c, PLAIN, *INT16) * reach / 32767
    worst = np.abs(got - exact).max()
    assert 0.9 * error <= worst <= error
    good = Params(gelu.plan("s", scale, reach / 32767, *INT8)[0])
    ours = gelu.gelu(x, good, PLAIN, *INT16) * reach / 32767
    assert np.abs(ours - exact).max() <= 0.0183 + reach * 2.0**-12
    half = shiftmax.shift_gelu(x[:, :128], c, PLAIN, *INT16) * reach / 32767
    assert np.abs(half).max() < 1, "a row of negatives does not shift beyond int32"


def test_ten_newton_steps_are_not_a_root_of_small_numbers():
    n = np.arange(1, 150_000, dtype=np.int32)
    off = ivit_norm.newton_sqrt(n) - np.sqrt(n).astype(np.int32)
    assert (off >= 0).all(), "never below the root, on which the proof leans"
    assert off[1024 - 1] == 68 - 32
    assert (off[142_882:] <= 1).all()
    assert off[142_880] > 0


@given(st.sampled_from([1, 2, 48, 768, 3072]), st.booleans(), st.integers(0, 50))
def test_i_layer_norm_never_wraps(width, wide, seed):
    """In int64 it gives the same codes: also for one outlier, for constants, and at both ends."""
    rng = np.random.default_rng(seed)
    ends = INT16 if wide else INT8
    x = rng.integers(ends[0], ends[1] + 1, (4, width))
    x[1], x[2], x[3] = ends[0], np.where(rng.random(width) < 0.5, *ends), 0
    x[3, 0] = ends[1]
    gamma, beta = rng.standard_normal(width), rng.standard_normal(width)
    plan = ivit_norm.plan("s", 1e-3, 1 / 500, *ends, gamma, beta, 1e-5)
    c = Params(plan[0])
    codes = ivit_norm.i_layer_norm(x.astype(np.int16), c, PLAIN, *INT16)
    wide_c = c.map(lambda t: t.astype(np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivit_norm, "np", Wide())
        assert np.array_equal(codes, ivit_norm.i_layer_norm(x, wide_c, PLAIN, *INT16))


class Wide:
    """NumPy, but with int64 for int32."""

    int32 = np.int64

    def __getattr__(self, name):
        return getattr(np, name)


def test_a_scale_that_leaves_no_octaves_does_not_compile():
    with pytest.raises(OverflowError, match="octaves of int32; give this site's input fewer bits"):
        shiftmax.plan("s", 1e-7, 1 / 255, *INT16, 197)
    with pytest.raises(OverflowError, match="rows of 100000 tokens do not fit"):
        log_softmax.plan("s", 0.1, 2.0**-14, *INT8, 100_000)
    with pytest.raises(ValueError, match="no kernel profile 'ibert'; there are refvit, ivit"):
        refvit.compile(prepared("nano_vit")[0], kernels="ibert")


@given(st.integers(1, 8), st.integers(0, 40), st.booleans(), st.integers(0, 9))
def test_packing_is_a_bijection_of_the_stated_size(bits, count, signed, seed):
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = np.int8 if signed else np.uint8
    codes = np.random.default_rng(seed).integers(lo, hi + 1, count).astype(kind)
    stream = pack(codes, bits)
    assert stream.nbytes == packed_bytes(count, bits) == math.ceil(count * bits / 8)
    assert np.array_equal(unpack(stream, bits, (count,), kind), codes)
    number = int.from_bytes(stream.tobytes(), "little")
    for i, code in enumerate(codes):
        assert (number >> (i * bits)) % 2**bits == int(code) % 2**bits


@pytest.mark.parametrize("bits", [-1, 0, 9, 12, 16])
def test_codes_of_more_than_a_byte_or_of_nothing_are_not_packed(bits):
    for act in (
        lambda: pack(np.zeros(3, np.int8), bits),
        lambda: unpack(np.zeros(abs(2 * bits), np.uint8), bits, (2,)),
    ):
        with pytest.raises(ValueError, match=f"codes of 1 to 8 bits are packed; asked for {bits}"):
            act()


def test_four_bits_are_two_to_a_byte_in_the_file(tmp_path):
    model = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])
    sizes = {}
    for recipe in ("w8a8", "w4a8"):
        engine = refvit.compile(refvit.quantize(model, pixels, recipe))
        engine.save(tmp_path / f"{recipe}.safetensors")
        sizes[recipe] = (tmp_path / f"{recipe}.safetensors").stat().st_size
        assert refvit.load(tmp_path / f"{recipe}.safetensors").digest == engine.digest
    weights = sum(t.size for n, t in engine.constants.items() if n.endswith(".weight"))
    assert abs(sizes["w8a8"] - sizes["w4a8"] - weights / 2) < 1500, "labels differ in digits"


def replayed(engine, path):
    engine.save(path)
    return refvit.load(path)


def bent(name, change):
    """A change of one constant."""

    def apply(constants, widths):
        constants[name] = change(constants[name])

    return apply


FC1, ACT, NORM = "blocks.0.mlp.fc1", "blocks.0.mlp.act", "blocks.0.norm1"
BROKEN = [
    (lambda c, w: w.update({"head.weight": 3}), "do not fit 3 bits"),
    (
        lambda c, w: w.update({"head.weight": 9}),
        r"int8 \[10, 48\], it must be int16",
    ),
    (lambda c, w: w.update({"tail": 8}), "a width is given for tail"),
    (lambda c, w: w.pop("head.weight"), "no width is given for head.weight"),
    (lambda c, w: w.update({"head.bias": 8}), "a width is given for head.bias"),
    (bent("head.weight", lambda t: t[:, :-1]), r"head.weight is int8 \[10, 47\]"),
    (bent("head.multiplier", lambda t: t << 1), "head.multiplier lies in"),
    (bent("head.multiplier", lambda t: t[:-1]), r"head.multiplier is int32 \[9\]"),
    (bent("head.multiplier", lambda t: t.astype(np.int8)), "head.multiplier is int8"),
    (bent("head.shift", lambda t: t + 60), r"it must in \[1, 53\]"),
    (bent("head.bias", lambda t: t.astype(np.int64)), "head.bias is int64"),
    (
        bent(f"{FC1}.bias", lambda t: np.full_like(t, 2**31 - 1)),
        f"{FC1}: accumulator range .* int32",
    ),
    (bent("head.clamp", lambda t: t * 0 + 5), r"head.clamp \[5, 5\] is no range of codes"),
    (bent("input.clamp", lambda t: t[:1]), r"input.clamp is int32 \[1\]"),
    (lambda c, w: c.pop("head.clamp"), "it lacks head.clamp"),
    (lambda c, w: c.pop("head.bias"), "it lacks head.bias"),
    (lambda c, w: c.pop(f"{NORM}.offset"), f"it lacks {NORM}.offset"),
    (bent(f"{ACT}.keep", lambda t: np.full_like(t, -(2**31))), f"{ACT}.keep lies in"),
    (bent(f"{ACT}.keep", lambda t: t * 0), f"{ACT}: x .* does not fit int32"),
    (bent(f"{NORM}.eps_exponent", lambda t: np.full_like(t, 2**31 - 1)), "eps_exponent lies in"),
    (bent(f"{NORM}.offset", lambda t: np.full_like(t, 2**31 - 1)), f"{NORM}: gamma n . beta range"),
    (lambda c, w: [c.pop(k) for k in list(c) if k.startswith(NORM)], "there are"),
    (lambda c, w: [c.pop(k) for k in list(c) if ".1.add1." in k], "it lacks blocks.1.add1"),
    (lambda c, w: c.update({"foo.bar": np.zeros(1, np.int8)}), "foo.bar is no constant"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=range(len(BROKEN)))
def test_an_artefact_that_contradicts_itself_is_refused(change, message, tmp_path):
    """Its digest and seal are right: what is wrong are the integers, which are proved anew."""
    quantized, _ = prepared("nano_vit")
    engine = refvit.compile(quantized)
    constants, widths = dict(engine.constants.items()), dict(engine.widths)
    change(constants, widths)
    broken = dataclasses.replace(engine, constants=Params(constants), widths=widths)
    with pytest.raises(ValueError, match=message):
        replayed(broken, tmp_path / "b.safetensors")


@pytest.mark.parametrize("one", PROFILES)
@pytest.mark.parametrize("other", PROFILES)
def test_constants_of_one_profile_are_not_taken_for_another(one, other, tmp_path):
    engine = refvit.compile(prepared("nano_vit")[0], one)
    claimed = dataclasses.replace(engine, kernels=other)
    if one == other:
        assert replayed(claimed, tmp_path / "e.safetensors").digest == engine.digest
        return
    with pytest.raises(ValueError, match=r"it lacks|is no constant|it must"):
        replayed(claimed, tmp_path / "e.safetensors")


META = [
    ("preprocess", '{"size": [32, 32], "mean": [0.9, 0.1, 0.5], "std": [1.0, 1.0, 1.0]}'),
    ("labels", '["a"]'), ("scales", "{}"), ("recipe", '"w2a2"'), ("digest", "null"),
    ("widths", "{}"), ("provenance", "{}"), ("kernels", '"table"'), ("config", "[" * 100_000),
    ("labels", "7"), ("specification", "2.0"), ("scales", '{"head": "abc"}'), ("widths", "[]"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), META, ids=range(len(META)))
@pytest.mark.parametrize("sealed", [False, True])
def test_metadata_that_were_changed_are_refused_in_one_line(key, value, sealed, tmp_path):
    """Also by one who seals them again, unless they then say something that can be."""
    engine = refvit.compile(prepared("nano_vit")[0])
    engine.save(tmp_path / "e.safetensors")
    tensors, meta = read_tensors(tmp_path / "e.safetensors")
    meta = meta | {key: value}
    if sealed:
        meta["seal"] = seal(meta)
    write_tensors(tmp_path / "b.safetensors", tensors, meta)
    if sealed and key in ("recipe", "provenance", "preprocess"):
        return
    with pytest.raises(ValueError, match=r"b\.safetensors") as error:
        refvit.load(tmp_path / "b.safetensors")
    assert len(str(error.value)) < 600


def test_a_newer_specification_is_refused(tmp_path, monkeypatch):
    engine = refvit.compile(prepared("nano_vit")[0])
    monkeypatch.setattr("refvit.integer.artefact.SPECIFICATION", 3)
    engine.save(tmp_path / "e.safetensors")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="follows specification 3, this refvit knows 2; update"):
        refvit.load(tmp_path / "e.safetensors")


def test_the_specification_is_one_page_of_numbered_clauses(capsys):
    text = specification()
    assert text.startswith("# The integer engine: specification, version 2")
    assert len(text.splitlines()) < 160
    for number in ("1.4", "2.2", "3.3", "4.1", "4.2", "4.3", "5.1", "5.2", "5.3", "8.2"):
        assert clauses()[number] in text
    assert main(["spec", "4.2"]) == 0
    assert "10247" in capsys.readouterr().out
    assert main(["spec", "9"]) == 2
    for module in (softmax, gelu, layer_norm, shiftmax, ivit_norm, log_softmax, tables):
        assert "clause" in module.__doc__, f"{module.__name__} cites what it implements"


def test_prove_prints_a_table_and_every_range(capsys):
    assert main(["prove", "nano_vit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["proofs"]) > 100
    assert all(p["bits"] <= p["width"] and p["why"] for p in found["proofs"])
    assert main(["prove", "nano_vit"]) == 0
    text = capsys.readouterr().out
    assert "sum |w| <=" in text
    assert "No overflow is possible" in text


def test_quantize_writes_an_artefact_that_prove_reads(tmp_path, capsys):
    out = tmp_path / "e.safetensors"
    assert (
        main(["quantize", "nano_vit", "--recipe", "w4a8", "--kernels", "log2", "-o", str(out)]) == 0
    )
    assert main(["prove", str(out), "--json"]) == 0
    assert refvit.load(out).kernels == "log2"
    assert main(["quantize", "nano_vit", "-o", str(tmp_path / "no" / "e.safetensors")]) == 2
    assert "no directory" in capsys.readouterr().err


def test_profiles_compares_them_all(capsys):
    assert main(["profiles", "nano_vit", "--count", "20"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PROFILES)
    assert "same class" in text


def test_a_derived_shift_that_is_broken_is_refused(monkeypatch):
    """One bit less of GELU's shift, and its product is no longer within what was proved."""
    monkeypatch.setattr(gelu, "PRODUCT_EXACT", 1 << 40)
    with pytest.raises(OverflowError, match=r"s: x \(1 \+ L\) range .* does not fit int32"):
        gelu.plan("s", 1e-3, 1e-3, *INT16)
    monkeypatch.setattr(softmax, "RECIPROCAL", 31)
    with pytest.raises(OverflowError, match="exponential x reciprocal"):
        softmax.plan("s", 0.1, 1 / 255, *INT8, 197)
    monkeypatch.setattr(layer_norm, "ROOT_BITS", 17)
    with pytest.raises(OverflowError, match="y x reciprocal"):
        layer_norm.plan("s", 0.1, 0.1, *INT8, np.ones(8), np.zeros(8), 0.0)
    monkeypatch.setattr(shiftmax, "octaves_of", lambda *a: 30)
    with pytest.raises(OverflowError, match="sum of exp"):
        shiftmax.plan("s", 0.1, 1 / 255, *INT8, 197)
