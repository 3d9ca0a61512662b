"""Quantization: grids, recipes, calibration, and the simulated model."""

from refvit.quant.adaround import adaround
from refvit.quant.affine import QParams, asymmetric, code_range, covering, grouped, symmetric
from refvit.quant.bias_correction import correct_bias, mean_errors
from refvit.quant.datafree import prior_labels, synthesize
from refvit.quant.dynamic import DynamicGrid
from refvit.quant.folding import ChannelRanges, Fold, channel_ranges, folds, rewrite
from refvit.quant.gptq import gptq
from refvit.quant.grid import Grid, dequantize, fake_quantize, quantize
from refvit.quant.hessian import search_scales
from refvit.quant.histogram import Histogram
from refvit.quant.log2 import Log2Grid
from refvit.quant.log_sqrt2 import LogSqrt2Grid
from refvit.quant.lsq import LearnedGrid, Straight, straight_through
from refvit.quant.mixed import Sensitivity, allocate, greedy, mixed_precision, sensitivity
from refvit.quant.noisy import NoisyGrid, fold_noise, noisy
from refvit.quant.observers import OBSERVERS, Calibration, observer
from refvit.quant.operands import input_moments
from refvit.quant.outliers import inject_outliers, smooth, stretch_queries
from refvit.quant.packing import pack, packed_bytes, unpack
from refvit.quant.ptf import PowerOfTwoFactor
from refvit.quant.ptq import QuantizedModel, sites_of
from refvit.quant.ptq import quantize as quantize_model
from refvit.quant.qat import Learnable
from refvit.quant.quantizers import FakeQuantize
from refvit.quant.recipe import PRESETS, Recipe, Spec, read_recipe, uniform
from refvit.quant.reconstruct import reconstruct
from refvit.quant.reparam import reparameterise
from refvit.quant.rounding import ROUNDINGS, round_weights
from refvit.quant.shift_log2 import ShiftLog2Grid
from refvit.quant.twin import TwinGrid

__all__ = [
    "OBSERVERS",
    "PRESETS",
    "ROUNDINGS",
    "Calibration",
    "ChannelRanges",
    "DynamicGrid",
    "FakeQuantize",
    "Fold",
    "Grid",
    "Histogram",
    "Learnable",
    "LearnedGrid",
    "Log2Grid",
    "LogSqrt2Grid",
    "NoisyGrid",
    "PowerOfTwoFactor",
    "QParams",
    "QuantizedModel",
    "Recipe",
    "Sensitivity",
    "ShiftLog2Grid",
    "Spec",
    "Straight",
    "TwinGrid",
    "adaround",
    "allocate",
    "asymmetric",
    "channel_ranges",
    "code_range",
    "correct_bias",
    "covering",
    "dequantize",
    "fake_quantize",
    "fold_noise",
    "folds",
    "gptq",
    "greedy",
    "grouped",
    "inject_outliers",
    "input_moments",
    "mean_errors",
    "mixed_precision",
    "noisy",
    "observer",
    "pack",
    "packed_bytes",
    "prior_labels",
    "quantize",
    "quantize_model",
    "read_recipe",
    "reconstruct",
    "reparameterise",
    "rewrite",
    "round_weights",
    "search_scales",
    "sensitivity",
    "sites_of",
    "smooth",
    "straight_through",
    "stretch_queries",
    "symmetric",
    "synthesize",
    "uniform",
    "unpack",
]
