"""The tables of routes that are shipped: of the shipped weights, as they are shown, and near."""

import json
import re
from pathlib import Path

import pytest

import refvit
from refvit.cells import model_digest
from refvit.routes import Arrival, table
from refvit.sources import Idx

ROOT = Path(__file__).parents[1]
RESULTS = re.sub(r"[ ]+", " ", (ROOT / "weights/README.md").read_text(encoding="utf-8"))
NAMES = sorted(path.name.split(".")[0] for path in (ROOT / "weights").glob("*.routes.json"))
MOST_LOST = {"vit": {"w4a4": 1, "w3a3": 4}, "deit": {"w4a4": 2, "w3a3": 6}}  # points, trained
MOST_LOST["swin"] = MOST_LOST["deit"]
TRAINED = ("qat", "qat-long")
IN_INTEGERS = 0.3  # points between the simulated and the integer model, trained


def stored(name):
    return json.loads((ROOT / "weights" / f"{name}.routes.json").read_text())


def arrivals_of(name):
    return [Arrival(**cell) for cell in stored(name)["cells"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_of_the_model_that_is_shipped(name):
    assert stored(name)["digest"] == model_digest(refvit.load(name))
    assert {arrival.count for arrival in arrivals_of(name)} == {10_000}


def test_tables_of_files_are_of_the_images_of_fashion_mnist(shared):
    found = {name: stored(name) for name in NAMES if stored(name)["source"] != "shapes10"}
    images = Idx(shared / "data" / "fashion-mnist").content
    assert {about["content"] for about in found.values()} == {images}
    assert len(found) == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_results_show_it_row_by_row(name):
    said = f"{name}: top-1 of 10,000 test images"
    assert said in RESULTS
    assert f"float {100 * stored(name)['float_top1']:.2f}" in RESULTS
    for line in table(arrivals_of(name)).splitlines()[1:]:
        assert re.sub(r"[ ]+", " ", line) in RESULTS, line


@pytest.mark.parametrize("name", NAMES)
def test_training_brings_few_bits_near_to_float_in_integers_too(name):
    exact, most = stored(name)["float_top1"], MOST_LOST[name.split("_")[1]]
    for recipe, points in most.items():
        trained = [a for a in arrivals_of(name) if a.recipe == recipe and a.route in TRAINED]
        assert trained
        best = max(trained, key=lambda a: a.integer_top1)
        assert 100 * (exact - best.top1) <= points
        assert 100 * (exact - best.integer_top1) <= points
        for each in trained:
            assert 100 * abs(each.top1 - each.integer_top1) <= IN_INTEGERS
