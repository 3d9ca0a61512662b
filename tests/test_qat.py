"""Grids that learn: gradients against their formulas, and training on the tap that PTQ has."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import refvit
from refvit.autodiff import Var, backward, value_and_gradients
from refvit.cli import main
from refvit.methods import changed, resolved
from refvit.optim import AdamW, fresh
from refvit.quant import (
    PRESETS,
    DynamicGrid,
    FakeQuantize,
    Learnable,
    Log2Grid,
    LogSqrt2Grid,
    NoisyGrid,
    PowerOfTwoFactor,
    QParams,
    Recipe,
    Spec,
    TwinGrid,
    fake_quantize,
    quantize_model,
)
from refvit.quant.lsq import LearnedGrid, LearnedScale, Straight, lsq, scaled, straight_through
from refvit.sources import Shapes10, pixels_of
from refvit.train import Batch, Student, gradients, train
from refvit.train_recipe import TrainRecipe, read_recipe


def grads_of(weights, *leaves, run):
    """Return the gradients of sum(weights * run(*leaves)) by each leaf."""
    found = [Var(np.asarray(leaf)) for leaf in leaves]
    backward(np.sum(run(*found) * weights))
    return [leaf.grad for leaf in found]


halves = st.integers(-40, 40).map(lambda k: k / 2)  # in steps: ties, the ends, and beyond them
reals = st.floats(-20, 20, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-3)
lists = st.lists(st.one_of(halves, reals), min_size=1, max_size=12)


@given(u=lists, bits=st.integers(2, 5), signed=st.booleans(), step=st.floats(0.01, 10))
def test_lsq_is_its_formula(u, bits, signed, step):
    """Esser et al. 2020, equations 3 and 5, element by element."""
    q = QParams(step, bits, signed)
    x = np.array(u) * step
    weights = np.arange(1.0, len(x) + 1)
    dx, dstep = grads_of(
        weights, x, np.array(step), run=lambda v, s: lsq(v, s, None, q.lo, q.hi, 1.0)
    )
    wanted_x, wanted_step = [], 0.0
    for value, weight in zip(x, weights, strict=True):
        scaled = value / step
        inside = q.lo < scaled < q.hi
        wanted_x.append(weight * inside)
        wanted_step += weight * (
            np.rint(scaled) - scaled if inside else np.clip(scaled, q.lo, q.hi)
        )
    near_end = np.isclose(x / step, q.lo, rtol=1e-12) | np.isclose(x / step, q.hi, rtol=1e-12)
    np.testing.assert_array_equal(dx[~near_end], np.array(wanted_x)[~near_end])
    if not near_end.any():
        assert dstep == pytest.approx(wanted_step, abs=1e-9 * weights.sum())
    assert np.array_equal(lsq(x, np.array(step), None, q.lo, q.hi, 1.0), fake_quantize(x, q))


@given(u=lists, step=st.floats(0.05, 5), zero=st.floats(-3, 10))
def test_lsq_plus_gives_to_the_zero_point_what_is_clipped(u, step, zero):
    """Bhalgat et al. 2020, equation 4 with the offset b = -z step: 0 inside, -step where x is
    clipped; of the step rint(u) - u inside, else the end. And the forward is `QParams`."""
    x = np.array(u) * step
    whole = int(np.clip(np.rint(zero), 0, 7))
    lo, hi = -whole, 7 - whole
    assume(not np.isclose(x / step, lo).any() and not np.isclose(x / step, hi).any())
    weights = np.arange(1.0, len(x) + 1)
    dx, dstep, dzero = grads_of(
        weights, x, np.array(step), np.array(zero), run=lambda v, s, z: lsq(v, s, z, 0, 7, 1.0)
    )
    clipped = (x / step < lo) | (x / step > hi)
    assert np.array_equal(dx, weights * ~clipped)
    assert dzero == pytest.approx(-step * weights[clipped].sum())
    u = x / step
    each = np.where(clipped, np.clip(u, lo, hi), np.rint(u) - u)
    assert dstep == pytest.approx((weights * each).sum(), abs=1e-9 * weights.sum())
    grid = QParams(step, 3, signed=False, zero_point=whole)
    assert np.array_equal(lsq(x, np.array(step), np.array(zero), 0, 7, 1.0), fake_quantize(x, grid))


@given(st.floats(0.1, 2), st.integers(-8, 7))
def test_where_all_is_clipped_lsq_is_smooth_and_equals_central_differences(step, zero):
    """In the step; in the zero point it is a staircase, of which a whole step is the slope."""
    x, weights = np.array([50.0, -60.0, 70.0]), np.array([1.0, 2.0, 4.0])

    def loss(s, z):
        return float(np.sum(lsq(x, np.array(s), np.array(z), -8, 7, 1.0) * weights))

    _, dstep, dzero = grads_of(
        weights, x, np.array(step), np.array(float(zero)),
        run=lambda v, s, z: lsq(v, s, z, -8, 7, 1.0),
    )  # fmt: skip
    e = 1e-6
    assert dstep == pytest.approx((loss(step + e, zero) - loss(step - e, zero)) / (2 * e))
    other = zero + 1.0 if zero < 7 else zero - 1.0
    assert dzero == pytest.approx((loss(step, other) - loss(step, zero)) / (other - zero))


@pytest.mark.parametrize("kind", [QParams(0.1, 4), LogSqrt2Grid(0.9, 4), TwinGrid(0.02, 3, 4)])
def test_the_gradient_of_a_step_does_not_depend_on_how_many_images_there_are(kind):
    """N are the values of one image: shards of a batch add up to it."""
    x = np.random.default_rng(0).random((6, 5, 7))

    def by(part):
        step = Var(np.asarray(kind.scale))
        learned = (LearnedGrid if isinstance(kind, QParams) else LearnedScale)(kind, step)
        backward(np.sum(learned.round(Var(part))))
        return step.grad

    assert by(x) == pytest.approx(by(x[:2]) + by(x[2:]))
    (_, plain), hi = grads_of(
        1.0, x, np.asarray(kind.scale), run=lambda v, s: lsq(v, s, None, kind.lo, kind.hi, 1.0)
        if isinstance(kind, QParams) else scaled(v, s, kind, 1.0)
    ), kind.hi  # fmt: skip
    assert by(x) == pytest.approx(plain / np.sqrt(5 * 7 * hi))


def test_a_step_that_many_values_share_learns_by_the_root_of_their_number():
    """Esser et al., section 2.2: 1 / sqrt(N Qp); of a weight, N is that of one channel."""
    grid = QParams(np.array([0.1, 0.2]), 4, axis=0)
    x = np.array([[0.33, 5.0], [0.21, -9.0]])
    step = Var(grid.scale)
    backward(np.sum(LearnedGrid(grid, step, count=2).round(Var(x))))
    one = [grads_of(1.0, row, s, run=lambda v, s: lsq(v, s, None, -8, 7, 1.0))[1]
           for row, s in zip(x, grid.scale, strict=True)]  # fmt: skip
    np.testing.assert_allclose(step.grad, np.array(one) / np.sqrt(2 * 7))


@pytest.mark.parametrize(
    ("grid", "x", "slope"),
    [
        (QParams(0.5, 3), [-2.1, -2.0, 0.3, 1.5, 1.6], [0, 1, 1, 1, 0]),
        (QParams(np.array([1.0, 0.1]), 2, axis=0), [[1.0, 1.2], [0.1, 0.2]], [[1, 0], [1, 0]]),
        (
            QParams(np.ones(2), 4, False, 0, zero_point=np.array([0, 15])),
            [[-5.0, 5.0, 15.0], [-15.0, -5.0, 5.0]],
            [[0, 1, 1], [1, 1, 0]],
        ),
        (
            PowerOfTwoFactor(1.0, np.array([0, 3]), 4, signed=True),
            [[20.0, 20.0], [7.0, -64.0], [-9.0, 57.0]],
            [[0, 1], [1, 1], [0, 0]],
        ),
        (
            NoisyGrid(QParams(1.0, 3), np.array([0.5, -0.5])),
            [[3.0, 3.0], [-4.5, -4.5]],
            [[0, 1], [1, 0]],
        ),
        (Log2Grid(3), [0.0, 0.3, 1.0, 1.1], [1, 1, 1, 0]),
        (DynamicGrid(4), [[9.0, -3.0]], [[1, 1]]),
    ],
)
def test_straight_through_is_the_identity_in_range_and_nothing_beyond(grid, x, slope):
    x = np.array(x)
    (g,) = grads_of(3.0, x, run=lambda v: straight_through(v, grid))
    assert np.array_equal(g, 3.0 * np.array(slope))
    assert np.array_equal(straight_through(x, grid), fake_quantize(x, grid))


@pytest.mark.parametrize("grid", [LogSqrt2Grid(0.9, 4), TwinGrid(0.02, 3, 4, signed=True)])
def test_a_scale_learns_from_roundings_in_range_and_from_ends_beyond(grid):
    """By central differences in the logarithm of the scale where the code stays the same, less
    what the straight-through estimator adds: (out - x) / step in range, out / step beyond."""
    x = np.array([0.011, 0.045, 0.31, 0.7, 5.0]) * (1 if grid.lo == 0 else -1) ** np.arange(5)
    weights, step = np.arange(1.0, 6.0), np.asarray(grid.scale)
    dx, dstep = grads_of(weights, x, step, run=lambda v, s: scaled(v, s, grid, 1.0))
    lo, hi = (end * step for end in grid.range)
    inside = (x >= lo) & (x <= hi)
    near = 1 + 1e-6
    up, down = (grid.with_scale(step * by).round(x) for by in (near, 1 / near))
    slope = (up - down) / (step * near - step / near)  # out / step: no code changes
    assert np.allclose(slope, grid.round(x) / step)
    assert np.array_equal(dx, weights * inside)
    assert dstep == pytest.approx(np.sum(weights * (slope - inside * x / step)))
    assert not inside.all()


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture(scope="module")
def pixels(model):
    return pixels_of(model.preprocess, Shapes10().calibration(32))


def batch_of(model, count=8):
    images, labels = refvit.data.shapes10("train", count)
    return Batch(model.preprocess.normalise(images), np.eye(10, dtype=np.float32)[labels])


def test_a_step_on_grids_of_32_bits_is_the_float_step(model, pixels):
    """To the bit, through the optimiser too: grids finer than float32 round nothing. On 16 bits,
    where they do, nearly."""
    start = quantize_model(model, pixels, Recipe("w16a16", {"*.weight": Spec(16, axis=0),
                                                            "*": Spec(16)}))  # fmt: skip
    wide = {name: replace(q, bits=32, scale=q.scale / 2**16) for name, q in start.qparams.items()}
    batch, tensors = batch_of(model), dict(model.params.items())
    plain = gradients(TrainRecipe(), Student(model.config, tensors), tensors, batch)

    def step(learnable):
        student = Student(model.config, learnable.tensors, learnable.tap)
        return gradients(TrainRecipe(), student, learnable.tensors, batch)

    learnable = Learnable(replace(start, qparams=wide))
    assert set(learnable.tensors) == set(tensors)
    grads, loss, _ = step(learnable)
    assert loss == plain[1]
    assert all(np.array_equal(grads[name], g) for name, g in plain[0].items())
    recipe = TrainRecipe(images=32, batch=16, warmup=0)
    students = (
        Student(model.config, tensors),
        Student(model.config, learnable.tensors, learnable.tap, penalty=learnable.damping),
    )
    runs = [train(recipe, None, Shapes10(), student=student) for student in students]
    assert all(np.array_equal(runs[1][name], t) for name, t in runs[0].items())
    grads, loss, _ = step(Learnable(start))
    assert loss == pytest.approx(plain[1], rel=1e-3)
    for name, g in plain[0].items():
        # the largest of a channel lies at its end, where LSQ gives all to the step
        near = np.abs(grads[name] - g) <= 0.02 * np.abs(g).max() + 1e-6
        assert near.mean() > 0.9, name


W4A4 = resolved(refvit.random("nano_vit"), PRESETS["w4a4"])
ASYMMETRIC = changed(W4A4, "*.mlp.act", symmetric=False)
LOGARITHMIC = changed(W4A4, "*.softmax", quantizer="log2")
CROWDED = changed(
    changed(W4A4, "*.softmax", quantizer="log_sqrt2", observer="mse"),
    "*.mlp.act", quantizer="twin", observer="mse",
)  # fmt: skip


@pytest.mark.parametrize(
    "recipe", [PRESETS["w4a4"], ASYMMETRIC, LOGARITHMIC, CROWDED, PRESETS["w3a3"]]
)
def test_what_learns_begins_as_the_simulated_model_and_settles_into_it(model, pixels, recipe):
    start = quantize_model(model, pixels, recipe)
    learnable = Learnable(start)
    tap = learnable.tap(learnable.tensors)
    assert type(tap) is FakeQuantize
    settled = learnable.settled(learnable.tensors)
    exact = start(pixels)
    for found in (model(pixels, tap=tap), settled(pixels)):
        # scales are float32 while learning: a tie may fall to its other side, an image with it
        assert np.mean(np.abs(found - exact).max(1) > 1e-4) < 0.2


@pytest.mark.parametrize("recipe", [PRESETS["w4a4"], CROWDED])
@pytest.mark.parametrize("rate", [1.0, 300.0])
def test_learned_steps_stay_positive_at_any_rate(model, pixels, recipe, rate):
    """Steps alone are moved, by the optimiser, as far as the rate takes them."""
    learnable = Learnable(quantize_model(model, pixels, recipe))
    student = Student(model.config, learnable.tensors, learnable.tap)
    batch, state = batch_of(model), fresh(learnable.tensors)
    with np.errstate(all="ignore"):  # what the model computes at such steps is nonsense
        grads, _, _ = gradients(TrainRecipe(), student, state.params, batch)
        for _ in range(3):
            moved = AdamW(decay=0.0).update(state, grads, rate)
            kept = {n: t if "@" in n else learnable.tensors[n] for n, t in moved.params.items()}
            state = replace(moved, params=kept)
    assert any(np.abs(t - learnable.tensors[n]).max() > rate for n, t in state.params.items())
    for grid in learnable.settled(state.params).qparams.values():
        assert np.all(np.isfinite(grid.scale) & (np.asarray(grid.scale) > 0))
    for learned in learnable.tap(state.params).qparams.values():
        if not isinstance(learned, Straight):
            assert np.all(np.isfinite(learned.step) & (learned.step > 0))


@pytest.mark.parametrize("recipe", [PRESETS["w4a4"], ASYMMETRIC, CROWDED])
def test_what_is_trained_is_what_settles(model, pixels, recipe):
    """Steps and zero points that have moved round alike in the tap and in the settled model, each
    site fed the same values; but for ties, as the tap's steps are float32."""
    learnable, rng = Learnable(quantize_model(model, pixels, recipe)), np.random.default_rng(0)
    moved = {
        name: t + (rng.normal(size=t.shape) * 0.4).astype(np.float32) if "@" in name else t
        for name, t in learnable.tensors.items()
    }
    tap, settled = learnable.tap(moved), learnable.settled(moved)
    values = {}
    model(pixels[:4], tap=lambda site, value: values.setdefault(site, value))
    values |= dict(model.params.items())
    changed_sites = 0
    for site, grid in settled.qparams.items():
        x = values[site]
        found, wanted = tap(site, x), fake_quantize(x, grid)
        assert np.mean(np.abs(found - wanted) > 1e-5 * np.abs(wanted).max()) < 2e-3, site
        start = fake_quantize(x, learnable.start.qparams[site])
        changed_sites += not np.allclose(found, start, atol=1e-4)
    assert changed_sites > 0.8 * sum(q.bits < 9 for q in settled.qparams.values())


@pytest.mark.parametrize("recipe", [PRESETS["w4a4"], CROWDED])
def test_every_step_is_learned(model, pixels, recipe):
    learnable = Learnable(quantize_model(model, pixels, recipe))
    student = Student(model.config, learnable.tensors, learnable.tap)
    grads, _, _ = gradients(TrainRecipe(), student, learnable.tensors, batch_of(model))
    assert set(grads) == set(learnable.tensors)
    assert all(np.isfinite(g).all() for g in grads.values())
    steps = [name for name in grads if name.endswith("@step")]
    assert {name.removesuffix("@step") for name in steps} == {
        name for name, q in learnable.start.qparams.items() if q.bits < 24
    }
    assert all(np.any(grads[name]) for name in steps)


def test_the_command_trains_on_and_writes_an_engine_that_replays(tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    asked = ["train", "--qat", "w4a4", "--from", "nano_vit", "--images", "512", "--batch", "64",
             "--test", "1000", "--out", str(out)]  # fmt: skip
    assert main(asked) == 0
    first = out.read_bytes()
    card = json.loads(out.with_suffix(".json").read_text())
    engine = refvit.load(out)
    assert engine.digest == card["digest"]
    assert card["integer_top1"] == pytest.approx(card["top1"], abs=0.03)
    assert card["recipe"]["start"] == "nano_vit"
    assert "--from nano_vit --qat w4a4" in card["command"]
    assert main(asked) == 0  # the finished state gives the same engine again
    assert out.read_bytes() == first
    capsys.readouterr()


def test_a_float_model_goes_on_without_grids(tmp_path, capsys):
    out = tmp_path / "tuned.safetensors"
    asked = ["train", "nano_vit", "--from", "nano_vit", "--images", "256", "--rate", "1e-5",
             "--test", "200", "--out", str(out)]  # fmt: skip
    assert main(asked) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["top1"] == pytest.approx(card["start_top1"], abs=0.02)
    assert isinstance(refvit.load(out), type(refvit.load("nano_vit")))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--qat", "w4a4"], "name it with --from"),
        (["--qat", "w9a9", "--from", "nano_vit"], "no recipe 'w9a9'"),
        (["--qat", "w4a4", "--from", "nano_vti"], "nano_vit"),
    ],
)
def test_what_cannot_be_trained_is_one_line(asked, said, tmp_path, capsys):
    assert main(["train", *asked, "--out", str(tmp_path / "x.safetensors")]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_the_shipped_recipe_needs_a_start():
    about = read_recipe("qat")
    assert about["distill"] == "soft"
    with pytest.raises(ValueError, match="--from"):
        TrainRecipe(**about, qat="w4a4")


def test_damping_is_its_sum_and_pulls_every_weight_in_range_to_its_code(model, pixels):
    """Nagel et al. 2022, section 4.1: weights are clipped to the ends of their grids first, as
    those beyond do not oscillate."""
    learnable = Learnable(quantize_model(model, pixels, changed(PRESETS["w4a4"], "*.weight",
                                                                observer="mse")))  # fmt: skip
    value, grads = value_and_gradients(learnable.damping, learnable.tensors)
    tap, total, beyond = learnable.tap(learnable.tensors), 0.0, 0
    weights = {name: t for name, t in learnable.tensors.items() if name.endswith(".weight")}
    for name, t in weights.items():
        if name in learnable.start.qparams:
            grid, w = learnable.start.qparams[name], t.astype(np.float64)
            lo, hi = (end * grid.scale[:, None] for end in (grid.lo, grid.hi))
            error = np.clip(w, lo, hi) - tap(name, t)
            total += np.square(error).sum()
            np.testing.assert_allclose(grads[name], 2 * error, atol=1e-6)
            beyond += np.sum((w < lo) | (w > hi))
    assert beyond > 100
    assert value == pytest.approx(total, rel=1e-4)
    assert set(grads) == set(weights) & set(learnable.start.qparams)


@given(st.integers(2, 5), st.booleans(), st.sampled_from([None, 1.3]))
def test_a_learned_grid_holds_what_it_does_not_clip(bits, signed, zero):
    """And its ends, at which all of the gradient is the step's."""
    q = QParams(np.array([0.5, 0.1]), bits, signed, 0)
    zero = None if zero is None else np.full(2, zero)
    grid, x = LearnedGrid(q, q.scale, zero), np.linspace(-9, 9, 2 * 333).reshape(2, 333)
    (dx,) = grads_of(1.0, x, run=grid.round)
    assert np.array_equal(grid.holds(x), dx == 1)
    edges = q.scale[:, None] * (np.array([q.lo, q.hi]) - (0 if zero is None else 1))
    assert grid.holds(edges).all()
    assert not np.any(grads_of(1.0, edges, run=grid.round)[0])
    if zero is None:
        assert np.array_equal(Straight(q).holds(x), grid.holds(x))


def test_damping_alone_brings_weights_to_codes(model, pixels):
    learnable = Learnable(quantize_model(model, pixels, "w3a3"))
    optimiser, state = AdamW(decay=0.0), fresh(learnable.tensors)
    for _ in range(12):
        _, grads = value_and_gradients(learnable.damping, state.params)
        state = optimiser.update(state, grads, 1e-3)
    assert learnable.damping(state.params) < 0.7 * learnable.damping(learnable.tensors)
