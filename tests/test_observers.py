"""Grids of every kind, observers, and recipes: their laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import refvit
from refvit.quant import (
    OBSERVERS,
    PRESETS,
    DynamicGrid,
    Histogram,
    QParams,
    Recipe,
    Spec,
    asymmetric,
    covering,
    dequantize,
    fake_quantize,
    grouped,
    observer,
    quantize,
    read_recipe,
    symmetric,
)
from refvit.quant.histogram import HAIR, affine_errors
from refvit.quant.observers import divergence
from refvit.quant.recipe import SEARCHED

widths = st.integers(2, 16)
halves = st.builds(lambda k, e: k / 2 * 2.0**e, st.integers(-300, 300), st.integers(-6, 6))
tensors = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=6), elements=halves)
matrices = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                      elements=halves)  # fmt: skip


@given(tensors, widths, st.booleans())
def test_an_asymmetric_grid_covers_its_range_and_has_zero(x, bits, signed):
    q = asymmetric(x.min(), x.max(), bits, signed=signed)
    codes = quantize(x, q)
    assert codes.min() >= q.lo
    assert codes.max() <= q.hi
    assert np.abs(dequantize(codes, q, np.float64) - x).max() <= q.scale * (0.5 + 1e-9)
    assert quantize(np.zeros(1), q)[0] == q.zero_point
    assert dequantize(quantize(np.zeros(1), q), q)[0] == 0
    once = fake_quantize(x, q)
    assert np.array_equal(fake_quantize(once, q), once)
    assert np.array_equal(dequantize(codes, q, np.float64), once)


@given(matrices, matrices, widths)
def test_an_asymmetric_product_is_the_expanded_sum(x, w, bits):
    """sum (a - za)(b - zb) = sum ab - za sum b - zb sum a + K za zb: Jacob et al. 2018, eq. 7."""
    inner = min(x.shape[1], w.shape[1])
    x, w = x[:, :inner], w[:, :inner]
    qx = asymmetric(x.min(), x.max(), bits)
    qw = asymmetric(w.min(1), w.max(1), bits, signed=True, axis=0)
    a, b = quantize(x, qx).astype(np.int64), quantize(w, qw).astype(np.int64)
    za, zb = int(qx.zero_point), qw.zero_point
    expanded = a @ b.T - za * b.sum(1) - a.sum(1)[:, None] * zb + inner * za * zb
    real = expanded * (qx.scale * qw.scale)
    wanted = dequantize(a, qx, np.float64) @ dequantize(b, qw, np.float64).T
    assert np.allclose(real, wanted, rtol=1e-12, atol=1e-12 * np.abs(wanted).max())


@given(tensors, widths)
def test_a_restricted_grid_lacks_the_least_code_only(x, bits):
    full, restricted = (symmetric(np.abs(x).max() / 2, bits, restricted=r) for r in (False, True))
    assert (restricted.lo, restricted.hi) == (full.lo + 1, full.hi)
    a, b = quantize(x, full), quantize(x, restricted)
    assert np.array_equal(np.maximum(a, restricted.lo), b)
    assert np.array_equal(quantize(-x, restricted), -b)


@given(matrices, st.integers(2, 8), st.integers(1, 7))
def test_groups_are_their_columns_alone(w, bits, group):
    q = symmetric(grouped(w, group), bits, axis=0, group=group)
    for start in range(0, w.shape[1], group):
        part = w[:, start : start + group]
        alone = symmetric(np.abs(part).max(1), bits, axis=0)
        assert np.array_equal(quantize(w, q)[:, start : start + group], quantize(part, alone))
    rows = symmetric(np.abs(w).max(1), bits, axis=0)
    assert np.square(fake_quantize(w, q) - w).sum() <= w.size * np.square(rows.scale).max() / 4


def test_grids_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="zero point is an integer"):
        QParams(np.ones(3), 8, axis=0, zero_point=np.array([1.0, 2.0, 3.0]))
    for signed, zero_point in ((False, 999), (False, -1), (False, 256), (True, -128)):
        with pytest.raises(ValueError, match=f"a zero point is a code, .* got .{zero_point}"):
            QParams(1.0, 8, signed, zero_point=zero_point, restricted=True)
    with pytest.raises(ValueError, match="a zero point is a code, 0 to 15"):
        QParams(np.ones(2), 4, False, 0, zero_point=np.array([15, 16]))
    with pytest.raises(ValueError, match="groups of 4 go along axis 0"):
        QParams(np.ones((3, 2)), 8, group=4)
    with pytest.raises(ValueError, match=r"a scale of shape \(3,\) does not go"):
        QParams(np.ones(3), 8, axis=0, group=4)


@given(
    st.lists(hnp.arrays(np.float64, st.integers(1, 20), elements=halves), min_size=1, max_size=6)
)
def test_a_streamed_histogram_is_that_of_the_whole_in_any_order(parts):
    streamed, backward, whole = Histogram(64), Histogram(64), Histogram(64)
    for part in parts:
        streamed.update(part)
    for part in parts[::-1]:
        backward.update(part)
    everything = np.concatenate(parts)
    whole.update(everything)
    for other in (streamed, backward):
        assert np.array_equal(other.counts, whole.counts)
        assert (other.reach, other.lo, other.hi) == (whole.reach, whole.lo, whole.hi)
    assert whole.counts.sum() == everything.size
    for share in (0.0, 0.5, 0.9, 1.0):
        k = max(0, int(np.ceil(share * everything.size)) - 1)
        exact = np.sort(everything)[k]
        assert abs(whole.quantile(share) - exact) <= whole.width + 1e-12


def test_a_moving_average_forgets_a_tenth_of_what_it_held_with_every_batch():
    seen = observer("moving")
    for ends in ([-1.0, 1.0], [-2.0, 11.0], [0.0, 0.0]):
        seen.update(np.array(ends))
    assert seen.range(8, True, True) == pytest.approx((-0.99, 1.8))


def test_one_value_in_ten_thousand_lies_beyond_each_end_of_a_percentile():
    seen, x = observer("percentile"), np.random.default_rng(0).standard_normal(500_000)
    seen.update(x)
    lo, hi = seen.range(8, True, True)
    assert np.mean(x < lo) == pytest.approx(1e-4, rel=0.1)
    assert np.mean(x > hi) == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_observer_refuses_what_is_not_finite_and_stays_as_it_was(name, bad):
    seen = observer(name)
    seen.update(np.array([[1.0, -3.0]]))
    before = seen.range(8, True, True)
    with pytest.raises(ValueError, match="sees finite values"):
        seen.update(np.array([[1.0, bad, 2.0]]))
    assert seen.range(8, True, True) == before


def test_a_histogram_has_a_multiple_of_four_bins():
    with pytest.raises(ValueError, match="multiple of 4"):
        Histogram(6)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_an_observer_stays_within_what_was_seen_and_keeps_its_memory(name, bits):
    rng = np.random.default_rng(0)
    seen, size = observer(name), 0
    for _ in range(20):
        seen.update(rng.standard_normal(1000).astype(np.float32))
        held = sum(v.nbytes for v in vars(getattr(seen, "seen", seen)).values()
                   if isinstance(v, np.ndarray))  # fmt: skip
        assert size in (0, held) or name == "moving"
        size = held
    lo, hi = seen.range(bits, True, True)
    assert -6 < lo < -0.5
    assert 0.5 < hi < 6


def values_of(kind):
    """Values as layers have them: 20,000 of them, seeded."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000)
    scores = np.exp(2 * x.reshape(-1, 50))
    return {
        "uniform": rng.uniform(-1, 1, 20_000),
        "heavy": rng.standard_t(2, 20_000),
        "gelu": 3 * x / (1 + np.exp(-1.702 * 3 * x)),
        "softmax": (scores / scores.sum(1, keepdims=True)).ravel(),
        "zeros": np.where(rng.random(20_000) < 0.95, 0, x),
        "spike": np.where(rng.random(20_000) < 0.9, 0.01, x),
        "constant": np.full(100, 3.7),
        "outlier 40": np.append(x, 40.0),
        "outlier 300": np.append(x, 300.0),
        "normal": x,
    }[kind]


KINDS = ["normal", "outlier 40", "outlier 300", "uniform", "heavy", "gelu", "softmax", "zeros",
         "spike", "constant"]  # fmt: skip


@pytest.mark.parametrize("even", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_search_for_the_least_error_is_no_worse_than_min_max_at_any_width(kind, even):
    """On the true values, of which the search has counts alone."""
    x, seen = values_of(kind), observer("mse")
    seen.update(x)
    for bits in range(2, 17):
        for signed in (True, False)[: 1 + (not even or x.min() >= 0)]:
            error = [
                np.square(
                    fake_quantize(x, covering(*ends, bits, symmetric=even, signed=signed)) - x
                )
                for ends in (seen.range(bits, even, signed), (x.min(), x.max()))
            ]
            assert error[0].mean() <= error[1].mean() * (1 + 1e-9), (bits, signed)


@pytest.mark.parametrize("even", [True, False], ids=["symmetric", "asymmetric"])
def test_up_to_eight_bits_an_outlier_is_clipped_where_it_costs_less(even):
    x = values_of("outlier 40")
    for bits in range(2, 9):
        error = {}
        for name in ("minmax", "mse", "percentile", "entropy"):
            seen = observer(name)
            seen.update(x)
            lo, hi = seen.range(bits, even, True)
            grid = covering(lo, hi, bits, symmetric=even, signed=True)
            error[name] = np.square(fake_quantize(x, grid) - x).mean()
        assert error["mse"] < (0.75 if bits < 6 else 1) * error["minmax"]
        assert error["mse"] <= 1.01 * min(error.values())
        if bits < 6:
            assert error["percentile"] < error["minmax"]
            assert error["entropy"] < error["minmax"]


@given(
    hnp.arrays(np.float64, st.integers(1, 30), elements=halves), st.integers(2, 16),
    st.floats(0.05, 1.2), st.booleans(),
)  # fmt: skip
def test_an_affine_error_is_that_of_many_values_spread_over_every_bin(x, bits, part, even):
    seen = Histogram(64)
    seen.update(x)
    if seen.reach == 0:
        return
    grid = covering(part * x.min(), part * x.max(), bits, symmetric=even, signed=True)
    if grid.scale < seen.width / 50:
        return  # the points below would miss its steps
    total, hair = 0.0, HAIR * seen.width
    points = (np.arange(4000) + 0.5) / 4000
    for k in np.flatnonzero(seen.counts):
        edges = np.clip((np.array([k, k + 1]) - 32) * seen.width, seen.lo - hair, seen.hi + hair)
        spread = edges[0] + (edges[1] - edges[0]) * points
        total += seen.counts[k] * np.square(grid.round(spread) - spread).mean()
    other = replace(
        grid, scale=np.array([1.0, grid.scale]), zero_point=np.repeat(grid.zero_point, 2), axis=0
    )
    assert affine_errors(seen)(other)[1] == pytest.approx(total, rel=1e-2)


def test_divergence_is_zero_of_what_is_kept_whole():
    counts = np.array([4.0, 0.0, 3.0, 1.0])
    assert divergence(counts, 4, 4) == 0
    assert divergence(counts, 2, 2) > 0
    assert divergence(np.array([5.0, 1.0, 0.0, 2.0]), 4, 2) > 0
    assert divergence(counts, 0, 2) == divergence(np.array([0.0, 0.0, 3.0]), 2, 2) == np.inf


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_entropy_gives_an_asymmetric_grid_the_levels_that_its_longer_side_has(bits):
    """Half of them for values as far below zero as above: then it clips as a symmetric grid does.
    Nearly all for values nearly all of whose range is above: as a symmetric grid of a bit more."""
    rng = np.random.default_rng(0)
    even = rng.laplace(size=50_000)
    skewed = np.where(even < 0, 0.02, 1.0) * even
    for x, more in ((even, 0), (skewed, 1)):
        seen = observer("entropy")
        seen.update(x)
        found, wanted = (seen.range(b, s, True) for b, s in ((bits, False), (bits + more, True)))
        assert found[1] == pytest.approx(wanted[1], rel=0.08)
        error = [
            np.square(fake_quantize(x, covering(*ends, b, symmetric=s, signed=True)) - x).mean()
            for ends, b, s in ((found, bits, False), (wanted, bits + more, True))
        ]
        assert error[0] < 1.3 * error[1]


@pytest.mark.parametrize("name", OBSERVERS)
@given(x=tensors, bits=widths, symmetric_=st.booleans(), signed=st.booleans())
def test_a_range_has_its_ends_in_order_within_zero_and_what_was_seen(
    name, x, bits, symmetric_, signed
):
    """Zeros, constants and single values among them."""
    seen = observer(name)
    seen.update(x)
    lo, hi = seen.range(bits, symmetric_, signed)
    assert min(x.min(), 0) <= lo <= hi <= max(x.max(), 0)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bits", [4, 8])
def test_values_around_two_peaks_keep_both(name, bits):
    """None are near zero, so that a clipping point may lie below all of them."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1, 1], 100_000) * rng.normal(3, 0.2, 100_000)
    seen = observer(name)
    seen.update(x)
    lo, hi = seen.range(bits, True, True)
    assert -5 < lo < -2.9
    assert 2.9 < hi < 5


@given(tensors, st.integers(2, 8), st.booleans())
def test_a_dynamic_grid_is_equivariant_and_each_token_its_own(x, bits, symmetric_):
    for per_token in (False, True):
        grid = DynamicGrid(bits, symmetric=symmetric_, per_token=per_token)
        assert np.array_equal(grid.round(4 * x), 4 * grid.round(x)), "scales with its value"
    rows = x.reshape(-1, x.shape[-1])
    alone = DynamicGrid(bits, symmetric=symmetric_)
    each = np.stack([alone.round(row[None])[0] for row in rows])
    assert np.array_equal(each, DynamicGrid(bits, symmetric=symmetric_, per_token=True).round(rows))


RECIPES = {
    "dynamic": {"*.weight": Spec(8, axis=0), "*": Spec(8, dynamic="token")},
    "asymmetric": {"*.weight": Spec(8, axis=0), "*": Spec(8, signed=False, symmetric=False)},
    "groups": {"*.weight": Spec(4, axis=0, group=16), "*": Spec(8)},
    "entropy": {
        "*.weight": Spec(8, axis=0, observer="mse"),
        "*.softmax": Spec(8, signed=False),
        "*": Spec(8, observer="entropy"),
    },
    "restricted": {"*.weight": Spec(8, axis=0, restricted=True), "*": Spec(16)},
    "twin": {
        "*.weight": Spec(8, axis=0),
        "*.act": Spec(6, quantizer="twin", observer="mse"),
        "*.softmax": Spec(6, signed=False, quantizer="twin", observer="mse"),
        "*": Spec(8),
    },
    "log_sqrt2": {
        "*.weight": Spec(8, axis=0),
        "*.softmax": Spec(4, quantizer="log_sqrt2", observer="mse"),
        "*": Spec(8),
    },
    "shift_log2": {
        "*.weight": Spec(8, axis=0),
        "*.softmax": Spec(3, quantizer="shift_log2", observer="mse"),
        "*": Spec(8),
    },
    "ptf": {
        "*.weight": Spec(8, axis=0),
        "*.add?": Spec(8, quantizer="ptf", observer="channels"),
        "*": Spec(8),
    },
    "log2": {"*.weight": Spec(8, axis=0), "*.softmax": Spec(4, quantizer="log2"), "*": Spec(8)},
}


@pytest.fixture(scope="module")
def small():
    model = refvit.load("nano_vit")
    return model, model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_grid_simulates_a_model(name, small):
    model, pixels = small
    quantized = refvit.quantize(model, pixels, Recipe(name, RECIPES[name]))
    exact, rounded = model(pixels), quantized(pixels)
    assert 0 < np.abs(rounded - exact).max()
    assert np.mean(rounded.argmax(1) == exact.argmax(1)) >= 0.75


def test_the_engine_says_what_it_cannot_hold(small):
    model, pixels = small
    for name, message in (
        (
            "dynamic",
            'run time; write dynamic = "" in its line of the recipe, or take another method',
        ),
        ("asymmetric", "pos_embed: the engine's learned codes are symmetric, .*; give .* a line"),
        ("groups", "not one a group; write group = 0 in its line of the recipe"),
    ):
        with pytest.raises(ValueError, match=message):
            refvit.compile(refvit.quantize(model, pixels, Recipe(name, RECIPES[name])))


WIDE, BOOL, SEEN = (
    st.integers(2, 16),
    st.booleans(),
    st.sampled_from(sorted({*OBSERVERS} - {"channels"})),
)
SPECS = st.one_of(
    st.builds(Spec, WIDE, BOOL, st.sampled_from([None, 0]), restricted=BOOL, observer=SEEN),
    st.builds(Spec, WIDE, BOOL, st.sampled_from([None, 0]), symmetric=st.just(False)),
    st.builds(Spec, WIDE, axis=st.just(0), group=st.integers(1, 64), restricted=BOOL),
    st.builds(Spec, WIDE, BOOL, symmetric=BOOL, dynamic=st.sampled_from(["tensor", "token"])),
    st.builds(Spec, st.integers(2, 4), BOOL, observer=st.sampled_from(SEARCHED),
              quantizer=st.sampled_from(["log2", "log_sqrt2", "shift_log2", "twin"])),
    st.builds(Spec, WIDE, observer=st.just("channels"), quantizer=st.just("ptf")),
)  # fmt: skip


@given(st.dictionaries(
    st.sampled_from(["*.weight", "*.softmax", "blocks.?.attn.q", 'odd"name', "*"]), SPECS,
    min_size=1))  # fmt: skip
def test_a_recipe_is_read_as_it_was_written(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("r") / "r.toml"
    wanted = Recipe('a "name"', table)
    path.write_text(wanted.to_toml())
    found = read_recipe(path)
    assert found == wanted
    assert list(found.table) == list(table), "in the same order"


def test_presets_are_written_and_read(tmp_path):
    for name, preset in PRESETS.items():
        (tmp_path / "p.toml").write_text(preset.to_toml())
        assert read_recipe(tmp_path / "p.toml") == preset, name


BAD = [
    ('[sites]\n"*" = { bits = 8, obsever = "mse" }', "says 'obsever', perhaps observer"),
    ('[sites]\n"*" = { signed = true }', "says no bits"),
    ('[sites]\n"*" = { bits = 1 }', "a recipe gives 2 to 16 bits; got 1"),
    ('[sites]\n"*" = { bits = 8, observer = "kl" }', "no observer 'kl'"),
    ('name = "x"', "needs a table"),
    ("[sites", "is not TOML"),
    ('[sites]\n"*" = 8', "says 8"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_recipe_is_one_clear_line(text, message, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "r.toml")


def test_an_unknown_site_is_named_with_the_nearest(small):
    model, pixels = small
    table = {"blocks.0.attn.que": Spec(4)} | dict(PRESETS["w8a8"].table)
    with pytest.raises(ValueError, match=r"no site matches 'blocks\.0\.attn\.que', perhaps blocks"):
        refvit.quantize(model, pixels, Recipe("mine", table))
    with pytest.raises(ValueError, match="no recipe 'w9a9'; there are w8a8"):
        refvit.quantize(model, pixels, "w9a9")
