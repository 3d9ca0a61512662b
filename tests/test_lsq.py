"""Grids that learn: their gradients against the formulas of LSQ, LSQ+ and straight-through."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refvit.autodiff import Var, backward
from refvit.quant import (
    DynamicGrid,
    Log2Grid,
    LogSqrt2Grid,
    NoisyGrid,
    PowerOfTwoFactor,
    QParams,
    ShiftLog2Grid,
    TwinGrid,
    fake_quantize,
)
from refvit.quant.lsq import LearnedGrid, LearnedScale, Straight, lsq, scaled, straight_through


def grads_of(weights, *leaves, run):
    """Return the gradients of sum(weights * run(*leaves)) by each leaf."""
    found = [Var(np.asarray(leaf)) for leaf in leaves]
    backward(np.sum(run(*found) * weights))
    return [leaf.grad for leaf in found]


halves = st.integers(-40, 40).map(lambda k: k / 2)  # in steps: ties, the ends, and beyond them
reals = st.floats(-20, 20, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-3)
lists = st.lists(st.one_of(halves, reals), min_size=1, max_size=12)


POWERS = (0.125, 0.5, 1.0, 4.0)  # x / step is exact, so at an end it is the end
powers = st.sampled_from(POWERS)
steps = st.one_of(powers, st.floats(0.01, 10))


@given(u=lists, bits=st.integers(2, 5), signed=st.booleans(), step=steps)
@example(u=[3.0, -4.0, 3.5], bits=3, signed=True, step=0.5)
def test_lsq_is_its_formula(u, bits, signed, step):
    """Esser et al. 2020, equations 3 and 5, element by element; at an end all is the step's."""
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
    told = ~near_end | (step in POWERS)
    np.testing.assert_array_equal(dx[told], np.array(wanted_x)[told])
    if told.all():
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
    assert dzero == pytest.approx(-step * weights[clipped].sum() if 0 <= zero <= 7 else 0.0)
    u = x / step
    each = np.where(clipped, np.clip(u, lo, hi), np.rint(u) - u)
    assert dstep == pytest.approx((weights * each).sum(), abs=1e-9 * weights.sum())
    grid = QParams(step, 3, signed=False, zero_point=whole)
    assert np.array_equal(lsq(x, np.array(step), np.array(zero), 0, 7, 1.0), fake_quantize(x, grid))


@given(u=lists, step=powers, zero=st.one_of(st.floats(-40, -0.01), st.floats(7.01, 40)))
def test_a_zero_point_beyond_its_codes_stays_where_it_is(u, step, zero):
    """Its value in the forward is that of the nearest code, whatever it does."""
    leaves = np.array(u) * step, np.array(step), np.array(zero)
    *_, dzero = grads_of(1.0, *leaves, run=lambda v, s, z: lsq(v, s, z, 0, 7, 1.0))
    assert dzero == 0


@given(u=st.lists(st.floats(-1, 1), min_size=1, max_size=12), step=st.floats(0.5, 2))
def test_on_32_bits_a_learned_grid_is_the_identity(u, step):
    """In value and in gradient, to the precision of its step; the largest value is at the end."""
    x = np.array(u)
    grid = QParams(step * 2.0**-31, 32)
    learned = Var(grid.scale), Var(x)
    out = LearnedGrid(grid, learned[0]).round(learned[1])
    assert np.abs(out.value - x)[np.abs(x) < 0.99 * step].max(initial=0) <= grid.scale / 2
    weights = np.arange(1.0, len(x) + 1)
    backward(np.sum(out * weights))
    inside = np.abs(x) < 0.99 * step
    assert np.array_equal(learned[1].grad[inside], weights[inside])


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


@given(u=lists, by=st.floats(1e-3, 10))
def test_the_gradient_scale_multiplies_what_is_learned_and_nothing_else(u, by):
    leaves = np.array(u), np.array(0.7), np.array(1.3)

    def at(scale):
        return grads_of(1.0, *leaves, run=lambda v, s, z: lsq(v, s, z, 0, 7, scale))

    (dx, *once), (same, *times) = at(1.0), at(by)
    assert np.array_equal(dx, same)
    np.testing.assert_allclose(times, by * np.array(once), rtol=1e-12)
    grid = LogSqrt2Grid(0.7, 4)
    for scale, wanted in ((1.0, 1.0), (by, by)):
        _, found = grads_of(1.0, *leaves[:2], run=lambda v, s, k=scale: scaled(v, s, grid, k))
        _, plain = grads_of(1.0, *leaves[:2], run=lambda v, s: scaled(v, s, grid, 1.0))
        assert found == pytest.approx(wanted * plain)


def test_of_a_weight_with_one_step_all_values_count():
    """Not those of a row, as of an activation."""
    x, step = np.arange(6.0).reshape(2, 3), np.array(0.4)
    (plain,) = grads_of(1.0, step, run=lambda s: lsq(x, s, None, -8, 7, 1.0))
    (found,) = grads_of(1.0, step, run=lambda s: LearnedGrid(QParams(0.4, 4), s, count=6).round(x))
    assert found == pytest.approx(plain / np.sqrt(6 * 7))


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
        (
            QParams(np.array([[1.0, 0.1], [0.5, 2.0]]), 3, axis=0, group=2),
            [[3.0, -4.5, 0.3], [1.5, -2.0, 6.0]],
            [[1, 0, 1], [1, 1, 1]],
        ),
        (
            QParams(np.array([[1.0, 0.1]]), 3, axis=0, group=1),
            [[-4.0, -4.0]],
            [[1, 0]],
        ),
        (ShiftLog2Grid(3, 4), [-0.1, 0.0, 0.02, 0.9, 15 / 16, 0.95], [0, 1, 1, 1, 1, 0]),
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


@given(st.integers(2, 5), st.booleans(), st.sampled_from([None, 1.3]))
def test_a_learned_grid_has_in_range_what_it_does_not_clip(bits, signed, zero):
    """And its ends, at which all of the gradient is the step's."""
    q = QParams(np.array([0.5, 0.1]), bits, signed, 0)
    zero = None if zero is None else np.full(2, zero)
    grid, x = LearnedGrid(q, q.scale, zero), np.linspace(-9, 9, 2 * 333).reshape(2, 333)
    (dx,) = grads_of(1.0, x, run=grid.round)
    assert np.array_equal(grid.in_range(x), dx == 1)
    edges = q.scale[:, None] * (np.array([q.lo, q.hi]) - (0 if zero is None else 1))
    assert grid.in_range(edges).all()
    assert not np.any(grads_of(1.0, edges, run=grid.round)[0])
    if zero is None:
        assert np.array_equal(Straight(q).in_range(x), grid.in_range(x))
