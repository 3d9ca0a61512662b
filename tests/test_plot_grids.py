"""Pictures of grids draw what the grids say."""

import numpy as np
import pytest

from refvit import plot, quant

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")
GRID = quant.QParams(np.array(0.5), bits=3, restricted=True)
X = np.linspace(-2, 2, 81)


def test_a_staircase_is_x_on_the_grid_with_a_tick_for_each_code():
    ax = plot.staircase(GRID, X)
    itself, stairs = ax.get_lines()
    np.testing.assert_array_equal(itself.get_ydata(), X)
    np.testing.assert_array_equal(stairs.get_ydata(), quant.fake_quantize(X, GRID))
    codes = ax.figure.axes[1]
    np.testing.assert_array_equal(codes.get_yticks(), np.arange(-3, 4) / 2)
    assert [t.get_text() for t in codes.get_yticklabels()] == ["-3", "-2", "-1", "0", "1", "2", "3"]


def test_what_is_clipped_is_hatched_and_nothing_else():
    spans = [patch for patch in plot.staircase(GRID, X).patches if patch.get_hatch()]
    assert [(s.get_x(), s.get_x() + s.get_width()) for s in spans] == [(-2, -1.5), (1.5, 2)]
    assert not plot.sawtooth(GRID, X[np.abs(X) <= 1.5]).patches


def test_a_sawtooth_is_the_error_between_lines_of_half_a_step():
    error, _, above, below = plot.sawtooth(GRID, X).get_lines()
    np.testing.assert_array_equal(error.get_ydata(), quant.fake_quantize(X, GRID) - X)
    assert [above.get_ydata()[0], below.get_ydata()[0]] == [0.25, -0.25]


def test_levels_are_all_values_and_those_without_data_are_crosses():
    grids = {"symmetric": quant.symmetric(3.0, 3), "asymmetric": quant.asymmetric(0.0, 3.5, 3)}
    ax = plot.levels(grids, 0.0, 3.5)
    lines = [line for line in ax.get_lines() if line.get_marker() in "ox" and len(line.get_xdata())]
    drawn = [(line.get_marker(), list(line.get_xdata())) for line in lines]
    assert drawn[0] == ("o", [0, 1, 2, 3])
    assert drawn[1] == ("x", [-4, -3, -2, -1])
    assert drawn[3] == ("o", list(np.arange(8) / 2))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(grids)
