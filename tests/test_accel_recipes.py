"""Widths by site: what a recipe gives every layer, and what it saves."""

import re
from itertools import pairwise

import pytest

import refvit
from refvit.accel import simulate, sites, workload
from refvit.accel.widths import site_widths, writes_stream
from refvit.models import VARIANTS
from refvit.quant.recipe import PRESETS

NANO = VARIANTS["nano_vit"]


def test_without_a_recipe_the_stream_has_16_bits():
    layers = workload(VARIANTS["deit_tiny"])
    widths = site_widths(layers, 8)
    assert widths["blocks.0.add1"] == widths["embed"] == widths["pos_embed"] == 16
    assert widths["blocks.0.mlp.fc1"] == widths["blocks.0.mlp.fc1.weight"] == widths["input"] == 8
    for layer in layers:
        assert {widths[site] for site, _ in layer.writes} == {16 if writes_stream(layer) else 8}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", ["nano_vit", "nano_swin"])
def test_a_recipe_gives_every_product_its_widths(model, name):
    """Independent of the machine's plan: each operand's width is the next that is stored."""
    recipe, config = PRESETS[name], VARIANTS[model]
    layers = {layer.name: layer for layer in workload(config)}
    for row in refvit.simulate(config, recipe=name).rows:
        if row.macs:
            layer = layers[row.name]
            first = recipe.spec(layer.reads[0]).bits
            sites_b = [f"{s}.weight" for s, _ in layer.writes] if layer.weights else layer.reads[1:]
            second = max(recipe.spec(site).bits for site in sites_b)
            wanted = [next(w for w in (4, 8, 16) if w >= bits) for bits in (first, second)]
            assert [row.a_bits, row.b_bits] == wanted


def test_one_layer_may_differ():
    base = {row.name: row for row in refvit.simulate(NANO).rows}
    table = {"blocks.0.mlp.fc1.weight": 4}
    mixed = {row.name: row for row in refvit.simulate(NANO, recipe=table).rows}
    assert {n for n in base if base[n] != mixed[n]} == {"blocks.0.mlp.fc1"}
    fc1 = mixed["blocks.0.mlp.fc1"]
    assert base["blocks.0.mlp.fc1"].load_bytes - fc1.load_bytes == 48 * 192 // 2
    halved = (0.2 / 2 + 0.1) / (0.2 + 0.1)  # of a MAC by Horowitz, its multiply alone is half
    assert fc1.uj_mac == pytest.approx(base["blocks.0.mlp.fc1"].uj_mac * halved)


def test_fewer_bits_never_cost_more():
    totals = [refvit.simulate(NANO, recipe=name).totals for name in ("w4a4", "w4a8", "w8a8")]
    for few, many in pairwise(totals):
        assert few["dram_bytes"] <= many["dram_bytes"]
        assert few["cycles"] <= many["cycles"]
        assert few["uj_low"] < many["uj_low"]


def test_recipes_come_as_names_files_tables_and_patterns(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PRESETS["w4a8"].to_toml())
    rows = refvit.simulate(NANO, recipe="w4a8").rows
    assert refvit.simulate(NANO, recipe=path).rows == rows
    assert refvit.simulate(NANO, recipe=PRESETS["w4a8"]).rows == rows
    every = {site: PRESETS["w4a8"].spec(site).bits for site in sites(workload(NANO))}
    assert refvit.simulate(NANO, recipe=every).rows == rows
    assert simulate(NANO, recipe=every).rows == rows
    weights = refvit.simulate(NANO, recipe={"*.weight": 4}).rows
    assert {row.b_bits for row in weights if row.op == "linear"} == {4}


def test_a_quantized_model_brings_the_widths_of_its_grids():
    model = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])
    quantized = refvit.quantize(model, pixels, "w4a8")
    rows = refvit.simulate(quantized, recipe=quantized).rows
    assert rows == refvit.simulate(NANO, recipe="w4a8").rows


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("w1a1", "no recipe 'w1a1'; there are w8a8"),
        ({"blocks.9.*": 4}, "recipe: no site matches 'blocks.9.*'"),
        ({"blocks.0.mlp.fc1.weight": 17}, "have 1 to 16 bits; got 17"),
        ({"blocks.0.mlp.fc1.weight": True}, "have 1 to 16 bits; got True"),
        ({"blocks.0.mlp.fc1.weight": "4"}, "have 1 to 16 bits; got '4'"),
    ],
)
def test_an_impossible_recipe_is_refused(recipe, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        refvit.simulate(NANO, recipe=recipe)


def test_the_accelerator_itself_takes_exact_sites():
    with pytest.raises(ValueError, match=r"no site 'blocks.0.mlp.fc1.weights', perhaps blocks.0"):
        simulate(NANO, recipe={"blocks.0.mlp.fc1.weights": 4})
