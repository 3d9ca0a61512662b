"""The integer-only engine as a whole: the contract of its docstring, tested from outside."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit.checkpoints import weights_folder
from refvit.integer import FAST, PLAIN, IntegerOps
from refvit.integer.bounds import dot_range
from refvit.integer.fixedpoint import dyadic
from refvit.integer.kernels.softmax import by_window
from refvit.integer.prover import ProveOps
from refvit.integer.ranged import Ranged
from refvit.lockstep import LockstepOps, activation_grids, reference_params
from refvit.models import ViTConfig, forward, random_params, workload_records
from refvit.models.windows import shift_mask
from refvit.params import Params
from refvit.quant import Recipe, Spec

# A compiled nano_vit (tests/golden/make_engine.py), and its logits of the first 12 test images.
GOLDEN = Path(__file__).parent / "golden" / "nano_vit_w8a8.safetensors"
DIGEST = "12c819901a8141dd9e1c938c5f34bcaf1ac694315b3ef1d301713ce2e93e10f5"


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture(scope="module")
def pixels(model):
    return model.preprocess.normalise(refvit.data.shapes10("test", 12)[0])


@pytest.fixture(scope="module")
def calibration(model):
    return model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])


@pytest.fixture(scope="module")
def quantized(model, calibration):
    return refvit.quantize(model, calibration, recipe="w8a8")


@pytest.fixture(scope="module")
def engine(quantized):
    return refvit.compile(quantized, kernels="refvit")


def test_logits_are_int32_at_one_scale_and_close_to_the_simulated(engine, quantized, pixels):
    codes = engine(pixels)
    assert codes.dtype == np.int32
    assert codes.shape == (12, 10)
    simulated = quantized(pixels)
    assert np.abs(codes * engine.scale - simulated).max() < 0.2 * np.abs(simulated).max()


@pytest.mark.parametrize("recipe", ["w8a8", "w4a4"])
def test_lockstep_exact_for_linear_and_one_code_for_the_rest(model, calibration, pixels, recipe):
    quantized = refvit.quantize(model, calibration, recipe)
    rows = refvit.lockstep(quantized, refvit.compile(quantized), pixels[:4])
    assert {r.site for r in rows} == {
        r.site for r in workload_records(model.config) if r.op not in ("input", "output", "param")
    }
    for row in rows:
        assert row.passes, row
        assert row.allowed == (0 if row.op in ("linear", "matmul", "concat") else 1), row


ODD = ViTConfig(12, 2, 3, 20, image=(8, 12), patch=(4, 2), channels=1, classes=3, eps=1e-3,
                qkv_bias=False)  # fmt: skip


def test_lockstep_without_bias_on_a_grey_oblong_image():
    params = random_params(ODD, 4)
    model = refvit.Model(ODD, params, None, ("a", "b", "c"))
    pixels = np.random.default_rng(0).standard_normal((6, 1, 8, 12)).astype(np.float32)
    quantized = refvit.quantize(model, pixels)
    engine = refvit.compile(quantized)
    for row in refvit.lockstep(quantized, engine, pixels):
        assert row.passes, row
    assert np.array_equal(engine(pixels), engine(pixels, PLAIN))


PEERS = sorted(path.parent.name for path in GOLDEN.parent.glob("*/peer.npz"))


@pytest.mark.parametrize("recipe", ["w8a8", "w4a4"])
@pytest.mark.parametrize("folder", PEERS)
def test_lockstep_on_the_peers_checkpoints(folder, recipe, tmp_path):
    """Every family and option that a golden checkpoint has; and the artefact replays."""
    pixels = np.load(GOLDEN.parent / folder / "peer.npz")["pixels"]
    model = refvit.load(GOLDEN.parent / folder).at(*pixels.shape[2:])
    quantized = refvit.quantize(model, pixels, recipe)
    engine = refvit.compile(quantized)
    for row in refvit.lockstep(quantized, engine, pixels):
        assert row.passes, row
    codes = engine(pixels)
    assert np.array_equal(codes, engine(pixels, PLAIN))
    engine.save(tmp_path / "e.safetensors")
    assert np.array_equal(refvit.load(tmp_path / "e.safetensors")(pixels), codes)
    if recipe == "w8a8":
        reals = codes * engine.scale
        assert np.abs(reals - quantized(pixels)).max() <= 0.1 * np.abs(reals).max()


@pytest.mark.parametrize("folder", ["hf_swin", "timm_swin"])
def test_a_masked_position_has_probability_zero_and_the_others_make_one(folder):
    pixels = np.load(GOLDEN.parent / folder / "peer.npz")["pixels"]
    engine = refvit.compile(refvit.quantize(refvit.load(GOLDEN.parent / folder), pixels))
    seen = {}
    engine.run(engine.encode(pixels), FAST, seen.__setitem__)
    for i, stage in enumerate(engine.config.stages):
        whole = tuple(-(-g // w) * w for g, w in zip(stage.grid, stage.window, strict=True))
        mask = shift_mask(whole, stage.window, stage.shift)
        codes = seen[f"stages.{i}.blocks.1.attn.softmax"]
        gone = by_window(mask, codes.shape)
        assert gone.any()
        assert (codes[gone] == 0).all()
        mass = codes.sum(-1, dtype=np.int64) * engine.scales[f"stages.{i}.blocks.1.attn.softmax"]
        assert np.abs(mass - 1).max() < 0.05


def test_scores_behind_a_mask_do_not_count_however_large():
    """In float, -100 is not enough against 300; in the engine the position does not exist."""
    from refvit.integer.kernels import softmax

    constants, _ = softmax.plan("s", 2.0, 1 / 255, -128, 127, 4)
    scores = np.array([[[[100, 0, -100, 5]] * 4]] * 2, np.int8)
    mask = np.zeros((2, 4, 4), bool)
    mask[1, :, 0] = True
    codes = softmax.softmax(scores, refvit.params.Params(constants), FAST, 0, 255, mask)
    assert (codes[0, 0] == [255, 0, 0, 0]).all()
    assert (codes[1, 0, :, 0] == 0).all()
    assert (codes[1, 0, :, 3] == 255).all()


def test_two_heads_meet_in_integers_at_one_scale():
    pixels = np.load(GOLDEN.parent / "hf_deit" / "peer.npz")["pixels"]
    engine = refvit.compile(refvit.quantize(refvit.load(GOLDEN.parent / "hf_deit"), pixels))
    seen = {}
    engine.run(engine.encode(pixels), FAST, seen.__setitem__)
    assert engine.scale == engine.scales["heads_mean"]
    reals = {site: codes * engine.scales[site] for site, codes in seen.items()}
    mean = (reals["head"] + reals["head_dist"]) / 2
    whole = (np.abs(seen["heads"].astype(int)).max(1) < 32767) & (
        np.abs(seen["heads_mean"].astype(int)) < 32767
    )  # nothing saturated
    apart = np.abs(reals["heads_mean"] - mean)[whole]
    assert apart.size > 5
    assert apart.max() <= 0.5 * (engine.scale + engine.scales["heads"]) * (1 + 1e-6)


def test_a_gain_of_any_sign_is_folded_into_the_multiplier():
    pixels = np.load(GOLDEN.parent / "timm_vit_options" / "peer.npz")["pixels"]
    model = refvit.load(GOLDEN.parent / "timm_vit_options")
    tensors = dict(model.params.items())
    gain = tensors["blocks.0.mlp.fc2.gain"].copy()
    gain[:3] = 0.0, -0.7, 1e-6
    tensors["blocks.0.mlp.fc2.gain"] = gain
    model = dataclasses.replace(model, params=refvit.params.Params(tensors))
    quantized = refvit.quantize(model, pixels)
    engine = refvit.compile(quantized)
    multiplier = engine.constants["blocks.0.mlp.fc2.multiplier"]
    assert multiplier[0] == 0
    assert multiplier[1] < 0
    for row in refvit.lockstep(quantized, engine, pixels):
        assert row.passes, row


def test_lockstep_notices_a_wrong_integer(engine, quantized, pixels):
    """The definition of `engine` against a candidate whose one bias is off by a code or more."""
    broken = dict(engine.constants.items())
    broken["blocks.1.mlp.fc1.bias"] = broken["blocks.1.mlp.fc1.bias"] + 4000
    candidate = dataclasses.replace(engine, constants=refvit.params.Params(broken))
    ops = LockstepOps(candidate, activation_grids(engine), FAST)
    reference = reference_params(quantized, engine)
    forward(ops, pixels[:2].astype(np.float64), reference, engine.config)
    assert [d.site for d in ops.differences if d.worst > 1] == ["blocks.1.mlp.fc1"]


def test_scales_replaced_by_nan_change_nothing(engine, pixels):
    labels = dict.fromkeys(engine.scales, float("nan")) | {"input": engine.scales["input"]}
    assert np.array_equal(dataclasses.replace(engine, scales=labels)(pixels), engine(pixels))
    nothing = dict.fromkeys(engine.scales, float("nan"))
    codes = engine.encode(pixels)
    assert np.array_equal(dataclasses.replace(engine, scales=nothing).run(codes), engine(pixels))


def test_both_arithmetics_agree_at_every_site(engine, pixels):
    seen = {"plain": {}, "fast": {}}
    codes = engine.encode(pixels[:3])
    engine.run(codes, PLAIN, seen["plain"].__setitem__)
    engine.run(codes, FAST, seen["fast"].__setitem__)
    assert seen["plain"].keys() == seen["fast"].keys()
    for site, plain in seen["plain"].items():
        assert plain.dtype == seen["fast"][site].dtype, site
        assert np.array_equal(plain, seen["fast"][site]), site


def test_both_arithmetics_agree_on_adversarial_images(engine):
    rng = np.random.default_rng(0)
    worst = rng.choice(np.array([-128, 127], np.int8), (4, 3, 32, 32))
    worst[0], worst[1] = -128, 127
    assert np.array_equal(engine.run(worst, PLAIN), engine.run(worst, FAST))


def test_a_batch_is_its_images(engine, pixels):
    alone = np.concatenate([engine(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.array_equal(alone, engine(pixels))


class IntegersOnly(np.ndarray):
    """An array that fails the test when NumPy computes with, or makes, anything but integers."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(o) for o in out)
        for x in plain:
            assert np.asarray(x).dtype.kind in "iub", (
                f"{ufunc.__name__} reads {np.asarray(x).dtype}"
            )
        result = getattr(ufunc, method)(*plain, **kwargs)
        assert np.asarray(result).dtype.kind in "iub", f"{ufunc.__name__} makes {result.dtype}"
        if np.asarray(result).dtype.itemsize == 8:
            WIDE.add(ufunc.__name__)
        return result.view(IntegersOnly) if isinstance(result, np.ndarray) else result


WIDE: set[str] = set()


@pytest.mark.parametrize("zero_point", [0, 100])
def test_the_plain_path_computes_with_integers_only(quantized, pixels, zero_point):
    """Where codes stand for others, too."""
    sites = ("input", "embed", "blocks.0.attn.q", "blocks.1.mlp.fc1", "blocks.1.mlp.act", "head")
    grids = dict(quantized.qparams)
    grids |= {s: dataclasses.replace(grids[s], zero_point=zero_point) for s in sites}
    engine = refvit.compile(dataclasses.replace(quantized, qparams=grids))
    constants = engine.constants.map(lambda t: t.view(IntegersOnly))
    ops = IntegerOps(constants, engine.scales, PLAIN)
    codes = engine.encode(pixels[:1]).view(IntegersOnly)
    WIDE.clear()
    out = forward(ops, codes, constants, engine.config)
    assert np.array_equal(out.codes - np.int32(out.zero), engine(pixels[:1]))
    assert WIDE <= {
        "multiply",
        "add",
        "right_shift",
        "left_shift",
        "subtract",
        "clip",
        "minimum",
        "maximum",
    }
    with pytest.raises(AssertionError, match="float"):
        _ = codes * 0.5


def test_every_constant_is_an_integer_of_its_declared_width(engine):
    for name, tensor in engine.constants.items():
        assert tensor.dtype.kind in "iu", name
        assert tensor.dtype.itemsize <= 4, name
        if name.endswith(".weight"):
            assert tensor.dtype == np.int8
            assert np.abs(tensor.astype(int)).max() <= 127


PRINT_DIGEST = """
import hashlib, sys, refvit
engine = refvit.load(sys.argv[1])
images, _ = refvit.data.shapes10("test", 12)
logits = engine(engine.preprocess.normalise(images))
print(hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest())
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_codes_are_pinned_under_any_number_of_threads(threads):
    """A fresh process for each count, because BLAS reads it once."""
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST, str(GOLDEN)],
        env=os.environ | dict.fromkeys(variables, threads),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(refvit.__file__).parents[1],
    )
    assert done.stdout.strip() == DIGEST


@pytest.mark.parametrize("arithmetic", [PLAIN, FAST], ids=["plain", "fast"])
def test_the_codes_are_pinned_in_both_arithmetics(pixels, arithmetic):
    logits = refvit.load(GOLDEN)(pixels, arithmetic)
    assert hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest() == DIGEST


def test_every_accumulator_stays_in_its_proved_range_and_one_input_reaches_it(engine):
    proofs = {p.site: p for p in engine.proofs if p.what == "accumulator"}
    site = "blocks.0.mlp.fc1"
    c = engine.constants[site]
    acc = c.weight.astype(np.int64)
    best = max(int(np.abs(row).sum()) for row in acc)
    worst = np.where(acc[np.abs(acc).sum(1).argmax()] > 0, 127, -128)
    reached = int((acc @ worst + c.bias).max())
    assert proofs[site].lo <= reached <= proofs[site].hi
    assert reached >= 0.9 * proofs[site].hi
    assert proofs[site].hi <= best * 128 + int(np.abs(c.bias).max())


def test_dot_range_is_brute_force_on_small_weights():
    w, b = np.array([[3, -2], [-1, 0]], np.int8), np.array([5, -400], np.int32)
    ends = [
        w.astype(int) @ np.array([x, y]) + k * b for x in (-4, 3) for y in (-4, 3) for k in (0, 1)
    ]
    low, high = dot_range(w, b, -4, 3)
    assert low == min(0, min(e.min() for e in ends))
    assert high == max(0, max(e.max() for e in ends))


def test_a_site_that_cannot_be_proved_does_not_compile(model, calibration):
    """Twelve products of two 16-bit codes do not fit int32."""
    wide = {"*.weight": Spec(8, axis=0), "*": Spec(16)}
    quantized = refvit.quantize(model, calibration, Recipe("wide", wide))
    with pytest.raises(
        OverflowError, match=r"blocks\.0\.attn\.scores: accumulator range .* int32; give"
    ):
        refvit.compile(quantized)
    with pytest.raises(ValueError, match="no kernel profile 'ibert'"):
        refvit.compile(quantized, kernels="ibert")


def test_an_artefact_replays_bit_for_bit_and_is_guarded(engine, pixels, tmp_path):
    engine.save(tmp_path / "e.safetensors")
    first = (tmp_path / "e.safetensors").read_bytes()
    engine.save(str(tmp_path / "e.safetensors"))
    assert (tmp_path / "e.safetensors").read_bytes() == first, "the same bytes every time"
    again = refvit.load(tmp_path / "e.safetensors")
    assert np.array_equal(again(pixels), engine(pixels))
    assert (again.digest, again.scale, again.labels) == (engine.digest, engine.scale, engine.labels)
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"], "nothing half-written stays"
    raw = bytearray((tmp_path / "e.safetensors").read_bytes())
    raw[-5] ^= 1
    (tmp_path / "t.safetensors").write_bytes(raw)
    with pytest.raises(ValueError, match="was changed"):
        refvit.load(tmp_path / "t.safetensors")
    (tmp_path / "m.safetensors").write_bytes(bytes(raw).replace(b'"labels"', b'"lebals"'))
    with pytest.raises(ValueError, match="not those that were sealed"):
        refvit.load(tmp_path / "m.safetensors")
    (tmp_path / "c.safetensors").write_bytes(raw[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        refvit.load(tmp_path / "c.safetensors")


def test_sums_of_unsigned_codes_are_bounded_by_their_greatest():
    """With a tiny output scale two codes of 65535 must not wrap: they are refused."""
    multiplier, shift = dyadic(np.array([20000.0, 20000.0]) * 2**8)
    clamp = np.array([-32768, 32767], np.int32)
    constants = {"s.multiplier": multiplier, "s.shift": shift, "s.clamp": clamp}
    ops = ProveOps(Params(constants), {}, "refvit", {})
    wide = Ranged((1, 1), 0, 65535)
    with pytest.raises(OverflowError, match=r"s: sum with guard bits .* calibrate on images"):
        ops.add(wide, wide, site="s")


def test_lockstep_checks_its_pixels(engine, quantized, pixels):
    with pytest.raises(ValueError, match="not finite"):
        refvit.lockstep(quantized, engine, np.full_like(pixels, np.nan))
    assert repr(engine).startswith("IntegerModel(w8a8, ")


def test_what_the_engine_cannot_mean_is_refused(quantized, engine):
    site = "blocks.0.mlp.fc1.weight"
    grid = dataclasses.replace(quantized.qparams[site], zero_point=3)
    shifted = dict(quantized.qparams) | {site: grid}
    with pytest.raises(
        ValueError, match=r'fc1\.weight: .* symmetric, .* give "\*\.weight" a line with'
    ):
        refvit.compile(dataclasses.replace(quantized, qparams=shifted))
    with pytest.raises(TypeError, match="codes are integers, got float32"):
        engine.run(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match=r"codes lie in \[-128, 127\]"):
        engine.run(np.full((1, 3, 32, 32), 200, np.int16))
    with pytest.raises(ValueError, match="codes have shape"):
        engine.run(np.zeros((1, 3, 32, 31), np.int8))


def test_a_channel_of_zeros_keeps_its_bias(model, calibration, pixels):
    tensors = dict(model.params.items())
    weight, bias = tensors["head.weight"].copy(), tensors["head.bias"].copy()
    weight[3], bias[3] = 0, 0.7
    weight[4] = 1e-12
    tensors |= {"head.weight": weight, "head.bias": bias}
    pruned = dataclasses.replace(model, params=refvit.params.Params(tensors))
    engine = refvit.compile(refvit.quantize(pruned, calibration))
    logits = engine(pixels) * engine.scale
    assert np.abs(logits[:, 3] - 0.7).max() <= engine.scale
    assert np.abs(logits[:, 4] - bias[4]).max() <= engine.scale


def test_accuracy_is_what_the_card_and_the_readme_say(model):
    """2,000 images: float 90 % at least, w8a8 integers within 0.3 points, w4a4 3 below or more."""
    images, labels = refvit.data.shapes10("test", 2000)
    calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])

    def top1(classify):
        parts = (slice(i, i + 100) for i in range(0, 2000, 100))
        found = [classify(model.preprocess.normalise(images[p])).argmax(1) for p in parts]
        return np.mean(np.concatenate(found) == labels)

    exact = top1(model)
    card = json.loads((weights_folder() / "nano_vit.json").read_text())
    assert exact == pytest.approx(card["test_top1"], abs=0.016), "three deviations of 2,000"
    assert exact >= 0.9
    assert top1(refvit.compile(refvit.quantize(model, calibration, "w8a8"))) >= exact - 0.003
    assert top1(refvit.quantize(model, calibration, "w4a4")) <= exact - 0.03
