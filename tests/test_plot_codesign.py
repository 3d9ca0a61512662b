"""The picture of a front shows every point, and joins those on the front by recipe."""

import pytest

from refvit import plot
from refvit.exploration import Point

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


def point(recipe, us, uj, front, top1=0.5):
    return Point("m", recipe, top1, 1, us, uj / 2, uj, 1, 0.5, 4, 4, front)


def test_every_point_is_drawn_and_those_on_the_front_are_joined():
    points = [
        point("a", 3.0, 1.0, True),
        point("a", 1.0, 2.0, True),
        point("a", 4.0, 4.0, False),
        point("dir/b.toml", 2.0, 5.0, False, 0.25),
    ]
    ax = plot.front(points)
    drawn = [tuple(map(float, at)) for dots in ax.collections for at in dots.get_offsets()]
    assert drawn == [(3, 1), (1, 2), (4, 4), (2, 5)]
    first, second = ax.get_lines()
    assert list(first.get_xdata()) == [1, 3]
    assert list(first.get_ydata()) == [2, 1]
    assert len(second.get_xdata()) == 0
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert said == ["a, 50.0% right", "b, 25.0% right: none on the front"]
    assert ax.get_xlabel() == "microseconds"
    assert ax.get_ylabel() == "uJ, high estimate"
