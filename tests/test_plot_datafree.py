"""Pictures of synthesised images show the images and the ranges they are given."""

import re
from pathlib import Path

import numpy as np
import pytest

from refvit import plot

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")

HOME = Path(__file__).parents[1]


def test_the_figures_that_notebook_08_calls_recorded_are_those_of_the_results():
    source = (HOME / "notebooks/source/08_data_free.py").read_text(encoding="utf-8")
    block = source[source.index("recorded = {") :]
    pairs = re.findall(r"\((\d+\.\d+), (\d+\.\d+)\)", block[: block.index("}")])
    results = (HOME / "weights/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| (\d+\.\d+) %: .* \| (\d+\.\d+) % \|", results)
    assert len(pairs) == 4
    assert pairs == rows[:4]


def test_a_gallery_has_a_row_for_each_name_and_every_image_in_it():
    white, black = (np.full((3, 4, 5, 3), k, np.uint8) for k in (255, 0))
    ax = plot.gallery({"a": white, "b": black})
    drawn = ax.get_images()[0].get_array()
    assert drawn.shape == (2 * 8, 3 * 9, 3)
    assert np.sum(drawn == 0) == black.size
    assert np.all(drawn[:8] == 255)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_a_span_is_a_range_over_the_largest_magnitude_of_the_first():
    ax = plot.spans({"real": [(-2, 1), (0, 4)], "noise": [(-4, 4), (1, 2)]}, ["x", "y"])
    found = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert found == [(-1, 0.5), (0, 1), (-2, 2), (0.25, 0.5)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["real", "noise"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]
