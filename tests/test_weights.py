"""The weights that travel with refvit: each is what its card says, and its recipe makes it."""

import hashlib
import json
import re

import numpy as np
import pytest

import refvit
from refvit.checkpoints import weights_folder
from refvit.files import read_tensors
from refvit.train_recipe import TrainRecipe, read_recipe, recipe_names


def card_of(name):
    return json.loads((weights_folder() / f"{name}.json").read_text())


@pytest.mark.parametrize("name", refvit.shipped())
def test_the_card_describes_the_file_that_is_shipped(name):
    path, card = weights_folder() / f"{name}.safetensors", card_of(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert name in recipe_names()
    assert TrainRecipe(**card["recipe"]) == TrainRecipe(**read_recipe(name))
    assert card["command"].endswith(f" --out weights/{name}.safetensors")
    embedded = json.loads(
        read_tensors(weights_folder() / f"{name}.safetensors", only=())[1]["card"]
    )
    assert embedded == {key: value for key, value in card.items() if key != "sha256"}


@pytest.mark.parametrize("name", refvit.shipped())
def test_accuracy_is_what_the_card_says(name):
    """500 images of the card's thousands: within three deviations of its share."""
    card = card_of(name)
    if card["recipe"].get("data", "shapes10") != "shapes10":
        pytest.skip("its images are not part of refvit")
    assert card["test_top1"] >= 0.92
    found = refvit.evaluate(refvit.load(name), count=500).top1
    deviation = np.sqrt(card["test_top1"] * (1 - card["test_top1"]) / 500)
    assert abs(found - card["test_top1"]) <= 3 * deviation + 0.002


@pytest.mark.parametrize("name", refvit.shipped())
def test_integers_classify_as_the_float_model_does(name):
    """The card's 10,000 images: within 0.2 points, and 99 % the same class; 300 images here.

    Not quite so nano_deit, whose two heads decide by less: 0.27 points, and 98.84 %.
    """
    card = card_of(name)
    points, share = (0.003, 0.988) if name == "nano_deit" else (0.002, 0.99)
    assert abs(card["integer_w8a8_top1"] - card["test_top1"]) <= points
    assert card["integer_w8a8_same_class"] >= share
    if card["recipe"].get("data", "shapes10") == "shapes10":
        assert refvit.evaluate(refvit.load(name), count=300, engine="integer").agreement >= 0.97


def test_a_teacher_is_the_file_that_is_shipped():
    for name in refvit.shipped():
        card = card_of(name)
        if card["recipe"].get("teacher"):
            teacher = card_of(card["recipe"]["teacher"])
            assert card["teacher_sha256"] == teacher["sha256"]


@pytest.mark.parametrize("name", refvit.shipped())
def test_the_results_have_a_row_that_says_what_its_card_does(name):
    text = (weights_folder() / "README.md").read_text(encoding="utf-8")
    card = card_of(name)
    row = re.search(rf"^\| `{name}` \|.*$", text, re.MULTILINE)[0]
    assert f"{card['test_top1']:.2%} | {card['integer_w8a8_top1']:.2%}" in row.replace(" %", "%")
    assert row.endswith(f"| {100 * card['integer_w8a8_same_class']:.1f} % |")
    if card["recipe"]["images"] != 900_000:
        assert f"{card['recipe']['images']:,} augmented" in row
    count = sum(t.size for _, t in refvit.load(name).params.items())
    assert f"{count:,} parameters" in row


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in weights_folder().iterdir()) < 12e6
