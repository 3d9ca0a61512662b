"""Quantization: grids, recipes, calibration, and the simulated model."""

from refvit.quant.affine import QParams, dequantize, fake_quantize, quantize, symmetric
from refvit.quant.ptq import QuantizedModel
from refvit.quant.ptq import quantize as quantize_model
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import PRESETS, Recipe, Spec

__all__ = [
    "PRESETS",
    "FakeQuantize",
    "QParams",
    "QuantizedModel",
    "Recipe",
    "Spec",
    "dequantize",
    "fake_quantize",
    "quantize",
    "quantize_model",
    "symmetric",
]
