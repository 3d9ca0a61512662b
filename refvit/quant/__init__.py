"""Quantization: grids, recipes, calibration, and the simulated model."""

from refvit.quant.affine import Grid, QParams, dequantize, fake_quantize, quantize, symmetric
from refvit.quant.log2 import Log2Grid
from refvit.quant.packing import pack, packed_bytes, unpack
from refvit.quant.ptq import QuantizedModel
from refvit.quant.ptq import quantize as quantize_model
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import PRESETS, Recipe, Spec

__all__ = [
    "PRESETS",
    "FakeQuantize",
    "Grid",
    "Log2Grid",
    "QParams",
    "QuantizedModel",
    "Recipe",
    "Spec",
    "dequantize",
    "fake_quantize",
    "pack",
    "packed_bytes",
    "quantize",
    "quantize_model",
    "symmetric",
    "unpack",
]
