"""The kernels of each family on the same codes, as reals: what notebooks and tables compare.

Families: `I-BERT` as released (`refvit.integer.kernels.released`, floats that hold integers),
`I-ViT` with derived shifts, `log2` (FQ-ViT's probabilities as powers of two) and `refvit`. Results
of the integer kernels are on output grids of 16 bits, so that what is left is the kernel's error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import PLAIN
from refvit.integer.kernels import gelu, ivit_norm, layer_norm, log_softmax, shiftmax, softmax
from refvit.integer.kernels.released import ibert_exp, ibert_gelu, ibert_layer_norm
from refvit.params import Params

IntArray = NDArray[Any]
FloatArray = NDArray[np.float64]
BYTES = (-128, 127)
WORDS = (-32768, 32767)
FINE = 1 / 65535  # a step of probabilities of 16 bits
NORM_STEP = 2.0**-11  # of normalised values of 16 bits


def _site(plan: Callable[..., Any], *about: Any) -> Params:
    return Params(plan("compared", *about)[0])


def exponentials(scale: float) -> dict[str, IntArray]:
    """Return the integers that stand for exp(-scale d), d = 0..255, of each family; the first of
    them is exp(0), the unit.

    >>> {name: int(e[0]) for name, e in exponentials(0.5).items()}
    {'refvit': 47607, 'I-BERT': 11811160064, 'I-ViT': 65536}
    """
    distances = np.arange(256, dtype=np.int32)
    grid = _site(softmax.plan, scale, FINE, *BYTES, 197)
    shifts = _site(shiftmax.plan, scale, FINE, *BYTES, 197)
    return {
        "refvit": softmax.exponential(distances, grid, PLAIN),
        "I-BERT": ibert_exp(-distances, scale)[0],
        "I-ViT": shiftmax.shift_exp(distances, shifts.unit, shifts.octaves),
    }


def softmaxes(scores: IntArray, scale: float) -> dict[str, FloatArray]:
    """Return the probabilities of int8 scores [..., N] at `scale` of each family.

    I-BERT's are its exponentials by their sum, before it rounds them to codes; those of log2 are
    its 4-bit codes themselves.
    """
    about = (*BYTES, scores.shape[-1])
    fine, shifts = (_site(kernel.plan, scale, FINE, *about) for kernel in (softmax, shiftmax))
    log = _site(log_softmax.plan, scale, 2.0**-log_softmax.POWER, *about)
    e = ibert_exp(scores.astype(np.int32) - scores.max(-1, keepdims=True), scale)[0]
    power = log_softmax.log_softmax(scores, log, PLAIN, 0, 15)
    return {
        "refvit": softmax.softmax(scores, fine, PLAIN, 0, 65535) * FINE,
        "I-BERT": e / e.sum(-1, keepdims=True),
        "I-ViT": shiftmax.shiftmax(scores, shifts, PLAIN, 0, 65535) * FINE,
        "log2": np.where(power < 15, 2.0**-power, 0.0),
    }


def rows(scores: IntArray, scale: float) -> dict[str, FloatArray]:
    """Return what the codes of int8 scores [..., N] stand for, by family and width of code: refvit
    rounds to the nearest, Shiftmax floors to 2**-7 and 2**-15 as its releases do."""
    about = (*BYTES, scores.shape[-1])
    c = _site(shiftmax.plan, scale, FINE, *about)
    e = shiftmax.shift_exp(softmax.distances(scores).astype(np.int32), c.unit, c.octaves)
    share = e * (np.int32(shiftmax.DIVIDEND) // e.sum(-1, keepdims=True, dtype=np.int32))
    linear = {}
    for bits in (8, 4):
        top = (1 << bits) - 1
        site = _site(softmax.plan, scale, 1 / top, *about)
        linear[f"refvit, {bits} bits"] = softmax.softmax(scores, site, PLAIN, 0, top) / top
    return linear | {
        "log2, 4 bits": softmaxes(scores, scale)["log2"],
        "I-ViT, 8 bits": (share >> 24) / 2**7,
        "I-ViT, 16 bits": (share >> 16) / 2**15,
    }


def gelus(scale: float) -> dict[str, FloatArray]:
    """Return GELU of the codes -128 to 127 at `scale` of each family, I-BERT with the shift of its
    release and with none."""
    codes, step = np.arange(-128, 128).astype(np.int8), scale / 128
    polynomial = _site(gelu.plan, scale, step, *BYTES)
    shifts = _site(shiftmax.plan_gelu, scale, step, *BYTES)
    return {
        "refvit": gelu.gelu(codes, polynomial, PLAIN, *WORDS) * step,
        "I-BERT": np.multiply(*ibert_gelu(codes, scale)),
        "I-BERT, shift 0": np.multiply(*ibert_gelu(codes, scale, 0)),
        "I-ViT": shiftmax.shift_gelu(codes, shifts, PLAIN, *WORDS) * step,
    }


def norms(rows: IntArray, shift: int = 4) -> dict[str, FloatArray]:
    """Return rows [R, C] of int16 codes, normalised without gamma, beta and eps, of each family;
    I-BERT with the static shifts 0 and `shift`."""
    ones, zeros = np.ones(rows.shape[-1]), np.zeros(rows.shape[-1])
    about = (1e-3, NORM_STEP, *WORDS, ones, zeros, 0.0)
    derived, static = (_site(kernel.plan, *about) for kernel in (layer_norm, ivit_norm))
    return {
        "refvit": layer_norm.layer_norm(rows, derived, PLAIN, *WORDS) * NORM_STEP,
        "I-BERT": np.multiply(*ibert_layer_norm(rows, ones, zeros, shift)),
        "I-BERT, shift 0": np.multiply(*ibert_layer_norm(rows, ones, zeros, 0)),
        "I-ViT": ivit_norm.i_layer_norm(rows, static, PLAIN, *WORDS) * NORM_STEP,
    }
