"""Pictures of quantization-aware training show the numbers they are given."""

import numpy as np
import pytest

from refvit import plot
from refvit.quant import QParams, fake_quantize

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def test_the_staircase_has_straight_through_above_the_slope_of_its_step():
    from matplotlib import pyplot

    figure, axs = pyplot.subplots(3, 1)
    grid = QParams(0.5, bits=3)
    plot.slopes(grid, axs)
    ramp, stairs = axs[0].get_lines()[:2]
    x = stairs.get_xdata()
    np.testing.assert_array_equal(stairs.get_ydata(), fake_quantize(x, grid))
    inside = (x > -2) & (x < 1.5)
    np.testing.assert_array_equal(ramp.get_ydata()[inside], x[inside])
    slope = axs[1].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(slope, inside)
    step = axs[2].get_lines()[-1].get_ydata()
    u = x / 0.5
    wanted = np.where(inside, np.rint(u) - u, np.clip(u, -4, 3))
    np.testing.assert_allclose(step, wanted, atol=1e-12)
    pyplot.close(figure)


def test_a_loss_has_its_points_and_the_mean_of_the_last_ones():
    ax = plot.losses({"a": [4.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]}, window=2)
    points, mean, _, other = ax.get_lines()
    np.testing.assert_array_equal(points.get_ydata(), [4, 2, 3])
    np.testing.assert_allclose(mean.get_ydata(), [4, 3, 2.5])
    assert (mean.get_label(), other.get_label()) == ("a", "b")
    assert mean.get_linestyle() != other.get_linestyle()
