"""Quantization: grids, recipes, calibration, and the simulated model."""

from refvit.quant.affine import (
    Grid,
    QParams,
    asymmetric,
    covering,
    dequantize,
    fake_quantize,
    grouped,
    quantize,
    symmetric,
)
from refvit.quant.dynamic import DynamicGrid
from refvit.quant.histogram import Histogram
from refvit.quant.log2 import Log2Grid
from refvit.quant.log_sqrt2 import LogSqrt2Grid
from refvit.quant.observers import OBSERVERS, Calibration, observer
from refvit.quant.packing import pack, packed_bytes, unpack
from refvit.quant.ptf import PowerOfTwoFactor
from refvit.quant.ptq import QuantizedModel
from refvit.quant.ptq import quantize as quantize_model
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import PRESETS, Recipe, Spec, read_recipe
from refvit.quant.twin import TwinGrid

__all__ = [
    "OBSERVERS",
    "PRESETS",
    "Calibration",
    "DynamicGrid",
    "FakeQuantize",
    "Grid",
    "Histogram",
    "Log2Grid",
    "LogSqrt2Grid",
    "PowerOfTwoFactor",
    "QParams",
    "QuantizedModel",
    "Recipe",
    "Spec",
    "TwinGrid",
    "asymmetric",
    "covering",
    "dequantize",
    "fake_quantize",
    "grouped",
    "observer",
    "pack",
    "packed_bytes",
    "quantize",
    "quantize_model",
    "read_recipe",
    "symmetric",
    "unpack",
]
