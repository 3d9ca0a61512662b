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
    correct_bias,
    noisy,
    quantize_model,
    reconstruct,
    reparameterise,
    round_weights,
    search_scales,
    sites_of,
    smooth,
)
from refvit.quant.recipe import WATCHED

Pixels = NDArray[Any]
Method = Callable[[Model, Pixels, Recipe], QuantizedModel]
Change = Callable[[Spec], Spec]
SOFTMAX, GELU, STREAM = "*.softmax", "*.act", "*.add?"
REST = Spec(16)  # of what calibration sees besides, biases and norms: nothing of it is used
FEW = 4  # bits, for which probabilities are on logarithmic grids
STEPS = 1000  # of reconstruction
SEARCH = 32  # images of the calibration that the slower searches look at


def resolved(model: Model, recipe: Recipe) -> Recipe:
    """Return `recipe` with a line for every site of `model`, so that any of them can be changed.

    Raises ValueError as `Recipe.check` does.
    """
    sites = sites_of(model)
    recipe.check(sites)
    table = {site: recipe.spec(site) for site in sites}
    return Recipe(recipe.name, table | {"*": REST})


def changed(recipe: Recipe, pattern: str, change: Change | None = None, **fields: Any) -> Recipe:
    """Return a resolved recipe with the specs of the sites that match `pattern` changed: by a
    function, or in `fields`. Raises ValueError if there is none.

    >>> changed(Recipe("r", {"a.softmax": Spec(8), "a.q": Spec(4)}), "*.softmax", bits=6).table
    ... # doctest: +ELLIPSIS
    {'a.softmax': Spec(bits=6, ...), 'a.q': Spec(bits=4, ...)}
    """
    if not any(fnmatchcase(site, pattern) for site in recipe.table):
        raise ValueError(f"no line of {recipe.name!r} matches {pattern!r}; resolve it on a model")
    of = change or (lambda spec: replace(spec, **fields))
    table = {
        site: of(spec) if fnmatchcase(site, pattern) else spec
        for site, spec in recipe.table.items()
    }
    return Recipe(recipe.name, table)


def watched(name: str) -> Change:
    """Return the change to another observer, of what has one and can do with it."""

    def change(spec: Spec) -> Spec:
        fixed = spec.group or spec.dynamic or name not in WATCHED.get(spec.quantizer, (name,))
        return spec if fixed else replace(spec, observer=name)

    return change


def on_grid(quantizer: str, most: int, signed: bool = False, wide: bool = False) -> Change:
    """Return the change to a quantizer that searches its grid, of what has at most `most` bits;
    with `wide` what has more gets `most`."""

    def change(spec: Spec) -> Spec:
        if spec.bits > most and not wide:
            return spec
        return Spec(min(spec.bits, most), signed, quantizer=quantizer, observer="mse")

    return change


def if_plain(change: Change) -> Change:
    """Return `change` of what is on a linear grid with zero for its middle that calibration finds;
    what a recipe puts on another, an asymmetric or a dynamic one, stays there."""

    def only(spec: Spec) -> Spec:
        plain = spec.quantizer == "linear" and spec.symmetric and not spec.dynamic
        return change(spec) if plain else spec

    return only


def minmax(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Ranges are what was seen."""
    return quantize_model(model, pixels, recipe)


def by(pattern: str, change: Change) -> Method:
    """Return min-max with the specs of some sites changed."""

    def method(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
        return quantize_model(model, pixels, changed(resolved(model, recipe), pattern, change))

    return method


def observed(name: str) -> Method:
    """Return min-max with activations watched by another observer. Weights keep theirs: a row of
    them is too few values for a distribution."""

    def method(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
        given = resolved(model, recipe)
        weights = {site: spec for site, spec in given.table.items() if site.endswith(".weight")}
        table = changed(given, "*", watched(name)).table
        return quantize_model(model, pixels, Recipe(recipe.name, {**table, **weights}))

    return method


def one_scale(spec: Spec) -> Spec:
    """One scale for a whole weight."""
    return replace(spec, axis=None, group=0)


def few(spec: Spec) -> Spec:
    """Equal steps of 4 bits or fewer: what powers of two are against."""
    return replace(spec, bits=min(spec.bits, FEW))


def dynamic(spec: Spec) -> Spec:
    """A linear grid of 8 bits or fewer found for each token when it comes."""
    still = spec.bits > 8 or spec.quantizer != "linear" or spec.axis is not None
    return spec if still else replace(spec, dynamic="token", restricted=False)


def smoothed(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """SmoothQuant: outliers are moved from activations into weights, then min-max."""
    return quantize_model(smooth(model, pixels), pixels, recipe)


def corrected(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Min-max, then the mean error of every linear taken from its bias."""
    return correct_bias(quantize_model(model, pixels, recipe), pixels)


def noise(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """NoisyQuant on least square errors: a fixed noise where it helps."""
    chosen = changed(resolved(model, recipe), "*", watched("mse"))
    return noisy(quantize_model(model, pixels, chosen), pixels)


def repq(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """RepQ-ViT: channels of LayerNorms are brought to one range, probabilities of few bits are
    logarithmic, ranges lose the least square error."""
    chosen = changed(resolved(model, recipe), "*", watched("mse"))
    chosen = changed(chosen, SOFTMAX, on_grid("log2", FEW))
    return quantize_model(reparameterise(model, pixels), pixels, chosen)


def ptq4vit(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """PTQ4ViT: twin steps for probabilities and GELU, scales searched by the Hessian."""
    chosen = changed(resolved(model, recipe), SOFTMAX, on_grid("twin", 8))
    chosen = changed(chosen, GELU, on_grid("twin", 8, signed=True))
    quantized = quantize_model(model, pixels, chosen)
    return search_scales(quantized, pixels[:SEARCH], rounds=1, candidates=50)


def fitted(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """Put together: RepQ-ViT's reparameterisation, at 4 bits and fewer powers of the root of two
    for probabilities and PTQ4ViT's twin steps after GELU unless the recipe itself names a grid
    that is not linear, symmetric and static, least square errors."""
    chosen = changed(resolved(model, recipe), "*", watched("mse"))
    chosen = changed(chosen, SOFTMAX, if_plain(on_grid("log_sqrt2", FEW)))
    chosen = changed(chosen, GELU, if_plain(on_grid("twin", FEW, signed=True)))
    return quantize_model(reparameterise(model, pixels), pixels, chosen)


def best(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
    """The grids of `fitted`, then everything learned by reconstruction."""
    return reconstruct(fitted(model, pixels, recipe), model, pixels, STEPS)


def rounded(name: str) -> Method:
    """Return min-max with weights rounded by "gptq" or "adaround"."""

    def method(model: Model, pixels: Pixels, recipe: Recipe) -> QuantizedModel:
        return round_weights(quantize_model(model, pixels, recipe), pixels, name)

    return method


def ptf(spec: Spec) -> Spec:
    """FQ-ViT's residual stream: 8 bits, a factor of a power of two for each channel."""
    return Spec(min(spec.bits, 8), quantizer="ptf", observer="channels")


METHODS: Mapping[str, Method] = {
    "minmax": minmax,
    "per-tensor": by("*.weight", one_scale),
    "moving": observed("moving"),
    "percentile": observed("percentile"),
    "entropy": observed("entropy"),
    "mse": by("*", watched("mse")),
    "dynamic": by("*", dynamic),
    "uniform4": by(SOFTMAX, few),
    "log2": by(SOFTMAX, on_grid("log2", FEW, wide=True)),
    "log-sqrt2": by(SOFTMAX, on_grid("log_sqrt2", FEW, wide=True)),
    "shift-log2": by(SOFTMAX, on_grid("shift_log2", FEW, wide=True)),
    "ptf": by(STREAM, ptf),
    "smoothquant": smoothed,
    "bias": corrected,
    "noisy": noise,
    "adaround": rounded("adaround"),
    "gptq": rounded("gptq"),
    "ptq4vit": ptq4vit,
    "repq": repq,
    "fitted": fitted,
    "best": best,
}


def method(name: str) -> Method:
    """Return the method called `name`; ValueError lists them."""
    return METHODS[one_of(name, METHODS, "method")]
