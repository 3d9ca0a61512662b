"""Quantization: the laws of a grid, of calibration and of the simulated model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import refvit
from refvit.ops import Record
from refvit.quant import (
    OBSERVERS,
    PRESETS,
    DynamicGrid,
    FakeQuantize,
    QParams,
    Recipe,
    Spec,
    asymmetric,
    correct_bias,
    dequantize,
    fake_quantize,
    grouped,
    mixed_precision,
    noisy,
    observer,
    pack,
    packed_bytes,
    reparameterise,
    round_weights,
    search_scales,
    smooth,
    symmetric,
)
from refvit.quant import quantize as codes_of
from refvit.quant.observers import MovingAverage, Percentile

widths = st.integers(2, 16)
# ties (k/2 * 2**e), zeros, constants and outliers: plain random floats miss half the wrong answers
halves = st.builds(lambda k, e: k / 2 * 2.0**e, st.integers(-300, 300), st.integers(-6, 6))
tensors = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=6), elements=halves)


@given(tensors, widths, st.booleans())
def test_the_error_is_at_most_half_a_step_inside_the_range(x, bits, signed):
    x = x if signed else np.abs(x)
    q = symmetric(np.abs(x).max(), bits, signed=signed)
    assert np.abs(fake_quantize(x, q) - x).max() <= q.scale / 2 * (1 + 1e-12)


@given(tensors, widths)
def test_a_grid_is_idempotent_monotone_and_exact_at_zero(x, bits):
    q = symmetric(np.abs(x).max(), bits)
    once = fake_quantize(x, q)
    assert np.array_equal(fake_quantize(once, q), once)
    order = np.argsort(x, axis=None)
    assert (np.diff(once.ravel()[order]) >= 0).all()
    assert (once[x == 0] == 0).all()
    assert (codes_of(-x, q) == -codes_of(x, q)).all()


@given(tensors, widths)
def test_simulation_is_dequantize_of_quantize(x, bits):
    q = symmetric(np.abs(x).max() / 2, bits)  # half of the values saturate
    codes = codes_of(x, q)
    assert codes.dtype == q.dtype
    assert codes.min() >= q.lo
    assert codes.max() <= q.hi
    assert np.array_equal(dequantize(codes, q, np.float64), fake_quantize(x, q))


def test_rounding_is_half_to_even():
    assert codes_of(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), QParams(1.0, 8)).tolist() == [
        0,
        2,
        2,
        0,
        -2,
    ]


@given(hnp.arrays(np.float64, (4, 5), elements=halves), widths)
def test_per_channel_is_each_row_alone_and_no_worse(w, bits):
    q = symmetric(np.abs(w).max(1), bits, axis=0)
    rows = [fake_quantize(row, symmetric(np.abs(row).max(), bits)) for row in w]
    assert np.array_equal(fake_quantize(w, q), np.stack(rows))
    whole = symmetric(np.abs(w).max(), bits)
    assert (q.scale[np.abs(w).max(1) > 0] <= whole.scale).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QParams(1.0, 1), "2 to 32 bits"),
        (lambda: QParams(-1.0, 8), "positive and finite"),
        (lambda: QParams(np.ones(3), 8), "does not go with axis"),
        (lambda: refvit.quant.recipe.recipe("w7a7"), "no recipe 'w7a7'; there are w8a8"),
        (lambda: Recipe("r", {"a": Spec(8)}).spec("b"), "no line for site 'b'"),
    ],
)
def test_impossible_grids_and_recipes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture(scope="module")
def model():
    return refvit.random("nano_vit", seed=1)


@pytest.fixture(scope="module")
def pixels(model):
    return model.preprocess.normalise(refvit.data.shapes10("calibration", 24)[0])


def test_calibration_sees_every_site_and_covers_it(model, pixels):
    quantized, record = refvit.quantize(model, pixels, "w8a8"), Record()
    model(pixels[:5], tap=record)
    for site, value in record.values.items():
        if site in quantized.qparams and quantized.qparams[site].axis is None:
            q = quantized.qparams[site]
            assert np.abs(value).max() <= q.scale * q.hi * (1 + 1e-6), site


def test_the_simulated_model_is_the_float_forward_under_one_tap(model, pixels):
    quantized = refvit.quantize(model, pixels, "w4a8")
    assert np.array_equal(
        quantized(pixels[:4]), model(pixels[:4], tap=FakeQuantize(quantized.qparams))
    )


def test_recipes_set_the_widths_of_the_field(model, pixels):
    grids = refvit.quantize(model, pixels, "w4a8").qparams
    assert grids["blocks.0.attn.q.weight"].bits == 4
    assert grids["blocks.0.attn.q.weight"].scale.shape == (48,)
    assert grids["blocks.0.attn.q"].bits == 8
    assert grids["blocks.3.add2"].bits == grids["head"].bits == 16
    assert not grids["blocks.0.attn.softmax"].signed
    bias = grids["blocks.1.mlp.fc1.bias"].scale
    assert np.allclose(bias, grids["blocks.1.mlp.fc1.weight"].scale * grids["blocks.1.norm2"].scale)


def test_more_bits_are_closer(model, pixels):
    exact = model(pixels)
    errors = [
        np.abs(refvit.quantize(model, pixels, r)(pixels) - exact).mean()
        for r in ("w8a8", "w6a6", "w4a4")
    ]
    assert errors[0] < errors[1] < errors[2]
    assert set(PRESETS) >= {"w8a8", "w6a6", "w4a8", "w4a4"}


def test_calibration_without_images_is_refused(model, pixels):
    with pytest.raises(ValueError, match="at least one image"):
        refvit.quantize(model, pixels[:0])


def test_integers_are_quantized_as_the_reals_they_are():
    whole = np.array([1, 2, -3])
    grid = symmetric(3, bits=8)
    assert codes_of(whole, grid).tolist() == [42, 85, -127]
    assert np.array_equal(fake_quantize(whole, grid), fake_quantize(whole.astype(float), grid))
    for name in OBSERVERS:
        seen, real = observer(name), observer(name)
        seen.update(np.arange(-5, 10).reshape(5, 3))
        real.update(np.arange(-5.0, 10).reshape(5, 3))
        assert seen.range(8, True, True) == real.range(8, True, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: symmetric(np.nan, bits=8), r"max\|x\| is finite and not below 0"),
        (lambda: symmetric(-1.0, bits=8), "not below 0; got"),
        (lambda: asymmetric(3.0, -1.0, bits=4), "a range is finite, lo <= hi"),
        (lambda: asymmetric(-np.inf, 1.0, bits=4), "a range is finite"),
        (lambda: codes_of(np.array([np.nan]), symmetric(1, bits=8)), "not a number has no code"),
        (lambda: QParams(np.ones(3), 8, axis=-1), "an axis is counted from the first"),
        (lambda: grouped(np.ones((2, 4)), 0), "groups of 0 columns"),
        (lambda: grouped(np.ones(4), 2), r"do not go with shape \(4,\)"),
        (lambda: codes_of(np.ones((2, 70)), symmetric(np.ones((2, 5)), 4, axis=0, group=32)),
         "5 groups of 32 do not go with 70 columns"),
        (lambda: pack(np.array([1.0]), 4), "codes are integers; got float64"),
        (lambda: packed_bytes(-5, 4), "no stream of -5 codes"),
        (lambda: DynamicGrid(bits=1), "2 to 16 bits; asked for 1"),
        (lambda: Percentile(99.99), "a share of the values"),
        (lambda: MovingAverage(2.0), "a momentum lies in"),
    ],
)  # fmt: skip
def test_what_would_give_a_wrong_number_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_methods_say_what_kind_of_model_they_take(model, pixels):
    """Each with a float model, a simulated one and an engine where it wants another."""
    simulated = refvit.quantize(model, pixels)
    engine = refvit.compile(simulated)
    assert repr(simulated) == "QuantizedModel(w8a8, 119,194 parameters, 116 grids)"
    for fn in (round_weights, correct_bias, search_scales, noisy):
        for wrong in (model, engine):
            with pytest.raises(TypeError, match="takes a simulated model, as"):
                fn(wrong, pixels)
    for fn in (reparameterise, smooth, lambda m, p: mixed_precision(m, p, 60_000)):
        for wrong in (simulated, engine):
            with pytest.raises(TypeError, match="takes a float model, as"):
                fn(wrong, pixels)
    with pytest.raises(TypeError, match="a recipe maps patterns to Spec"):
        Recipe("r", {"*": 8})
