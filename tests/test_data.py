"""`shapes10` is a function of its arguments, to the byte."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit import data

DIGESTS = {  # (split, count, seed, difficulty): sha256 of the image bytes
    ("test", 200, 0, None): "06c57094ad4d91dbc0de577c1427fabd8bad7e246c9ca5c7f8b2193f3e8a10c5",
    ("train", 50, 3, 0.9): "2888fa510d7fa015fa02f541e034cc636761241c0a02cf45c03d9be98c99a69a",
    ("calibration", 50, 1, 0.0): "71002b64f6aa85b62a8822e9f56435652578a591087de94e292f43d9d0330111",
}


@pytest.mark.parametrize(("arguments", "digest"), DIGESTS.items(), ids=str)
def test_bytes_are_pinned(arguments, digest):
    split, count, seed, difficulty = arguments
    more = {} if difficulty is None else {"difficulty": difficulty}
    images, _ = data.shapes10(split, count, seed, **more)
    assert hashlib.sha256(images.tobytes()).hexdigest() == digest


@given(st.integers(0, 300), st.integers(1, 20), st.sampled_from(data.SPLITS), st.integers(0, 9))
def test_any_part_of_the_sequence_is_the_same_alone(start, count, split, seed):
    images, labels = data.shapes10(split, start + count, seed)
    part, part_labels = data.shapes10(split, count, seed, start=start)
    assert (images[start:] == part).all()
    assert (labels[start:] == part_labels).all()


def test_splits_and_seeds_differ_and_classes_are_balanced():
    sets = [data.shapes10(s, 64, seed)[0].tobytes() for s in data.SPLITS for seed in (0, 1)]
    assert len(set(sets)) == len(sets)
    _, labels = data.shapes10(count=3000)
    assert np.bincount(labels, minlength=10).min() > 230


def test_splitmix64_is_the_published_sequence():
    """The first outputs from state 1234567 (Vigna's splitmix64.c)."""
    state = np.array([1234567], np.uint64)
    words = [int(data._mix(state + np.array([k], np.uint64) * data.GOLDEN)[0]) for k in (1, 2, 3)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_shape_without_difficulty_is_two_colours_and_its_area_is_its_class():
    images, labels = data.shapes10(count=400, difficulty=0.0)
    corner = images[:, 0, 0].astype(int)
    inside = (np.abs(images.astype(int) - corner[:, None, None]).max(-1) > 8).mean((1, 2))
    area = [inside[labels == k].mean() for k in range(10)]
    assert area[data.LABELS.index("square")] > area[data.LABELS.index("ring")]
    assert area[data.LABELS.index("disk")] > area[data.LABELS.index("crescent")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validation"}, "no split 'validation'"),
        ({"count": -1}, "at least 0"),
        ({"difficulty": 1.5}, r"in \[0, 1\]"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.shapes10(**arguments)
