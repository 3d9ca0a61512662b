"""Methods: what a quantizer does with a model, by name, so that they can be compared on one grid.

Each takes a float model, calibration pixels and a recipe, and returns the simulated model; what it
does is in `refvit.quant`, here is only what is put together (Du, Gong and Chu, section III).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from numpy.typing import NDArray

from refvit.matching import one_of
from refvit.model import Model
from refvit.quant import (
    QuantizedModel,
    Recipe,
    Spec,
    quantize_model,
    reconstruct,
    reparameterise,
    round_weights,
    search_scales,
    smooth,
)

Pixels = NDArray[Any]
Method = Callable[[Model, Pixels, Recipe], QuantizedModel]
SOFTMAX, GELU = "blocks.0.attn.softmax", "*.mlp.act"  # sites of probabilities and after GELU
STEPS = 1000  # of reconstruction
SEARCH = 32  # images of the calibration that the slower searches look at


def changed(recipe: Recipe, pattern: str, **fields: Any) -> Recipe:
    """Return `recipe` with `fields` changed in every line that could name a site of `pattern`.

    >>> changed(Recipe("r", {"*.softmax": Spec(8), "*": Spec(4)}), "*.softmax", bits=6).table
    ... # doctest: +ELLIPSIS
    {'*.softmax': Spec(bits=6, ...), '*': Spec(bits=4, ...)}
    """
    table = {
        name: replace(spec, **fields) if fnmatchcase(name, pattern) else spec
        for name, spec in recipe.table.items()
    }
    return Recipe(recipe.name, table)


def observed(name: str) -> Method:
    """Return min-max calibration with another observer, of activations and weights."""

    def method(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
        return quantize_model(model, pixels, changed(recipe, "*", observer=name))

    return method


def minmax(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Ranges are what was seen."""
    return quantize_model(model, pixels, recipe)


def per_tensor(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Min-max, with one scale for a whole weight."""
    return quantize_model(model, pixels, changed(recipe, "*.weight", axis=None))


def uniform_attention(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Min-max, with equal steps for probabilities, of 4 bits or fewer: what `log2` is against."""
    bits = few_bits(recipe)
    return quantize_model(model, pixels, changed(recipe, "*.softmax", bits=bits))


def log2_attention(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Min-max, with powers of two for probabilities (FQ-ViT), of 4 bits or fewer."""
    return quantize_model(model, pixels, logarithmic(recipe))


def logarithmic(recipe: Recipe) -> Recipe:
    """Return `recipe` with powers of two for probabilities."""
    return changed(recipe, "*.softmax", bits=few_bits(recipe), quantizer="log2")


def few_bits(recipe: Recipe) -> int:
    """Return the bits of probabilities, 4 if they have more."""
    return min(4, recipe.spec(SOFTMAX).bits)


def smoothed(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """SmoothQuant: outliers are moved from activations into weights, then min-max."""
    return quantize_model(smooth(model, pixels), pixels, recipe)


def repq(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """RepQ-ViT: channels of LayerNorms are brought to one range, probabilities of few bits are
    logarithmic, ranges lose the least square error."""
    few = recipe.spec(SOFTMAX).bits <= 4
    chosen = changed(logarithmic(recipe) if few else recipe, "*", observer="mse")
    return quantize_model(reparameterise(model, pixels), pixels, chosen)


def ptq4vit(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """PTQ4ViT: twin steps for probabilities and GELU, scales searched by the Hessian."""
    chosen = twin_gelu(changed(recipe, "*.softmax", quantizer="twin", observer="mse"))
    quantized = quantize_model(model, pixels, chosen)
    return search_scales(quantized, pixels[:SEARCH], rounds=1, candidates=50)


def twin_gelu(recipe: Recipe) -> Recipe:
    """Return `recipe` with twin steps after GELU."""
    twin = Spec(recipe.spec(GELU).bits, quantizer="twin", observer="mse")
    others = {name: spec for name, spec in recipe.table.items() if name != GELU}
    return Recipe(recipe.name, {GELU: twin} | others)


def best(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Put together: RepQ-ViT's reparameterisation, at 4 bits and fewer powers of the root of two
    for probabilities and PTQ4ViT's twin steps after GELU, least square errors, then
    reconstruction."""
    chosen = changed(recipe, "*", observer="mse")
    if recipe.spec(SOFTMAX).bits <= 4:
        chosen = twin_gelu(changed(chosen, "*.softmax", quantizer="log_sqrt2"))
    calibrated = quantize_model(reparameterise(model, pixels), pixels, chosen)
    return reconstruct(calibrated, model, pixels, STEPS)


def rounded(name: str) -> Method:
    """Return min-max with weights rounded by "gptq" or "adaround"."""

    def method(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
        return round_weights(quantize_model(model, pixels, recipe), pixels, name)

    return method


METHODS: Mapping[str, Method] = {
    "minmax": minmax,
    "per-tensor": per_tensor,
    "percentile": observed("percentile"),
    "mse": observed("mse"),
    "uniform4": uniform_attention,
    "log2": log2_attention,
    "smoothquant": smoothed,
    "adaround": rounded("adaround"),
    "gptq": rounded("gptq"),
    "ptq4vit": ptq4vit,
    "repq": repq,
    "best": best,
}


def method(name: str) -> Method:
    """Return the method called `name`; ValueError lists them."""
    return METHODS[one_of(name, METHODS, "method")]
