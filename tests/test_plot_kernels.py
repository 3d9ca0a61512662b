"""A family of kernels looks the same in every picture, and is drawn as it is measured."""

import numpy as np
import pytest

from refvit import plot

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def test_a_family_keeps_its_style_and_its_numbers():
    x, error = np.array([0.1, 1.0]), np.array([0.5, 0.25])
    one = plot.families(x, {"refvit": error, "I-ViT": 2 * error}).get_lines()
    other = plot.families(x, {"I-ViT": error}).get_lines()[0]
    np.testing.assert_array_equal(one[1].get_ydata(), [1.0, 0.5])
    for look in ("color", "linestyle", "marker", "label"):
        assert getattr(one[1], f"get_{look}")() == getattr(other, f"get_{look}")()
        assert getattr(one[0], f"get_{look}")() != getattr(other, f"get_{look}")()
