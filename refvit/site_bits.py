"""Recipes for the accelerator: quantization says which site has how many bits, the accelerator
reads a plain table of them. This is where the two meet, as neither knows the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from refvit import accel
from refvit.accel import Machine, Report
from refvit.matching import perhaps
from refvit.models import workload_records
from refvit.quant import QuantizedModel, Recipe
from refvit.quant.recipe import recipe as find_recipe

MOST_SAID = 60  # characters of a mapping
Recipes = str | Path | Recipe | QuantizedModel | Mapping[str, int]


def site_bits(config: Any, recipe: Recipes) -> dict[str, int]:
    """Return the bits of every site of the model `config` describes, by a recipe: a preset's name,
    a TOML file, a `Recipe`, a quantized model (its grids, mixed ones too), or a mapping of sites or
    patterns to bits.

    A mapping is read from the top, the first match deciding, and need not name every site. Raises
    ValueError for an unknown recipe, or a pattern that matches no site.

    >>> from refvit.models import VARIANTS
    >>> bits = site_bits(VARIANTS["nano_vit"], {"*.fc?.weight": 4})
    >>> len(bits), bits["blocks.0.mlp.fc1.weight"]
    (8, 4)
    >>> site_bits(VARIANTS["nano_vit"], "w4a8")["blocks.0.add1"]
    16
    """
    sites = accel.sites(accel.workload(config))
    if isinstance(recipe, QuantizedModel):
        return {site: recipe.qparams[site].bits for site in sites if site in recipe.qparams}
    if not isinstance(recipe, Mapping):
        found = find_recipe(recipe)
        records = workload_records(accel.variant(config))
        found.check({*sites, *(record.site for record in records)})
        return {site: found.spec(site).bits for site in sites}
    for pattern in recipe:
        if not any(fnmatchcase(site, pattern) for site in sites):
            raise ValueError(f"recipe: no site matches {pattern!r}{perhaps(pattern, sites)}")
    matches = ((site, _first(site, recipe)) for site in sites)
    return {site: bits for site, bits in matches if bits is not None}


def called(recipe: Recipes | None) -> str:
    """Return what a recipe is called in a report: its name or that of its file, or what it is.

    >>> called("w4a8"), called({"*.fc?.weight": 4}), called(None)
    ('w4a8', '{"*.fc?.weight": 4}', '')
    """
    if recipe is None:
        return ""
    if isinstance(recipe, Mapping):
        said = json.dumps(dict(recipe))
        return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}... of {len(recipe)} lines"
    if isinstance(recipe, QuantizedModel):
        return recipe.recipe
    return recipe.name if isinstance(recipe, Recipe) else Path(recipe).name


def _first(site: str, recipe: Mapping[str, int]) -> int | None:
    return next((bits for pattern, bits in recipe.items() if fnmatchcase(site, pattern)), None)


def simulate(
    config: Any,
    machine: str | Path | Machine | Mapping[str, Any] = "edge32",
    bits: int | None = None,
    batch: int = 1,
    *,
    recipe: Recipes | None = None,
    nonlinear: str = "vector",
    residency: bool = True,
) -> Report:
    """Return the report of one forward of a model, of its configuration, or of a variant by name,
    on a machine.

    `machine` is a preset's name, a TOML file, a `Machine` or a mapping as of `accel.machine_of`.
    Codes have `bits` (8) and the residual stream 16, or what `recipe` says: a preset of
    quantization, a TOML file, a `Recipe`, a quantized model, or a mapping of sites or patterns to
    bits, the one that may stand beside `bits`, those of the sites it does not name.
    `nonlinear="host"` gives all but products to a processor beside the array; `residency=False`
    sends every result to DRAM. Raises ValueError for an unknown machine, recipe, width or site,
    `bits` beside any other recipe, or no images.

    >>> import refvit
    >>> report = refvit.simulate(refvit.load("nano_vit"), machine="edge16", recipe="w4a8")
    >>> row = next(row for row in report.rows if row.name == "blocks.0.mlp.fc1")
    >>> row.a_bits, row.b_bits, row.o_bits
    (8, 4, 8)
    """
    if bits is not None and recipe is not None and not isinstance(recipe, Mapping):
        raise ValueError("bits is the width of every site, recipe of each; give one of them")
    table = None if recipe is None else site_bits(config, recipe)
    width = 8 if bits is None else bits
    report = accel.simulate(
        config, machine, width, batch, recipe=table, nonlinear=nonlinear, residency=residency
    )
    return replace(report, recipe=called(recipe))
