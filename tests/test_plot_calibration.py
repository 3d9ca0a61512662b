"""Pictures of calibration and of channels show the numbers they are given."""

import numpy as np
import pytest

from refvit import plot

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def test_a_threshold_is_a_line_at_its_place_that_says_what_is_beyond():
    values = np.array([-4.0, 1.0, 2.0, 3.0])
    ax = plot.thresholds(values, {"whole": 4.0, "half": 2.0})
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [4.0, 2.0]
    assert [text.get_text().strip() for text in ax.texts] == [
        "whole 4.00, nothing beyond",
        "half 2.00, 50.00% beyond",
    ]
    assert sum(bar.get_height() for bar in ax.patches) == 4


def test_levels_are_ticks_below_the_histogram_and_none_at_zero_on_a_logarithm():
    values, grids = (
        np.array([0.0, 0.25, 1.0]),
        {"two": np.array([0.0, 0.5]), "one": np.array([1.0])},
    )
    ticks = [
        [segment[0, 0] for segment in rows.get_segments()]
        for rows in plot.values_and_levels(values, grids, log=True).collections
    ]
    assert ticks == [[0.5], [1.0]]
    ax = plot.values_and_levels(values, grids)
    assert [len(rows.get_segments()) for rows in ax.collections] == [2, 1]
    assert sum(bar.get_height() for bar in ax.patches) == 3


def test_a_marked_channel_is_hatched_and_as_high_as_its_reach():
    ax = plot.channels(np.array([1.0, 64.0, 2.0]), 0.5, np.array([1]))
    bars = [bar for bar in ax.patches if bar.get_width() == 0.8]
    assert {bar.get_height() for bar in bars if bar.get_hatch()} == {64.0}
    assert sorted(bar.get_height() for bar in bars) == [1.0, 2.0, 64.0]
    assert ax.get_lines()[0].get_ydata()[0] == 0.5


def test_accuracies_are_in_per_cent_at_places_of_their_own():
    x = {"a": np.array([1, 2]), "b": np.array([4, 8])}
    ax = plot.accuracies(x, {"a": [0.9, 0.5], "b": [0.1, 0.2]}, chance=0.1)
    first, second, chance = ax.get_lines()
    np.testing.assert_allclose(first.get_ydata(), [90, 50])
    np.testing.assert_array_equal(second.get_xdata(), [4, 8])
    assert first.get_marker() != second.get_marker()
    assert chance.get_ydata()[0] == 10
