"""Pictures of post-training quantization show the numbers they are given."""

import numpy as np
import pytest

from refvit import plot
from refvit.quant import Sensitivity

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def test_accuracies_have_bars_of_two_standard_errors():
    ax = plot.accuracy_by_bits((8, 4), {"weights": [0.9, 0.5]}, 100, exact=0.95, chance=0.1)
    line, _, (bars,) = ax.containers[0]
    np.testing.assert_allclose(line.get_ydata(), [90, 50])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[84, 96], [40, 60]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "4"]
    assert {"float", "guessing", "weights"} == {t.get_text() for t in ax.get_legend().get_texts()}


def test_a_layer_has_a_mark_for_each_width_where_its_cost_is():
    costs = np.array([[0.1, 0.0], [0.2, 0.01]])
    ax = plot.sensitivities(Sensitivity(("a", "b"), (3, 8), np.ones((2, 2), np.int64), costs))
    three, eight = ax.get_lines()
    np.testing.assert_array_equal(three.get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(eight.get_xdata(), [1e-6, 0.01])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_chosen_roundings_are_marked_among_random_ones():
    ax = plot.roundings(np.arange(3.0), np.arange(1.0, 4.0), {"nearest": (0.5, 2.5)})
    chance, nearest = ax.get_lines()
    np.testing.assert_array_equal(chance.get_ydata(), [1, 2, 3])
    assert (nearest.get_xdata()[0], nearest.get_ydata()[0]) == (0.5, 2.5)
    assert nearest.get_label() == "nearest"
