"""Search: scales by the Hessian metric, rounding by AdaRound and GPTQ, widths under a budget."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import refvit
from refvit.compare import weight_bytes
from refvit.quant import (
    QParams,
    Recipe,
    Spec,
    asymmetric,
    dequantize,
    fake_quantize,
    grouped,
    quantize,
    read_recipe,
    symmetric,
)
from refvit.quant.adaround import adaround, errors, learned, no_worse, push
from refvit.quant.gptq import gptq, lattice
from refvit.quant.hessian import (
    LOSSES,
    Metric,
    chosen,
    gradients,
    search_scales,
    straight_through,
)
from refvit.quant.mixed import allocate, greedy, mixed_precision, sensitivity
from refvit.quant.operands import input_moments, inputs, linears, run
from refvit.quant.rounding import by_input, round_weights
from refvit.quant.shift_log2 import ShiftLog2Grid

widths = st.integers(2, 8)
halves = st.builds(lambda k, e: k / 2 * 2.0**e, st.integers(-300, 300), st.integers(-6, 6))
matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=halves
)
seeds = st.integers(0, 10_000)


def grid_of(w, bits, kind):
    """A grid of every kind that weights have."""
    if kind == "asymmetric":
        return asymmetric(w.min(1), w.max(1), bits, signed=True, axis=0)
    if kind == "grouped":
        return symmetric(grouped(w, 3), bits, axis=0, group=3)
    if kind == "tensor":
        return symmetric(np.abs(w).max() / 2, bits)  # half of the range is cut off
    return symmetric(np.abs(w).max(1), bits, axis=0)


kinds = st.sampled_from(["channel", "tensor", "asymmetric", "grouped"])


def problem(seed, rows=8, width=12, images=40):
    """Weights [rows, width] and the moment of correlated inputs whose mean is not 0."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((width, width)) * rng.uniform(0.1, 2.0, width)
    x = rng.standard_normal((images, width)) @ mix + rng.standard_normal(width)
    return rng.standard_normal((rows, width)), x.T @ x


# --- rounding, one layer ---------------------------------------------------------------------


@given(matrices, widths, kinds)
def test_a_lattice_says_what_the_grid_decodes_to(w, bits, kind):
    grid = grid_of(w, bits, kind)
    step, lo, hi = lattice(grid, w.shape)
    codes = quantize(w, grid).astype(np.int64)
    assert np.array_equal((codes - grid.lo + lo) * step, dequantize(codes, grid, np.float64))
    assert ((hi - lo) == grid.hi - grid.lo).all()


@given(matrices, widths, kinds, st.booleans())
def test_gptq_of_uncorrelated_inputs_is_nearest(w, bits, kind, ordered):
    grid = grid_of(w, bits, kind)
    codes = gptq(w, grid, np.eye(w.shape[1]), ordered=ordered)
    assert codes.dtype == grid.dtype
    assert np.array_equal(codes, quantize(w, grid))


@given(seeds, kinds, st.sampled_from([0.0, 0.01, 1.0]))
def test_gptq_rounds_each_column_where_least_squares_puts_it(seed, kind, damping):
    """Given the errors d_f of the columns rounded already, the rest solve H_rr d_r = -H_rf d_f."""
    w, moment = problem(seed, rows=5, width=7)
    grid = grid_of(w, 4, kind)
    step, lo, hi = lattice(grid, w.shape)
    h = moment + damping * np.diag(moment).mean() * np.eye(7)
    off = np.zeros_like(w)
    for j in range(7):
        rest = np.linalg.solve(h[j:, j:], -h[j:, :j] @ off[:, :j].T).T
        column = np.clip(np.rint((w[:, j] + rest[:, 0]) / step[:, j]), lo[:, j], hi[:, j])
        off[:, j] = column * step[:, j] - w[:, j]
    got = gptq(w, grid, moment, damping, ordered=False)
    assert np.allclose(dequantize(got, grid, np.float64), w + off, rtol=0, atol=1e-9)


def test_gptq_has_less_output_error_than_nearest_on_nearly_every_problem():
    cases = [(*problem(seed, rows=16), bits) for seed in range(25) for bits in (2, 3, 4, 8)]
    ratios = []
    for w, moment, bits in cases:
        grid = symmetric(np.abs(w).max(1), bits, axis=0)
        found, nearest = (errors(w, grid, codes, moment).sum()
                          for codes in (gptq(w, grid, moment), quantize(w, grid)))  # fmt: skip
        ratios.append(found / nearest)
    assert np.mean(np.array(ratios) <= 1) >= 0.97
    assert np.median(ratios) < 0.5


def test_gptq_keeps_the_weights_of_inputs_that_calibration_never_saw():
    w, moment = problem(3)
    moment[2] = moment[:, 2] = 0
    grid = symmetric(np.abs(w).max(1), 4, axis=0)
    assert np.array_equal(gptq(w, grid, moment)[:, 2], quantize(w, grid)[:, 2])
    assert np.array_equal(gptq(w, grid, 0 * moment), quantize(w, grid))


@settings(max_examples=settings.default.max_examples // 4)  # more under `thorough`
@given(seeds, st.sampled_from([2, 3, 4]), kinds)
def test_adaround_goes_to_a_neighbour_and_is_never_worse_than_nearest(seed, bits, kind):
    w, moment = problem(seed)
    grid = grid_of(w, bits, kind)
    codes = adaround(w, grid, moment, steps=60, rate=0.1)
    step, lo, hi = lattice(grid, w.shape)
    floor = np.floor(np.clip(w / step, lo, hi)) - lo + grid.lo
    assert codes.dtype == grid.dtype
    assert np.abs(codes - floor).max() <= 1
    assert codes.min() >= grid.lo
    assert codes.max() <= grid.hi
    nearest = errors(w, grid, quantize(w, grid), moment)
    assert (errors(w, grid, codes, moment) <= nearest).all()


def test_weights_beyond_the_end_of_a_grid_can_still_go_down():
    """As released, both their choices are the end."""
    w, moment = problem(27, rows=8, width=12)
    grid = symmetric(0.6 * np.abs(w).max(1), 3, axis=0)
    beyond = w / grid.scale[:, None] > grid.hi
    codes = adaround(w, grid, moment, steps=400, rate=0.03)[beyond]
    assert set(codes.tolist()) == {grid.hi - 1, grid.hi}


def test_adaround_wins_most_of_what_nearest_loses_to_the_best_of_all_choices():
    """Every choice of up and down is tried, on 24 rows of 8 weights."""
    lost = np.zeros(2)
    choices = np.array(list(itertools.product((0, 1), repeat=8)))
    for seed in range(6):
        w, moment = problem(seed, rows=4, width=8)
        grid = symmetric(np.abs(w).max(1), 3, axis=0)
        step, lo, hi = lattice(grid, w.shape)
        floor = np.minimum(np.floor(w / step), hi - 1) - lo + grid.lo
        least = np.min([errors(w, grid, floor + choice, moment) for choice in choices], axis=0)
        codes = adaround(w, grid, moment, steps=400, rate=0.03), quantize(w, grid)
        found = np.array([errors(w, grid, c, moment) for c in codes])
        assert (found >= least * (1 - 1e-9)).all()
        lost += (found / least - 1).sum(1)
    assert lost[0] < 0.5 * lost[1]


def test_adaround_weighs_an_error_by_its_step_where_groups_of_a_row_differ():
    """Two groups 30 times apart: errors in steps alone would count the finer one 900 times over."""
    ratios = []
    for seed in range(10):
        w, moment = problem(seed, rows=16, width=32, images=80)
        w[:, 16:] *= 30
        grid = symmetric(grouped(w, 16), 3, axis=0, group=16)
        codes = adaround(w, grid, moment, steps=400, rate=0.03), quantize(w, grid)
        found, nearest = (errors(w, grid, c, moment).sum() for c in codes)
        ratios.append(found / nearest)
    assert np.mean(ratios) < 0.75


@given(hnp.arrays(np.float64, 5, elements=st.floats(0.001, 0.999)), st.floats(0.3, 1.0))
def test_the_push_is_the_slope_of_the_regularizer(h, done):
    beta = 2 + 18 * 0.5 * (1 + np.cos(np.pi * (done - 0.2) / 0.8))
    value = lambda h: 1 - np.abs(2 * h - 1) ** beta  # noqa: E731
    with np.errstate(under="ignore"):
        slope = (value(h + 1e-6) - value(h - 1e-6)) / 2e-6
    assert np.allclose(push(h, done), slope, rtol=1e-4, atol=1e-4)
    assert (push(h, 0.1) == 0).all()


def test_without_the_regularizer_adam_finds_the_real_weights():
    share = np.random.default_rng(0).uniform(0.1, 0.9, (3, 12))
    m = problem(0)[1]
    m /= np.diag(m).mean()
    h = learned(np.full_like(share, 0.5), -share, m, steps=1000, rate=0.01, pressure=0.0)
    assert np.vdot(h - share, (h - share) @ m) < 1e-3 * np.vdot(share - 0.5, (share - 0.5) @ m)


@given(seeds, widths)
def test_no_worse_takes_each_row_from_the_better(seed, bits):
    w, moment = problem(seed)
    grid = symmetric(np.abs(w).max(1), bits, axis=0)
    other = np.random.default_rng(seed).integers(grid.lo, grid.hi + 1, w.shape).astype(grid.dtype)
    kept = no_worse(w, grid, other, moment)
    rows = [errors(w, grid, codes, moment) for codes in (other, quantize(w, grid), kept)]
    assert np.array_equal(rows[2], np.minimum(rows[0], rows[1]))


# --- rounding, a model -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture(scope="module")
def pixels(model):
    return model.preprocess.normalise(refvit.data.shapes10("calibration", 32)[0])


@pytest.fixture(scope="module")
def fresh(model):
    return model.preprocess.normalise(refvit.data.shapes10("test", 150)[0])


@pytest.fixture(scope="module")
def w4a8(model, pixels):
    return refvit.quantize(model, pixels, "w4a8")


@pytest.fixture(scope="module")
def by_gptq(w4a8, pixels):
    return round_weights(w4a8, pixels, "gptq")


def logit_error(quantized, model, pixels):
    return float(np.square(quantized(pixels) - model(pixels)).mean())


def test_moments_are_those_of_the_simulated_models_inputs(w4a8, pixels):
    seen = {}
    sites = ["blocks.1.attn.q", "blocks.1.mlp.fc2"]
    tap = lambda site, value: seen.setdefault(site, w4a8.qparams[site].round(value))  # noqa: E731
    w4a8.model(pixels, tap=lambda site, v: tap(site, v) if site in w4a8.qparams else v)
    for site, source in zip(sites, ("blocks.1.norm1", "blocks.1.mlp.act"), strict=True):
        rows = seen[source].reshape(-1, seen[source].shape[-1]).astype(np.float64)
        moment = input_moments(w4a8, pixels, sites)[site]
        assert np.allclose(moment, rows.T @ rows, rtol=1e-4)
    assert list(inputs(w4a8, pixels[:1], sites[:1])) == sites[:1]


def test_weights_lie_on_their_grids_and_only_weights_change(w4a8, by_gptq, pixels):
    assert by_gptq.qparams == w4a8.qparams
    changed = 0
    for name, tensor in by_gptq.params.items():
        before, grid = w4a8.params[name], w4a8.qparams.get(name)
        assert tensor.dtype == before.dtype
        if not name.endswith(".weight") or before.ndim == 1:
            assert tensor is before
            continue
        assert np.array_equal(fake_quantize(tensor, grid), tensor), name
        codes = quantize(tensor, grid)
        assert np.array_equal(codes, quantize(tensor.astype(np.float64), grid)), name
        changed += (codes != quantize(before, grid)).sum()
    assert changed > 10_000


def test_every_layer_has_at_most_the_output_error_of_nearest(w4a8, by_gptq, pixels):
    quantized = by_gptq
    better = []
    for group in by_input(quantized, "*"):
        for site, moment in input_moments(quantized, pixels, group).items():
            grid = quantized.qparams[f"{site}.weight"]
            before = w4a8.params[f"{site}.weight"].astype(np.float64)
            codes = quantize(quantized.params[f"{site}.weight"], grid)
            found, nearest = (
                errors(before, grid, c, moment) for c in (codes, quantize(before, grid))
            )
            assert (found <= nearest * (1 + 1e-9)).all(), site
            plain = errors(before, grid, gptq(before, grid, moment), moment)
            better.append((plain <= nearest).mean())
    assert np.mean(better) >= 0.97  # rows for which GPTQ needed no help


def test_compensated_rounding_keeps_the_logits(w4a8, by_gptq, model, fresh):
    before, after = (logit_error(q, model, fresh) for q in (w4a8, by_gptq))
    assert after < 0.6 * before


def test_the_engine_takes_the_chosen_codes(by_gptq, pixels):
    engine = refvit.compile(by_gptq)
    for record in linears(by_gptq.model):
        name = f"{record.site}.weight"
        assert np.array_equal(
            engine.constants[name], quantize(by_gptq.params[name], by_gptq.qparams[name])
        )


def test_adaround_runs_on_the_layers_that_are_named(w4a8, pixels):
    learn = functools.partial(adaround, steps=100, rate=0.05)
    found = round_weights(w4a8, pixels[:8], learn, sites="blocks.0.*")
    moved = {name for name, t in found.params.items() if t is not w4a8.params[name]}
    assert moved == {
        f"blocks.0.{layer}.weight"
        for layer in ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    for name in moved:
        exact, grid = w4a8.params[name].astype(np.float64), w4a8.qparams[name]
        assert np.abs(quantize(found.params[name], grid) - exact / grid.scale[:, None]).max() < 1


def test_rounding_of_the_unknown_is_refused(w4a8, pixels):
    with pytest.raises(ValueError, match="no rounding 'best'; there are adaround, gptq"):
        round_weights(w4a8, pixels, "best")
    with pytest.raises(ValueError, match=r"no linear of the model matches 'block\.\*'"):
        round_weights(w4a8, pixels, "gptq", sites="block.*")


# --- scales ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def w4a4(model, pixels):
    return refvit.quantize(model, pixels, "w4a4")


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_every_loss_is_the_slope_along_any_direction(w4a4, pixels, loss):
    """Central differences in float64; the straight-through roundings are held as they were."""
    batch, site = pixels[:2].astype(np.float64), "blocks.2.mlp.fc1"
    start = w4a4 if loss != "divergence" else replace(w4a4, qparams={})
    exact = run(w4a4.model, batch, lambda product: None)
    exact = exact if loss != "divergence" else exact[:, ::-1]  # somewhere that is no minimum
    g = gradients(start, batch, exact, loss, [site])[site]
    along = np.random.default_rng(0).standard_normal(g.shape)

    def value(t):
        tap = lambda s, v: v + t * along if s == site else v  # noqa: E731
        return 2 * LOSSES[loss](run(w4a4.model, batch, lambda product: None, tap), exact)

    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    assert np.vdot(g, along) == pytest.approx(slope, rel=1e-6)


def test_the_released_metric_weighs_with_noise(w4a4, pixels):
    """KL between the float model and itself has no slope; what replaces it has."""
    batch, sites = pixels[:4], ["blocks.1.attn.v", "head"]
    exact = run(w4a4.model, batch, lambda product: None)
    itself = gradients(replace(w4a4, qparams={}), batch, exact, "divergence", sites)
    for loss in LOSSES:
        ours = gradients(w4a4, batch, exact, loss, sites)
        assert all(np.abs(itself[s]).max() < 1e-4 * np.abs(ours[s]).max() for s in sites)


def test_straight_through_is_the_rounded_value_with_the_slope_of_the_identity():
    x, grid = refvit.autodiff.Var(np.array([0.3, 0.7])), QParams(0.5, 4)
    y = straight_through(x, grid)
    refvit.autodiff.backward(np.sum(y * np.array([2.0, 3.0])))
    assert np.array_equal(y.value, [0.5, 0.5])
    assert np.array_equal(x.grad, [2.0, 3.0])


@pytest.mark.parametrize("loss", LOSSES)
def test_scales_are_never_worse_than_their_start_in_their_own_metric(w4a4, pixels, loss):
    metric = Metric(w4a4, loss)
    first = metric.total(w4a4, pixels[:8])
    once, twice = (search_scales(w4a4, pixels[:8], rounds, 6, loss) for rounds in (1, 2))
    totals = [first, metric.total(once, pixels[:8]), metric.total(twice, pixels[:8])]
    assert totals[1] < totals[0]
    assert totals[2] <= totals[1] * (1 + 1e-5)


def test_twin_grids_are_searched_in_the_metric_too(model, pixels):
    """All splits after softmax, all steps after GELU: none costs less than what was chosen."""
    table = {"*.softmax": Spec(4, False, quantizer="twin", observer="mse"),
             "*.act": Spec(4, quantizer="twin", observer="mse"),
             "*.weight": Spec(8, axis=0), "*": Spec(8)}  # fmt: skip
    start = refvit.quantize(model, pixels, Recipe("twin", table))
    metric, few = Metric(start), pixels[:4]
    for name in ("blocks.1.attn.softmax", "blocks.1.mlp.act"):
        options = metric.options(start, name, 9)
        assert options[0] is start.qparams[name]
        assert len({(float(g.scale), g.shift) for g in options}) > 8
        costs = metric.costs(start, few, {name: options})[name]
        assert chosen(options, costs) is options[int(costs.argmin())]
        assert any(name in turn for turn in metric.turns)
    found = search_scales(start, few, rounds=1, candidates=9)
    assert metric.total(found, few) < metric.total(start, few)
    assert all(type(found.qparams[name]) is type(grid) for name, grid in start.qparams.items())
    assert refvit.compile(found)(few[:1]).shape == (1, 10)


def test_searched_scales_keep_the_logits_and_compile(w4a4, model, pixels, fresh):
    found = search_scales(w4a4, pixels[:16], rounds=1, candidates=20)
    before, after = (logit_error(q, model, fresh) for q in (w4a4, found))
    assert after < 0.8 * before
    for record in linears(model):
        bias, weight = (found.qparams[f"{record.site}.{part}"] for part in ("bias", "weight"))
        assert np.allclose(bias.scale, weight.scale * found.qparams[record.inputs[0]].scale)
    stream = [name for name, grid in found.qparams.items() if grid.bits == 16]
    assert all(found.qparams[name] is w4a4.qparams[name] for name in stream)
    assert refvit.compile(found)(pixels[:1]).shape == (1, 10)


def test_the_metric_is_the_error_of_what_the_operator_gives(w4a4, pixels):
    """Of scores, by their definition: the scale of attention is part of what an error is worth."""
    batch, at = pixels[:4], "blocks.1.attn"
    values = w4a4.model.trace(batch)
    exact = values["head"]
    g = gradients(w4a4, batch, exact, "decision", [f"{at}.scores"])[f"{at}.scores"]
    q, k = (
        w4a4.qparams[f"{at}.{n}"].round(values[f"{at}.{n}"]).reshape(4, 65, 4, 12) for n in "qk"
    )
    scores = np.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(np.float32(12))
    with np.errstate(under="ignore"):
        wanted = np.square(g * (scores - values[f"{at}.scores"])).sum(dtype=np.float64)
    options = {f"{at}.q": [w4a4.qparams[f"{at}.q"]]}  # read by the scores alone
    assert Metric(w4a4).costs(w4a4, batch, options)[f"{at}.q"] == pytest.approx([wanted], rel=1e-4)


def test_each_channel_takes_the_candidate_that_is_cheapest_for_it(w4a4, pixels):
    metric, name = Metric(w4a4), "blocks.0.mlp.fc2.weight"
    options = metric.options(w4a4, name, 5)
    costs = metric.costs(w4a4, pixels[:4], {name: options})[name]
    assert costs.shape == (6, 48)
    best = chosen(options, costs)
    for channel in (0, 7, 47):
        winner = options[int(costs[:, channel].argmin())]
        assert best.scale[channel] == winner.scale[channel]


def test_turns_hold_every_operand_once_and_none_that_depend_on_each_other(w4a4):
    metric = Metric(w4a4)
    weights, first, second = metric.turns
    assert len(weights) == 26
    assert len({*weights, *first, *second}) == len(weights) + len(first) + len(second)
    for a, b in metric.reads.values():
        assert any(a in turn for turn in (first, second))
        assert not any(a in turn and b in turn for turn in metric.turns)


def test_a_searched_scale_is_large_enough_for_its_bias(model, pixels):
    """A channel of nearly nothing, with a bias: the least candidates would leave no code for it."""
    tensors = dict(model.params.items())
    weight = tensors["blocks.0.attn.q.weight"].copy()
    weight[3] = 1e-8 * np.random.default_rng(0).standard_normal(48)
    params = refvit.params.Params(tensors | {"blocks.0.attn.q.weight": weight})
    start = refvit.quantize(replace(model, params=params), pixels[:4], "w8a8")
    found = search_scales(start, pixels[:4], 1, 4)
    before, after = (q.qparams["blocks.0.attn.q.weight"].scale[3] for q in (start, found))
    assert after >= before * (1 - 1e-9)  # calibration gave it the least it needs
    bias = found.params["blocks.0.attn.q.bias"] / found.qparams["blocks.0.attn.q.bias"].scale
    assert np.abs(bias).max() < 2**31
    refvit.compile(found)


def test_an_unknown_loss_is_refused(w4a4, pixels):
    with pytest.raises(ValueError, match="no loss 'kl'; there are decision, drawn, divergence"):
        search_scales(w4a4, pixels, loss="kl")


# --- widths ----------------------------------------------------------------------------------


def every(sizes, costs):
    """(cost, bytes) of every choice."""
    picks = itertools.product(range(sizes.shape[1]), repeat=len(sizes))
    return {p: total(sizes, costs, p) for p in picks}


def total(sizes, costs, pick):
    return sum(costs[i, k] for i, k in enumerate(pick)), sum(
        sizes[i, k] for i, k in enumerate(pick)
    )


@given(st.integers(1, 6), st.integers(0, 40), st.data())
def test_the_allocation_is_that_of_brute_force(layers, budget, data):
    cells = hnp.arrays(np.int64, (layers, 3), elements=st.integers(1, 9))
    sizes, costs = data.draw(cells), data.draw(cells).astype(float)
    totals = every(sizes, costs)
    fitting = [found for found in totals.values() if found[1] <= budget]
    if not fitting:
        for choose in (allocate, greedy):
            with pytest.raises(ValueError, match="too small: the least there is takes"):
                choose(sizes, costs, budget)
        return
    picked = allocate(sizes, costs, budget)
    assert totals[picked] == min(fitting)  # the cheapest, and the smallest of those


@given(st.integers(1, 5), st.integers(0, 40), st.data())
def test_the_greedy_choice_fits_and_is_the_best_of_the_bytes_it_takes(layers, budget, data):
    """Whatever the costs: it goes from corner to corner of the convex hull of each layer's."""
    cells = hnp.arrays(np.int64, (layers, 3), elements=st.integers(1, 9))
    sizes, costs = data.draw(cells), data.draw(cells).astype(float)
    budget = max(budget, int(sizes.min(1).sum()))
    cost, used = total(sizes, costs, greedy(sizes, costs, budget))
    assert used <= budget
    assert cost >= total(sizes, costs, allocate(sizes, costs, budget))[0]
    assert cost == min(c for c, size in every(sizes, costs).values() if size <= used)


@given(st.integers(1, 8), st.integers(0, 30), st.data())
def test_the_greedy_choice_is_exact_where_layers_of_one_size_have_convex_costs(
    layers, budget, data
):
    """Then every narrowing saves the same, and no byte of a budget is out of its reach alone."""
    drops = data.draw(hnp.arrays(np.int64, (layers, 3), elements=st.integers(0, 20)))
    costs = np.cumsum(np.hstack([np.zeros((layers, 1)), np.sort(drops, 1)]), 1)[:, ::-1]
    sizes = np.tile([1, 2, 3, 4], (layers, 1))
    budget = max(budget, layers)
    found, best = (total(sizes, costs, f(sizes, costs, budget))[0] for f in (greedy, allocate))
    assert found == best


def test_the_greedy_choice_is_brute_forces_in_half_of_all_cases():
    """Of 200 of four layers, whose costs fall four times with every bit, and any budget."""
    rng, widths, ratios = np.random.default_rng(0), np.array([3, 4, 6, 8]), []
    for _ in range(200):
        sizes = rng.choice([288, 1152, 864], 4)[:, None] * widths
        spread = rng.normal(0, 1, (4, 1)) + rng.normal(0, 0.2, (4, 4))
        costs = np.exp(spread) * 4.0**-widths
        budget = int(rng.integers(sizes[:, 0].sum(), sizes[:, -1].sum() + 1))
        best = min(c for c, size in every(sizes, costs).values() if size <= budget)
        ratios.append(total(sizes, costs, greedy(sizes, costs, budget))[0] / best)
    assert min(ratios) >= 1 - 1e-12
    assert np.mean(np.isclose(ratios, 1)) > 0.5
    assert np.mean(ratios) < 1.15


def test_a_budget_is_met_by_explicit_lines_and_costs_less_than_one_width(model, pixels, tmp_path):
    few = pixels[:8]
    found = sensitivity(model, few, (3, 4, 6))
    budget = int(found.bytes[:, 1].sum())
    recipe = mixed_precision(model, few, budget, (3, 4, 6))
    names = [f"{layer}.weight" for layer in found.layers]
    assert list(recipe.table)[: len(names)] == names
    at = [found.widths.index(recipe.spec(n).bits) for n in names]
    assert found.costs[range(len(at)), at].sum() <= found.costs[:, 1].sum()
    assert (found.costs >= 0).all()
    assert (found.costs[:, 0] > found.costs[:, 2]).all()
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml") == recipe
    quantized = refvit.quantize(model, few, recipe)
    assert [quantized.qparams[n].bits for n in names] == [recipe.spec(n).bits for n in names]
    assert weight_bytes(quantized) == found.bytes[range(len(at)), at].sum() <= budget


@pytest.mark.parametrize("table", [Spec(4), Spec(4, axis=0), Spec(4, axis=0, group=16)])
def test_a_budget_is_of_what_compare_counts(model, pixels, table):
    """Codes and their scales, one for all, for each channel or for each group."""
    one = Recipe("r", {"*.weight": table, "*": Spec(8)})
    found = sensitivity(model, pixels[:1], (4,), one)
    assert found.bytes.sum() == weight_bytes(refvit.quantize(model, pixels[:1], one))


def test_a_sensitivity_is_that_of_all_images_and_takes_few_at_a_time(model, monkeypatch):
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 70)[0])
    only, counts = Recipe("r", {"*.weight": Spec(8, axis=0), "*": Spec(8)}), set()
    forward = refvit.model.forward

    def watched(ops, x, params, config):
        counts.add(len(x))
        return forward(ops, x, params, config)

    monkeypatch.setattr(refvit.model, "forward", watched)
    found = sensitivity(model, pixels, (4,), only)
    assert max(counts) <= 32
    parts = [sensitivity(model, some, (4,), only) for some in (pixels[:50], pixels[50:])]
    assert np.allclose(found.costs, (50 * parts[0].costs + 20 * parts[1].costs) / 70, rtol=1e-3)


def test_a_sensitivity_is_that_of_one_layer_alone(model, pixels):
    only = Recipe("r", {"*.weight": Spec(8, axis=0), "*": Spec(8)})
    found = sensitivity(model, pixels[:4], (4,), only)
    weight = model.params["head.weight"]
    grid = symmetric(np.abs(weight.astype(np.float64)).max(1), 4, axis=0)
    params = dict(model.params.items()) | {"head.weight": fake_quantize(weight, grid)}
    other = replace(model, params=refvit.params.Params(params))
    a, b = (m(pixels[:4]).astype(np.float64) for m in (model, other))
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (a, b))
    assert found.layers[-1] == "head"
    assert found.costs[-1, 0] == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-6)


def test_a_budget_below_the_narrowest_widths_is_refused(model, pixels):
    with pytest.raises(ValueError, match="a budget of 1,000 is too small"):
        mixed_precision(model, pixels[:2], 1000, (4, 8))


# --- shifted powers of two -------------------------------------------------------------------

shifted = st.integers(2, 4).flatmap(
    lambda bits: st.builds(ShiftLog2Grid, st.just(bits), st.integers(1, 2**bits - 1))
)
chances = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1))


@given(chances, shifted)
def test_shifted_powers_are_idempotent_monotone_and_exact_at_zero(x, grid):
    once = grid.round(x)
    assert np.array_equal(grid.round(once), once)
    assert (np.diff(once[np.argsort(x)]) >= 0).all()
    assert (once[x == 0] == 0).all()
    assert grid.round(np.zeros(1))[0] == 0
    codes = grid.encode(x)
    assert codes.max() <= grid.hi < 2**grid.bits
    integers = once / grid.scale
    assert np.array_equal(integers, np.rint(integers))
    assert integers.min() >= grid.range[0]
    assert integers.max() <= grid.range[1]


@given(chances, shifted)
def test_shifted_powers_are_nearest_in_the_logarithm(x, grid):
    values = grid.decode(np.arange(grid.hi + 1), np.float64)
    off = np.abs(np.log2(x[:, None] + grid.scale) - np.log2(values + grid.scale))
    got = np.abs(np.log2(x + grid.scale) - np.log2(grid.round(x) + grid.scale))
    assert np.allclose(got, off.min(1), atol=1e-9)


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(0, 15)), seeds)
def test_a_product_is_a_sum_of_shifted_values_less_one_shifted_sum(codes, seed):
    grid = ShiftLog2Grid(4, 15)
    v = np.random.default_rng(seed).integers(-128, 128, (5, 4))
    shifts = grid.shift - codes
    integers = np.array([[(v[:, n] << row).sum() for n in range(4)] for row in shifts]) - v.sum(0)
    assert np.array_equal(integers * grid.scale, grid.decode(codes, np.float64) @ v)


def test_shifts_without_a_code_are_refused():
    with pytest.raises(ValueError, match="asked for 3 bits and shift 8"):
        ShiftLog2Grid(3, 8)
