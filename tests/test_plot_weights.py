"""Pictures of weights draw what the matrix says."""

import numpy as np
import pytest

from refvit import plot

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")
WEIGHT = np.array([[0.5, -1.0], [0.25, 0.0], [-7.0, 3.0]])


def test_a_map_shows_the_matrix_white_at_zero():
    shown = plot.weight_map(WEIGHT).get_images()[0]
    np.testing.assert_array_equal(shown.get_array(), WEIGHT)
    assert shown.get_clim() == (-7, 7)


def test_a_bar_is_as_long_as_its_row_reaches_and_the_line_is_the_matrix():
    ax = plot.row_ranges(WEIGHT, bits=4)
    assert [bar.get_width() for bar in ax.patches] == [1, 0.25, 7]
    assert ax.get_lines()[0].get_xdata()[0] == 7
    assert "4-bit" in ax.child_axes[0].get_xlabel()


@pytest.mark.parametrize(("bits", "ticks"), [(4, 8), (8, 8), (2, 2)])
def test_the_upper_axis_counts_codes(bits, ticks):
    above = plot.row_ranges(WEIGHT, bits).child_axes[0]
    above.figure.canvas.draw()
    codes = [int(label.get_text()) for label in above.get_xticklabels()]
    assert len(codes) == ticks
    np.testing.assert_allclose(above.get_xticks(), np.array(codes) * 7 / (2 ** (bits - 1) - 1))
