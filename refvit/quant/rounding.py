"""Weights rounded other than to nearest, layer by layer, on grids that stay as they are.

Each layer sees the inputs that the layers before it, already rounded, leave it (Frantar et al.
2023, section 4; Nagel et al. 2020, section 3.2). The new parameters lie on their grids, so that
rounding them again, as simulation and compiler do, gives the chosen codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.matching import expects, one_of
from refvit.progress import Progress
from refvit.quant.adaround import adaround, no_worse
from refvit.quant.affine import QParams
from refvit.quant.gptq import gptq
from refvit.quant.operands import input_moments, linears, with_weights
from refvit.quant.ptq import QuantizedModel

Array = NDArray[Any]
Rounding = Callable[[Array, QParams, Array], Array]
ROUNDINGS: Mapping[str, Rounding] = {"adaround": adaround, "gptq": gptq}


def round_weights(
    quantized: QuantizedModel,
    calibration: Array,
    rounding: str | Rounding = "gptq",
    sites: str = "*",
) -> QuantizedModel:
    """Return the model with the weights of the linears that match `sites` rounded by `rounding`.

    `rounding` is "gptq", "adaround", or a function of weights [out, in], their grid and the moment
    of their inputs [in, in] that returns codes; a row whose output error on `calibration` (pixels
    [n, C, H, W]) it makes larger than nearest does is rounded to nearest. The float weights are
    replaced: what they were is in the model that came in. Raises ValueError for an unknown name, a
    pattern no linear matches, or pixels the model does not read.
    """
    expects(quantized, QuantizedModel, "round_weights")
    if isinstance(rounding, str):
        rounding = ROUNDINGS[one_of(rounding, ROUNDINGS, "rounding")]
    pixels = quantized.model.checked(calibration)
    groups = list(by_input(quantized, sites))
    if not groups:
        raise ValueError(f"no linear of the model matches {sites!r}")
    bar = Progress("round weights", sum(map(len, groups)), "layers")
    for group in groups:
        moments = input_moments(quantized, pixels, group)
        quantized = with_weights(
            quantized,
            {f"{site}.weight": rounded(quantized, site, moments[site], rounding) for site in group},
        )
        bar.advance(len(group))
    bar.close()
    return quantized


def by_input(quantized: QuantizedModel, sites: str) -> Iterator[list[str]]:
    """Yield the linears in the order of the forward, those that follow on one value together."""
    group: list[str] = []
    value = ""
    for record in linears(quantized.model):
        if fnmatchcase(record.site, sites):
            if group and record.inputs[0] != value:
                yield group
                group = []
            group.append(record.site)
            value = record.inputs[0]
    if group:
        yield group


def rounded(quantized: QuantizedModel, site: str, moment: Array, choose: Rounding) -> Array:
    """Return the weights [out, in] of one linear at the codes that `choose` gives them."""
    weight, grid = quantized.params[f"{site}.weight"], quantized.qparams[f"{site}.weight"]
    assert isinstance(grid, QParams), "weights are on affine grids"
    exact = weight.astype(np.float64)
    codes = no_worse(exact, grid, choose(exact, grid, moment), moment)
    return grid.decode(codes, weight.dtype)
