"""Quantization-aware training on the tap that PTQ has: what is learned, and what settles."""

from dataclasses import replace

import numpy as np
import pytest

import refvit
from refvit.autodiff import Var, backward, value_and_gradients
from refvit.methods import changed, resolved
from refvit.optim import AdamW, fresh
from refvit.quant import (
    PRESETS,
    FakeQuantize,
    Learnable,
    Recipe,
    Spec,
    fake_quantize,
    quantize_model,
)
from refvit.quant.lsq import Straight, lsq
from refvit.quant.operands import linears
from refvit.quant.qat import annealed
from refvit.sources import Shapes10, pixels_of
from refvit.train import Batch, Student, gradients, train
from refvit.train_from import student_of
from refvit.train_recipe import TrainRecipe


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
        student_of(learnable, model, 1.0),
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


def crowded(table):
    """Return a resolved recipe with grids that learn a scale behind softmax and GELU."""
    found = changed(table, "*.softmax", quantizer="log_sqrt2", observer="mse")
    return changed(found, "*.mlp.act", quantizer="twin", observer="mse")


CROWDED = crowded(W4A4)


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


@pytest.mark.parametrize(("learned", "code"), [(2.6, 3), (2.4, 2), (-30.0, -8), (99.0, 7)])
def test_a_zero_point_settles_on_the_nearest_code(model, pixels, learned, code):
    learnable = Learnable(quantize_model(model, pixels[:8], ASYMMETRIC))
    site = "blocks.1.mlp.act"
    found = learnable.settled(learnable.tensors | {site + "@zero_point": np.float32(learned)})
    assert found.qparams[site].zero_point == code


def test_what_is_no_simulated_model_does_not_learn(model, pixels):
    with pytest.raises(TypeError, match="Learnable takes a simulated model"):
        Learnable(model)
    learnable = Learnable(quantize_model(model, pixels[:2], "w8a8"))
    some = dict(learnable.tensors)
    first = some.pop("blocks.0.add1@step")
    for wrong, said in ((some, "is missing"), (learnable.tensors | {"no": first}, "no tensor")):
        with pytest.raises(ValueError, match=said):
            learnable.settled(wrong)


def test_weights_settle_as_they_were_learned(model, pixels):
    learnable = Learnable(quantize_model(model, pixels[:8], "w4a4"))
    moved = {name: t + np.float32(0.01) for name, t in learnable.tensors.items()}
    found = dict(learnable.settled(moved).params.items())
    assert found.keys() == dict(model.params.items()).keys()
    assert all(np.array_equal(t, moved[name]) for name, t in found.items())


def test_steps_of_groups_stay_as_calibration_found_them(model, pixels):
    grouped = Recipe("r", {"*.weight": Spec(4, axis=0, group=16), "*": Spec(8)})
    start = quantize_model(model, pixels[:8], grouped)
    learnable = Learnable(start)
    name = "head.weight"
    assert name + "@step" not in learnable.tensors
    assert isinstance(learnable.tap(learnable.tensors).qparams[name], Straight)
    assert learnable.settled(learnable.tensors).qparams[name] is start.qparams[name]


def test_a_bias_settles_on_the_product_of_the_steps_that_were_learned(model, pixels):
    """One accumulator holds it and the products: Jacob et al. 2018, section 2.4."""
    learnable, rng = Learnable(quantize_model(model, pixels[:8], "w4a4")), np.random.default_rng(0)
    moved = {
        name: t + rng.normal(size=t.shape).astype(np.float32) if name.endswith("@step") else t
        for name, t in learnable.tensors.items()
    }
    grids, first = learnable.settled(moved).qparams, learnable.start.qparams
    for record in linears(model):
        site, x = record.site, record.inputs[0]
        scale = grids[f"{site}.weight"].scale * grids[x].scale
        np.testing.assert_allclose(grids[f"{site}.bias"].scale, scale, rtol=1e-12)
        assert not np.allclose(grids[f"{site}.bias"].scale, first[f"{site}.bias"].scale, rtol=0.01)


BEHIND_THE_LOSS = {"heads@step", "heads_mean@step"}  # of a distilled model, whose heads learn apart


@pytest.mark.parametrize("name", ["nano_vit", "nano_deit", "nano_swin"])
@pytest.mark.parametrize("grids", [lambda table: table, crowded], ids=["w4a4", "crowded"])
def test_every_step_is_learned(name, grids, pixels):
    model = refvit.load(name)
    recipe = grids(resolved(model, PRESETS["w4a4"]))
    learnable = Learnable(quantize_model(model, pixels, recipe))
    student = Student(model.config, learnable.tensors, learnable.tap)
    grads, _, _ = gradients(TrainRecipe(), student, learnable.tensors, batch_of(model))
    assert set(learnable.tensors) - set(grads) == BEHIND_THE_LOSS & set(learnable.tensors)
    assert all(np.isfinite(g).all() for g in grads.values())
    steps = [name for name in learnable.tensors if name.endswith("@step")]
    assert {name.removesuffix("@step") for name in steps} == {
        name for name, q in learnable.start.qparams.items() if q.bits < 24
    }
    assert all(np.any(grads[name]) for name in steps if name in grads)


OTHER_GRIDS = {
    "dynamic": {"*.mlp.act": Spec(4, dynamic="token"), "*": Spec(8)},
    "groups": {"*.weight": Spec(4, axis=0, group=16), "*": Spec(8)},
    "shift_log2": {
        "*.softmax": Spec(4, signed=False, quantizer="shift_log2", observer="mse"),
        "*": Spec(8),
    },
    "ptf": {"*.add?": Spec(8, quantizer="ptf", observer="channels"), "*": Spec(8)},
    "asymmetric": {"*.mlp.act": Spec(4, signed=False, symmetric=False), "*": Spec(8)},
}


@pytest.mark.parametrize("kind", OTHER_GRIDS)
@pytest.mark.parametrize("name", ["nano_vit", "nano_swin"])
def test_a_model_learns_on_grids_of_every_kind(name, kind, pixels):
    """Every parameter has a finite gradient, and hardly one is 0 everywhere."""
    model = refvit.load(name)
    learnable = Learnable(quantize_model(model, pixels[:4], Recipe(kind, OTHER_GRIDS[kind])))
    student, batch = Student(model.config, learnable.tensors, learnable.tap), batch_of(model, 2)
    grads, _, _ = gradients(TrainRecipe(), student, learnable.tensors, batch)
    assert set(dict(model.params.items())) <= set(grads)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert sum(np.any(g) for g in grads.values()) > 0.9 * len(grads)


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


def test_damping_alone_brings_weights_to_codes(model, pixels):
    learnable = Learnable(quantize_model(model, pixels, "w3a3"))
    optimiser, state = AdamW(decay=0.0), fresh(learnable.tensors)
    for _ in range(12):
        _, grads = value_and_gradients(learnable.damping, state.params)
        state = optimiser.update(state, grads, 1e-3)
    assert learnable.damping(state.params) < 0.7 * learnable.damping(learnable.tensors)


@pytest.mark.parametrize("axis", [0, None], ids=["per channel", "per tensor"])
def test_a_step_learns_by_the_number_of_weights_that_share_it(model, pixels, axis):
    """Esser et al. 2020, section 2.2, through the tap and the logarithm; of an activation those of
    one image share it."""
    recipe = Recipe("r", {"*.weight": Spec(4, axis=axis), "*": Spec(8)})
    learnable = Learnable(quantize_model(model, pixels, recipe))
    image = np.random.default_rng(0).standard_normal((3, 65, 48)).astype(np.float32)
    weight = learnable.tensors["head.weight"]
    shared = weight.size if axis is None else weight.shape[1]
    for site, x, count in (("head.weight", weight, shared), ("blocks.0.add1", image, 65 * 48)):
        grid, leaves = learnable.start.qparams[site], dict(learnable.tensors)
        leaf = leaves[site + "@step"] = Var(leaves[site + "@step"])
        backward(np.sum(learnable.tap(leaves)(site, x)))
        step = Var(np.exp(learnable.tensors[site + "@step"]))
        along = step if grid.axis is None else step.reshape(-1, 1)
        backward(np.sum(lsq(x, along, None, grid.lo, grid.hi, 1 / np.sqrt(count * grid.hi))))
        np.testing.assert_allclose(leaf.grad, step.grad * step.value, rtol=1e-5)


def test_damping_rises_by_half_a_cosine_after_a_quarter():
    """Nagel et al. 2022, section 4.1, and their released code."""
    share = np.linspace(0, 1, 41)
    found = np.array([annealed(3.0, done) for done in share])
    assert not found[:11].any()
    assert np.all(np.diff(found[10:]) > 0)
    wanted = 3.0 * (1 - np.cos(np.pi * (share[10:] - 0.25) / 0.75)) / 2
    np.testing.assert_allclose(found[10:], wanted, atol=1e-12)
    assert annealed(0.0, 1.0) == 0


def test_damping_counts_as_much_as_the_training_is_over(model, pixels):
    """A run tells its penalty every step how far it is, from the first at nothing on; and the loss
    is that without it and `annealed` of the sum."""
    learnable, batch = Learnable(quantize_model(model, pixels, "w4a4")), batch_of(model)
    plain, damped = (student_of(learnable, model, strength) for strength in (0.0, 2.0))
    assert plain.penalty is None
    total = learnable.damping(learnable.tensors)
    base, first, half, last = (
        gradients(TrainRecipe(), student, learnable.tensors, batch, done)[1]
        for student, done in ((plain, 1.0), (damped, 0.25), (damped, 0.625), (damped, 1.0))
    )
    assert first == base
    assert half - base == pytest.approx(total, rel=1e-3)
    assert last - base == pytest.approx(2 * total, rel=1e-3)
    seen = []
    watched = replace(plain, penalty=lambda leaves, tap, done: seen.append(done) or 0.0)
    train(TrainRecipe(images=64, batch=16, shards=1), None, Shapes10(), student=watched)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_grids_are_made_once_a_step(model, pixels, monkeypatch):
    """Damping takes them from the tap, and finds what it finds without."""
    learnable, made = Learnable(quantize_model(model, pixels, "w4a4")), []
    leaves = {name: Var(tensor) for name, tensor in learnable.tensors.items()}
    with_tap = learnable.damping(leaves, learnable.tap(leaves))
    assert with_tap.value == learnable.damping(leaves).value == learnable.damping(learnable.tensors)
    real = Learnable._grids
    monkeypatch.setattr(Learnable, "_grids", lambda *args: made.append(1) or real(*args))
    student = student_of(learnable, model, 1.0)
    gradients(TrainRecipe(), student, learnable.tensors, batch_of(model), 0.5)
    assert len(made) == 1
