"""AdamW, its schedule and its clipping against their equations."""

from itertools import pairwise

import numpy as np
import pytest

from refvit.optim import AdamW, clip_by_global_norm, fresh, warmup_cosine


def test_the_schedule_rises_then_falls_to_zero():
    rates = [warmup_cosine(s, 100, 10, 2e-3) for s in range(101)]
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert rates[9] == rates[10] == 2e-3
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] < 1e-18


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    grads = {"a": np.array([3.0]), "b": np.array([[4.0]])}
    clipped, norm = clip_by_global_norm(grads, 1.0)
    assert norm == 5.0
    assert clipped["a"] / clipped["b"][0] == pytest.approx(0.75)
    assert np.hypot(clipped["a"], clipped["b"]).item() == pytest.approx(1.0, rel=1e-6)
    assert (clip_by_global_norm(grads, 9.0)[0]["a"] == grads["a"]).all()


def test_adamw_is_its_equations():
    optimiser, w = AdamW(decay=0.1), np.ones((1, 1))
    state = fresh({"bias": np.array([1.0]), "a.weight": w})
    m = v = 0.0
    wanted = 1.0
    for step, g in enumerate([0.3, -0.2, 0.7], start=1):
        state = optimiser.update(state, {"bias": np.array([g]), "a.weight": 0 * w}, 0.01)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    assert state.params["bias"][0] == pytest.approx(wanted, rel=1e-12)
    assert state.params["a.weight"][0, 0] == pytest.approx(0.999**3), "only matrices decay"
    assert w[0, 0] == 1, "the state before is still whole"


def test_the_average_of_weights_trails_them():
    optimiser, state = AdamW(ema=0.9), fresh({"w": np.zeros(1)}, averaged=True)
    values = [0.0]
    for step in range(1, 30):
        state = optimiser.update(state, {"w": np.array([1.0])}, 0.1)
        keep = min(0.9, step / (step + 10))
        values.append(values[-1] * keep + float(state.params["w"][0]) * (1 - keep))
    assert state.average["w"][0] == pytest.approx(values[-1])


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_gradient_of_nearly_nothing_moves_nothing(shape):
    """Of a value alone too, as a zero point is: its square is below the least float32."""
    one = np.ones(shape, np.float32)
    state = AdamW().update(fresh({"w": one}), {"w": one * np.float32(1e-30)}, 0.1)
    assert (state.params["w"] == 1).all()
    assert (state.second["w"] == 0).all()
