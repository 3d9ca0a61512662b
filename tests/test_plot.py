"""Pictures show the numbers they are given."""

import numpy as np
import pytest

from refvit import plot
from refvit.integer import Proof

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def test_a_curve_is_dotted_where_its_integers_do_not_fit():
    x, fits = np.arange(3), np.array([True, False, True])
    dotted, solid = plot.curves(x, {"a": x + 1}, fits={"a": fits}).get_lines()
    np.testing.assert_array_equal(dotted.get_ydata(), [1, 2, 3])
    np.testing.assert_array_equal(solid.get_ydata(), [1, np.nan, 3])
    whole = plot.curves(x, {"a": x + 1}).get_lines()[1]
    np.testing.assert_array_equal(whole.get_ydata(), [1, 2, 3])


def test_a_bar_is_as_long_as_its_range_has_bits():
    proofs = [Proof("s", "sum", -5, 300, 32), Proof("t", "code", -128, 127, 16)]
    ax = plot.ranges(proofs)
    assert [bar.get_width() for bar in ax.patches] == [32, 16, 10, 8]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["s  sum", "t  code"]
