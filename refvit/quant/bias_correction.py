"""Bias correction: a linear on rounded inputs and weights is wrong on average, channel by channel;
its bias takes the average back (Nagel et al. 2019, section 4.2 and appendix D).

`E[y~] - E[y]` need not be 0: rounding errors of a row of weights do not cancel against inputs whose
mean is not 0, as those behind a GELU or a softmax. The paper derives it from batch norm where it
can; a transformer has none, so it is measured on images, which is the paper's appendix.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.matching import expects
from refvit.model import Model
from refvit.ops.taps import Tap, compose
from refvit.params import Params
from refvit.quant.folding import like
from refvit.quant.operands import linears
from refvit.quant.ptq import QuantizedModel
from refvit.quant.quantizers import FakeQuantize

FloatArray = NDArray[Any]


def correct_bias(quantized: QuantizedModel, pixels: NDArray[Any]) -> QuantizedModel:
    """Return `quantized` with the mean error of every linear's output taken from its bias.

    One forward of pixels [n, C, H, W], all in one batch: at each linear in turn the mean error over
    images and tokens is measured, before the output is rounded, and taken off at once, so that the
    next is measured behind corrected ones. What is left is what the bias's own grid cannot hold, up
    to half a step of the accumulator, s_x s_w / 2: to the digit for float64 pixels, while float32
    sums round now and then to another code. Linears without a bias stay as they are, and so do the
    grids. The result's `model` has the corrected biases: as a float model it is another one.
    """
    expects(quantized, QuantizedModel, "correct_bias")
    model, on_grid = quantized.model, FakeQuantize(quantized.qparams)
    sites = linears_of(quantized)
    exact = ChannelMeans([at for at in sites if model.params[at].get("bias") is not None])
    model(pixels, tap=exact)
    tensors = dict(model.params.items())

    def correct(site: str, value: Any) -> Any:
        if site not in exact.means:
            return value
        name, p = f"{site}.bias", model.params[site]
        before = on_grid(name, like(value, p.bias))
        error = before_gain(channel_mean(value) - exact.means[site], p.get("gain"))
        tensors[name] = like(p.bias, before - error)
        shift = on_grid(name, like(value, tensors[name])) - before
        return value + (shift if p.get("gain") is None else shift * like(value, p.gain))

    simulate(quantized, pixels, correct)
    return replace(quantized, model=replace(model, params=Params(tensors)))


def mean_errors(
    quantized: QuantizedModel, exact: Model, pixels: NDArray[Any]
) -> dict[str, FloatArray]:
    """Return, by site, the mean error [out] of every linear's output before it is rounded, against
    the float model `exact`, on pixels [n, C, H, W] in one batch."""
    wanted, found = (ChannelMeans(linears_of(quantized)) for _ in range(2))
    exact(pixels, tap=wanted)
    simulate(quantized, pixels, found)
    return {site: found.means[site] - wanted.means[site] for site in wanted.means}


def linears_of(quantized: QuantizedModel) -> list[str]:
    """Return the sites of all linears."""
    return [record.site for record in linears(quantized.model)]


def simulate(quantized: QuantizedModel, pixels: NDArray[Any], before: Tap) -> NDArray[Any]:
    """Return the logits of `quantized`, every value given to the tap `before` and then rounded."""
    return quantized.model(pixels, tap=compose(before, FakeQuantize(quantized.qparams)))


class ChannelMeans:
    """A tap that keeps the mean [C] of every channel, the last axis, at `sites`."""

    def __init__(self, sites: Collection[str]) -> None:
        self.sites = frozenset(sites)
        self.means: dict[str, FloatArray] = {}

    def __call__(self, site: str, value: Any) -> Any:
        if site in self.sites:
            self.means[site] = channel_mean(value)
        return value


def channel_mean(value: FloatArray) -> FloatArray:
    """Return the mean [C] over all axes but the last, summed in float64."""
    return np.asarray(value.reshape(-1, value.shape[-1]).mean(0, dtype=np.float64))


def before_gain(error: FloatArray, gain: FloatArray | None) -> FloatArray:
    """Return what to take from a bias whose linear multiplies by `gain` [out] afterwards; a gain
    of 0 lets no error through, and none back.

    >>> before_gain(np.array([1.0, 0.0]), np.array([0.5, 0.0]))
    array([2., 0.])
    """
    if gain is None:
        return error
    return np.divide(error, gain, out=np.zeros_like(error), where=gain != 0)
