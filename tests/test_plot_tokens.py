"""Pictures of tokens, windows and costs show the numbers they are given."""

import numpy as np
import pytest

from refvit import plot

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_every_patch_has_the_number_of_its_token():
    ax = plot.token_grid(np.zeros((4, 6, 3), np.uint8), (2, 2), first=1)
    assert texts(ax) == ["1", "2", "3", "4", "5", "6"]
    assert [text.get_position() for text in ax.texts[:2]] == [(0.5, 0.5), (2.5, 0.5)]
    assert texts(plot.token_grid(np.zeros((5, 3, 3), np.uint8), (2, 2))) == ["1", "2"]


def test_heat_lies_over_its_image():
    share = np.array([[0.0, 1.0], [0.5, 0.25]])
    grey, over = plot.heat(share, np.zeros((8, 8, 3), np.uint8)).get_images()
    assert grey.get_extent() == over.get_extent() == [-0.5, 7.5, 7.5, -0.5]
    np.testing.assert_array_equal(over.get_array(), share)
    assert len(plot.heat(share).get_images()) == 1


def test_shifted_windows_have_tokens_in_their_new_places():
    plain, moved = plot.windows((4, 4), 2, 0), plot.windows((4, 4), 2, 1)
    assert texts(plain) == [str(k) for k in range(1, 17)]
    assert texts(moved)[:4] == ["6", "7", "8", "5"]
    assert texts(moved)[-1] == "1"
    assert texts(plot.windows((4, 4), 2, 1, first=0))[-1] == "0"
    assert {bar.get_hatch() for bar in plain.patches} == {""}
    assert [bar.get_hatch() for bar in moved.patches][-4:] == ["...", "...", "...", "xxx"]


def test_pairs_that_must_not_meet_are_dark():
    mask = np.array([[False, True], [True, False]])
    np.testing.assert_array_equal(plot.pairs(mask).get_images()[0].get_array(), mask)


def test_costs_write_what_they_draw():
    ax = plot.costs(["a", "b"], [10, 4], highs=[10, 6.0], least={"a"})
    assert texts(ax) == ["at least 10", "4 to 6"]
    assert [bar.get_width() for bar in ax.patches] == [10, 10, 6, 4]
    assert [bar.get_hatch() for bar in ax.patches] == ["///", "///", "", ""]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
