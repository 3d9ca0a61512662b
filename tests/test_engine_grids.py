"""Codes that stand for other integers, in the engine: clauses 1.5 and 3.8, and their proofs."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.cli import main
from refvit.integer import FAST, PLAIN, IntegerOps, QTensor, grid_proofs, grids
from refvit.integer.kernels import softmax
from refvit.methods import method
from refvit.models import forward
from refvit.params import Params
from refvit.quant import (
    Log2Grid,
    LogSqrt2Grid,
    PowerOfTwoFactor,
    QParams,
    Recipe,
    ShiftLog2Grid,
    Spec,
    TwinGrid,
)
from refvit.quant.recipe import PRESETS

GRIDS = [
    *(Log2Grid(bits) for bits in (2, 3, 4)),
    *(ShiftLog2Grid(bits, shift) for bits, shift in ((2, 1), (2, 3), (3, 4), (4, 9), (4, 15))),
    *(LogSqrt2Grid(0.9, bits) for bits in (2, 3, 4, 5)),
    *(TwinGrid(0.25, shift, bits, signed) for shift, bits, signed in itertools.product(
        (0, 1, 3, 6), (2, 4, 8), (False, True))),
    *(PowerOfTwoFactor(0.25, np.array([0, 1, 2, 3]), bits, 0, signed)
      for bits in (2, 8) for signed in (False, True)),
]  # fmt: skip


def named(grid):
    """The name of a test's grid."""
    shift = getattr(grid, "shift", "")
    return f"{grids.kind_of(grid)}-{grid.bits}-{shift}{'s' if getattr(grid, 'signed', 0) else ''}"


def every_integer(grid, guard):
    """All integers within the range of a grid, or where these are more than 2**17 every n-th."""
    lo, hi = (end << guard for end in grid.range)
    x = np.arange(lo, hi + 1, max(1, (hi - lo) >> 17)).astype(np.int32)
    return x[:, None] + np.zeros(4, np.int32) if isinstance(grid, PowerOfTwoFactor) else x


@pytest.mark.parametrize("guard", [0, 1, 8])
@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_narrow_is_the_grids_encode_on_every_integer(grid, guard):
    """Also between steps, where there are guard bits; of two nearest values either is right."""
    x = every_integer(grid, guard)
    found = grid.narrow(x, guard)
    real = x * (float(grid.scale) / 2**guard)
    wanted = grid.encode(real)
    tied = np.abs(grid.decode(found, np.float64) - real) == np.abs(
        grid.decode(wanted, np.float64) - real
    )
    same = grid.decode(found, np.float64) == grid.decode(wanted, np.float64)
    linear = isinstance(grid, TwinGrid | PowerOfTwoFactor)
    assert (same | tied).all() if linear else same.all()
    assert found.dtype == wanted.dtype
    assert same.mean() > 0.45 if linear else True


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_aligned_integers_are_what_the_codes_decode_to(grid):
    lo, hi = grids.clamp_of(grid)
    codes = np.arange(lo, min(hi, grid.hi) + 1)[:, None].astype(grid.narrow(np.zeros(4)).dtype)
    codes = codes if isinstance(grid, PowerOfTwoFactor) else codes[:, 0]
    real = grid.decode(codes, np.float64) / float(grid.scale)
    if isinstance(grid, LogSqrt2Grid):
        even, odd = grid.halves(codes)
        assert even.dtype == odd.dtype == np.int32
        assert np.allclose(even + odd * math.sqrt(2), real, rtol=1e-12, atol=0)
        return
    integers = grids.meant(grid, codes)
    assert integers.dtype == np.int32
    assert np.array_equal(integers, real)
    assert np.array_equal(grids.meant(grid, grid.narrow(integers)), integers)
    assert grid.range[0] <= integers.min() <= integers.max() <= grid.range[1]


@pytest.mark.parametrize("grid", GRIDS, ids=named)
def test_constants_say_which_grid_it_is(grid):
    """To the site itself, and to the one that reads its codes."""
    c = grids.written(grid) | {"clamp": np.array(grids.clamp_of(grid), np.int32)}
    found = grids.form(Params({f"s.{name}": t for name, t in c.items()}).s, float(grid.scale))
    held = Params({f"t.{name}": t for name, t in grids.read("t", "matmul", grid).items()}).t
    for again in (found, grids.form(held, float(grid.scale), "input0_")):
        assert type(again) is type(grid)
        assert again.range == grid.range
        codes = np.arange(grid.lo, grid.hi + 1).astype(np.int16)[:, None]
        codes = np.repeat(codes, 4, 1)
        assert np.array_equal(again.decode(codes, np.float64), grid.decode(codes, np.float64))
    assert grids.form(Params({"s.clamp": c["clamp"]}).s) is None


ROWS = [grid for grid in GRIDS if not isinstance(grid, PowerOfTwoFactor)]


@given(st.sampled_from(ROWS), st.integers(1, 200), st.integers(0, 9), st.floats(0.01, 2.0))
def test_a_row_sums_to_no_more_than_is_proved(grid, tokens, seed, spread):
    """Of any integers, and of those that gain most; the bound is not idle either."""
    rng, guard = np.random.default_rng(seed), grids.guard_of(grid)
    shares = rng.lognormal(0, spread * 3, tokens)
    total = grid.range[1] << guard
    x = np.floor(shares / shares.sum() * total).astype(np.int64)
    assert meant_sum(grid, x, guard) <= grid_proofs.row_sum(grid, guard, int(x.sum()), tokens)
    level, least = grid_proofs.levels(grid, guard)
    bound, best = grid_proofs.row_sum(grid, guard, total, 197), 0.0
    for first in np.rint(least[least > 0] * 2**guard).astype(int):
        count = min(197, total // first)
        row = np.full(197, first) * (np.arange(197) < count)
        best = max(best, meant_sum(grid, row, guard))
    assert 0.5 * (bound - 2) <= best <= bound
    assert len(level) == len(np.unique(level))


def meant_sum(grid, x, guard):
    """The sum of what the codes of integers stand for, in steps of the grid."""
    codes = grid.narrow(np.minimum(x, grid.range[1] << guard).astype(np.int32), guard)
    return grid.decode(codes, np.float64).sum() / float(grid.scale) * (1 - 1e-12)


def test_steps_finer_than_the_kernels_own_sum_to_no_more_than_is_proved():
    """Where a code is 2**-30, what the kernel rounds is several codes."""
    for tokens in (3, 17, 61, 197):
        constants, proofs = softmax.plan("s", 0.05, 2.0**-30, -128, 127, tokens)
        total = next(p.hi for p in proofs if p.what == softmax.ROW_SUM)
        for seed in range(20):
            x = np.random.default_rng(seed).integers(-seed, seed + 1, (50, tokens)).astype(np.int8)
            codes = softmax.softmax(x, Params(constants), PLAIN, 0, 2**31 - 1)
            assert codes.sum(1, dtype=np.int64).max() <= total


def recipe_of(name, **sites):
    """w8a8 but for some sites; a word `act` means "*.act"."""
    changed = {f"*.{site}" if site in ("act", "softmax") else site: s for site, s in sites.items()}
    rest = {k: v for k, v in PRESETS["w8a8"].table.items() if k not in changed}
    return Recipe(name, changed | rest)


def twin(bits, signed=True):
    return Spec(bits, signed=signed, quantizer="twin", observer="mse")


def searched(bits, quantizer):
    return Spec(bits, signed=False, quantizer=quantizer, observer="mse")


PTF = Spec(8, quantizer="ptf", observer="channels")
RECIPES = {
    "twin": recipe_of("twin", act=twin(6), softmax=twin(8, False)),
    "ptf": recipe_of("ptf", **{"embed": PTF, "*.add?": PTF, "*.fc2": PTF}),
    "log2": recipe_of("log2", softmax=Spec(4, signed=False, quantizer="log2")),
    "log2-3": recipe_of("log2-3", softmax=Spec(3, signed=False, quantizer="log2")),
    "shift_log2": recipe_of("shift_log2", softmax=searched(4, "shift_log2")),
    "log_sqrt2": recipe_of("log_sqrt2", softmax=searched(4, "log_sqrt2")),
    "log_sqrt2-5": recipe_of("log_sqrt2-5", softmax=searched(5, "log_sqrt2")),
    "all": recipe_of("all", act=twin(8), softmax=searched(5, "log_sqrt2"), **{"*.add?": PTF}),
}
MODELS = {
    "nano_vit": RECIPES,
    "nano_deit": {"twin": RECIPES["twin"], "ptf": RECIPES["ptf"]},
    "nano_swin": {
        "twin": RECIPES["twin"],
        "ptf": recipe_of("ptf", **{"patch_embed": PTF, "*.add?": PTF}),
        "log_sqrt2": RECIPES["log_sqrt2"],
    },
}
CASES = [(model, recipe) for model, known in MODELS.items() for recipe in known]


@functools.cache
def simulated(name, recipe):
    """A model with random weights on the grids of a recipe, and three images of noise."""
    model = refvit.random(name, seed=1)
    pixels = np.random.default_rng(0).standard_normal((8, 3, 32, 32), np.float32)
    return refvit.quantize(model, pixels, MODELS[name][recipe]), pixels[:3]


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_the_engine_runs_codes_that_stand_for_others(name, recipe, tmp_path):
    """Lockstep passes; PLAIN equals FAST; a file replays; labels say nothing."""
    quantized, pixels = simulated(name, recipe)
    engine = refvit.compile(quantized)
    rows = refvit.lockstep(quantized, engine, pixels[:1])
    for row in rows:
        assert row.passes, row
        roots = "log_sqrt2" in recipe or recipe == "all"
        if row.op in ("linear", "matmul", "concat", "mean"):
            assert row.allowed == int(roots and row.site.endswith("context")), row
    for site, grid in quantized.qparams.items():
        if not isinstance(grid, QParams):
            again = engine.grid(site)
            assert (type(again), again.range) == (type(grid), grid.range)
            assert float(again.scale) == float(grid.scale)
    logits = engine(pixels)
    assert np.array_equal(logits, engine(pixels, PLAIN))
    engine.save(tmp_path / "e.safetensors")
    again = refvit.load(tmp_path / "e.safetensors")
    assert again.digest == engine.digest
    assert np.array_equal(again(pixels), logits)
    nothing = dict.fromkeys(engine.scales, float("nan")) | {"input": engine.scales["input"]}
    assert np.array_equal(dataclasses.replace(engine, scales=nothing)(pixels), logits)


@pytest.mark.parametrize("kernels", ["ivit", "log2", "table"])
@pytest.mark.parametrize("recipe", ["twin", "ptf", "log2", "log2-3", "shift_log2", "all"])
def test_every_profile_writes_them_or_says_why_not(recipe, kernels):
    quantized, pixels = simulated("nano_vit", recipe)
    if kernels == "log2" and recipe in ("twin", "shift_log2", "all"):
        with pytest.raises(ValueError, match=r"softmax: kernels='log2' writes powers of two, the"):
            refvit.compile(quantized, kernels)
        return
    engine = refvit.compile(quantized, kernels)
    assert all(row.passes for row in refvit.lockstep(quantized, engine, pixels[:1]))
    assert np.array_equal(engine(pixels), engine(pixels, PLAIN))
    if kernels == "table":
        assert np.array_equal(engine(pixels), refvit.compile(quantized)(pixels))
    if recipe == "log2-3":
        assert engine.grid("blocks.0.attn.softmax") == Log2Grid(3)


def test_integers_are_stored_in_bytes():
    """Eight-bit codes of a twin stand for integers of many more bits, and weigh a byte."""
    quantized, pixels = simulated("nano_vit", "twin")
    engine, seen = refvit.compile(quantized), {}
    engine.run(engine.encode(pixels), FAST, seen.__setitem__)
    for i in range(4):
        assert seen[f"blocks.{i}.attn.softmax"].dtype == np.uint8
        assert seen[f"blocks.{i}.mlp.act"].dtype == np.int8
        assert engine.grid(f"blocks.{i}.mlp.act").range[1] > 127 >> 2
    streams = refvit.compile(simulated("nano_vit", "ptf")[0])
    streams.run(streams.encode(pixels), FAST, seen.__setitem__)
    assert seen["blocks.0.add1"].dtype == seen["embed"].dtype == np.int8


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_integer_leaves_its_proved_range(recipe):
    """Accumulators of noise, of codes at the ends of the grid, and of every operand at its ends."""
    quantized, pixels = simulated("nano_vit", recipe)
    engine = refvit.compile(quantized)
    proofs = {p.site: p for p in engine.proofs if p.what in ("accumulator", "sum with guard bits")}
    last = []

    def watched(acc, multiplier, shift, lo, hi, bias=None):
        total = acc.astype(np.int64) + (0 if bias is None else bias)
        last.append((int(total.min()), int(total.max())))
        return PLAIN.requantize(acc, multiplier, shift, lo, hi, bias)

    def tap(site, codes):
        if site in proofs and "add" not in site and site != "embed":
            low, high = last[-1]
            assert proofs[site].lo <= low <= high <= proofs[site].hi, site

    worst = np.where(np.random.default_rng(0).random((3, 3, 32, 32)) < 0.5, -128, 127)
    for codes in (engine.encode(pixels), worst.astype(np.int8)):
        ops = IntegerOps(engine.constants, engine.scales, PLAIN._replace(requantize=watched), tap)
        forward(ops, codes, engine.constants, engine.config)
    c = engine.constants.blocks[0].mlp.fc2
    every = QTensor(np.arange(-128, 128, dtype=np.int8), 1.0)
    made = np.sort(engine.ops(PLAIN).gelu(every, site=ACT).codes)[[0, -1]]
    ends = grids.aligned(c, 0, made).astype(np.int64)
    worst = [
        np.where(c.weight > 0, c.weight * one, c.weight * other).sum(1) + c.bias
        for one, other in (ends, ends[::-1])
    ]
    assert proofs[FC2].lo <= np.min(worst) <= 0.9 * proofs[FC2].lo
    assert 0.9 * proofs[FC2].hi <= np.max(worst) <= proofs[FC2].hi


ACT, SOFT, ADD = "blocks.0.mlp.act", "blocks.0.attn.softmax", "blocks.0.add1"
CONTEXT, FC2, NORM2 = "blocks.0.attn.context", "blocks.0.mlp.fc2", "blocks.0.norm2"
TAMPERED = [
    ("twin", f"{ACT}.twin", lambda t: t + 40, r"act.twin lies in \[\d+, \d+\], it must in \[0, 24"),
    ("twin", f"{ACT}.twin", lambda t: t + 1, r"fc2.input0_twin lies in"),
    ("twin", f"{FC2}.input0_twin", lambda t: t + 1, r"fc2.input0_twin lies in"),
    ("twin", f"{FC2}.input0_clamp", lambda t: t[::-1].copy(), "input0_clamp is not that of the"),
    ("twin", f"{SOFT}.clamp", lambda t: t * 0 + [0, 127], "context.input0_clamp"),
    ("twin", f"{SOFT}.twin", lambda t: t.astype(np.int8), "softmax.twin is int8"),
    ("twin", f"{CONTEXT}.input0_twin", None, "it lacks blocks.0.attn.context.input0_twin"),
    ("twin", f"{ACT}.twin", None, r"fc2.input0_\w+ is no constant of this model"),
    ("ptf", f"{ADD}.ptf", lambda t: t[:-1], r"add1.ptf is int32 \[47\], it must be int32 \[48\]"),
    ("ptf", f"{ADD}.ptf", lambda t: t + 4, "add1.ptf lies in"),
    ("ptf", f"{NORM2}.input0_ptf", lambda t: t[::-1].copy(), "norm2.input0_ptf is not that of the"),
    ("log2", f"{SOFT}.log2", lambda t: t - 1, r"softmax: log2 codes are not of \[0, 15\]"),
    ("log2", f"{CONTEXT}.power", lambda t: t + 1, "context.power lies in"),
    ("shift_log2", f"{SOFT}.shift_log2", lambda t: t * 0 + 16, "softmax.shift_log2 lies in"),
    ("shift_log2", f"{SOFT}.clamp", lambda t: t // 4, r"softmax: 2 to 4 bits have codes for"),
    ("log_sqrt2", f"{SOFT}.log_sqrt2", lambda t: t - 1, "softmax: log_sqrt2 codes are not of"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "name", "change", "message"), TAMPERED, ids=range(len(TAMPERED))
)
def test_constants_that_were_changed_are_refused_in_one_line(
    recipe, name, change, message, tmp_path
):
    """Though the digest and the seal of the file are made anew."""
    engine = refvit.compile(simulated("nano_vit", recipe)[0])
    constants = dict(engine.constants.items())
    held = constants.pop(name)
    if change is not None:
        constants[name] = np.asarray(change(held), change(held).dtype)
    if name.endswith("softmax.clamp"):
        constants[name] = constants[name].astype(np.int32)
    broken = dataclasses.replace(engine, constants=Params(constants))
    broken.save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        refvit.load(tmp_path / "b.safetensors")
    assert "\n" not in str(error.value)


WRONG = [
    ("twin", f"{FC2}.input0_twin", lambda t: t + 1, FC2),
    ("twin", f"{CONTEXT}.input0_clamp", lambda t: t >> 1, CONTEXT),
    ("twin", f"{SOFT}.multiplier", lambda t: t * 3 // 4, SOFT),
    ("ptf", f"{NORM2}.input0_ptf", lambda t: t ^ 1, NORM2),
    ("ptf", f"{ADD}.multiplier", lambda t: t * 3 // 4, ADD),
    ("log_sqrt2", f"{CONTEXT}.input0_clamp", lambda t: 2 * t + 1, CONTEXT),
    ("log2", f"{CONTEXT}.power", lambda t: t - 8, CONTEXT),
]


@pytest.mark.parametrize(("recipe", "name", "change", "site"), WRONG, ids=range(len(WRONG)))
def test_lockstep_finds_a_site_with_one_wrong_constant(recipe, name, change, site):
    """What the proofs would refuse, were it in a file, is seen from outside as well."""
    quantized, pixels = simulated("nano_vit", recipe)
    engine = refvit.compile(quantized)
    held = dict(engine.constants.items())
    held[name] = change(held[name])
    rows = refvit.lockstep(
        quantized, dataclasses.replace(engine, constants=Params(held)), pixels[:1]
    )
    assert [row.site for row in rows if not row.passes] == [site]


def test_a_shift_that_int32_does_not_hold_is_refused():
    """Products of a coarse step of 2**20 fine ones: the site, the range and the cure."""
    quantized, _ = simulated("nano_vit", "twin")
    grid = quantized.qparams[ACT]
    wide = {ACT: dataclasses.replace(grid, shift=24, scale=grid.scale / 2**20, bits=8)}
    with pytest.raises(OverflowError, match=r"blocks\.0\.mlp\.fc2: accumulator range .* int32"):
        refvit.compile(dataclasses.replace(quantized, qparams={**quantized.qparams, **wide}))


REFUSED = [
    ("*.q", PTF, r"attn\.q: its factors of channels do not go with 'b n \(h d\) -> b h n d'; give"),
    ("*.norm1", twin(8), r"norm1: only softmax and gelu can write twin codes; give it a linear"),
    ("*.act", searched(4, "log_sqrt2"), r"act: powers have no code below 0, the values go"),
    ("*.softmax", searched(6, "log_sqrt2"), r"softmax: powers of root two of 6 bits"),
    ("*.add1", dataclasses.replace(PTF, symmetric=False), r"add1: ptf codes .*; write symm"),
]  # fmt: skip


@pytest.mark.parametrize(("site", "spec", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_integer_form_is_one_clear_line(site, spec, message):
    model = refvit.random("nano_vit", seed=1)
    pixels = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    rest = {k: v for k, v in PRESETS["w8a8"].table.items() if k != site}
    with pytest.raises(ValueError, match=message) as error:
        refvit.compile(refvit.quantize(model, pixels, Recipe("r", {site: spec} | rest)))
    assert "\n" not in str(error.value)


def test_factors_follow_their_channels_through_a_rearrangement():
    alpha = np.array([0, 1, 3])
    grid = PowerOfTwoFactor(1.0, alpha)
    merged = grids.moved(grid, (1, 2, 4, 3), "b (y i) (x j) c -> b (y x) (j i c)", {"i": 2, "j": 2})
    assert merged.alpha.tolist() == [0, 1, 3] * 4
    assert grids.moved(grid, (1, 8, 3), "b (y x) c -> b y x c", {"y": 2}).alpha.tolist() == [
        0,
        1,
        3,
    ]
    with pytest.raises(
        ValueError, match="a value: its factors of channels do not go with 'b n c -> b"
    ):
        grids.moved(grid, (1, 8, 3), "b n c -> b c n", {})


def test_commands_take_a_recipe_that_names_them(tmp_path, capsys):
    """quantize, prove, lockstep, vectors and replay; a refusal is a line and exit code 2."""
    recipe, out, folder = (tmp_path / name for name in ("r.toml", "e.safetensors", "v"))
    recipe.write_text(RECIPES["all"].to_toml())
    assert main(["quantize", "nano_vit", "--recipe", str(recipe), "-o", str(out)]) == 0
    assert main(["prove", str(out)]) == 0
    assert "No overflow is possible" in capsys.readouterr().out
    assert main(["lockstep", "nano_vit", "--recipe", str(recipe), "--images", "1"]) == 0
    assert "Every operator keeps to what the specification states" in capsys.readouterr().out
    sites = ["--site", "blocks.0.*"]
    assert main(["vectors", str(out), "--out", str(folder), *sites]) == 0
    for path in folder.rglob("expected.hex"):
        path.with_name("output.hex").write_bytes(path.read_bytes())
    assert main(["vectors", "--replay", str(folder)]) == 0
    capsys.readouterr()
    recipe.write_text(RECIPES["twin"].to_toml())
    given = ["--recipe", str(recipe), "--kernels", "log2", "-o", str(out)]
    assert main(["quantize", "nano_vit", *given]) == 2
    said = capsys.readouterr().err
    assert "softmax: kernels='log2' writes powers of two, the recipe is of twin codes" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["ptq4vit", "repq"])
def test_methods_that_use_them_compile(name):
    model = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 32)[0])
    quantized = method(name)(model, pixels, PRESETS["w4a4"])
    engine = refvit.compile(quantized)
    assert not isinstance(engine.grid(SOFT), QParams)
    assert all(row.passes for row in refvit.lockstep(quantized, engine, pixels[:2]))


SHIPPED = ("twin", "ptf", "log2", "shift_log2", "log_sqrt2", "log_sqrt2-5")


@pytest.mark.parametrize("recipe", SHIPPED)
def test_the_trained_model_classifies_as_the_simulated_one_does(recipe):
    model = refvit.load("nano_vit")
    calibration, images, labels = (
        refvit.data.shapes10("calibration", 96)[0],
        *refvit.data.shapes10("test", 300),
    )
    normalise = model.preprocess.normalise
    quantized = refvit.quantize(model, normalise(calibration), RECIPES[recipe])
    pixels = normalise(images)
    right = [(m(pixels).argmax(1) == labels).mean() for m in (quantized, refvit.compile(quantized))]
    assert abs(right[0] - right[1]) < 0.014  # of 300 images, 4
    assert min(right) > 0.9
