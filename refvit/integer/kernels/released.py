"""The operators of I-BERT as they were released, defects included: for teaching and for porting.

Each function repeats, operation by operation, what `models/ibert/quant_modules.py` of Hugging Face
transformers 5.23 (after Kim et al. 2021) computes in float64 on integers `q`. The engine uses none
of them; its kernels for the same operators are the files beside this one.

Integers come back as the release holds them, in floating point: float64, and inf or NaN where it
divides by zero. Such values are answers here, so no error or warning follows, whatever
`np.errstate` is outside. A scale is an array [1], or [C] for one per channel: real = scale * q.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

GELU_SHIFT = 14  # `IntGELU.const`
EXP_SHIFT = 30  # `IntSoftmax.const`


def over(constant: float, x: FloatArray) -> FloatArray:
    """Return (1 / x) * constant: two roundings, which is what torch makes of `constant / tensor`.

    The floor that follows can tell. At a scale of 1e-4 the release's ln 2 is one step longer:

    >>> float(np.floor(over(-0.6931, np.float64(1e-4)))), float(np.floor(-0.6931 / 1e-4))
    (-6932.0, -6931.0)
    """
    return np.asarray(1.0 / x * constant)


def ibert_gelu(
    q: ArrayLike, scale: ArrayLike, shift: int = GELU_SHIFT
) -> tuple[FloatArray, FloatArray]:
    """Return GELU of scale * q as `IntGELU` does: integers like q, and a scale that is negative.

    q is [...] with scale [1], or [..., C] with scale [C]; both results are float64.

    Dropping `shift` bits of the polynomial, 6.925 / scale^2, leaves nothing of it for 8-bit codes.
    Largest error over the codes -127 to 127, for inputs within

                        +-4       +-8      +-16      +-32
        as released   5.388    67.103     584.8    4774.6
        shift 0       0.0173    0.0183    0.0254    0.271

    At other scales shift 0 errs by up to 0.0185, 0.025, 0.041 and 0.32, as b and c are floored.
    16-bit codes within +-8 err by 0.01834 as released. With the 22-bit sums the release feeds it
    the error is 0.01815, but the polynomial takes 2^38.8.

    >>> for shift in (14, 0):
    ...     codes, scale = ibert_gelu([-127, 64, 127], 4 / 127, shift)
    ...     print(np.round(codes * scale, 3) + 0.0)
    [-4.694  4.731  9.388]
    [0.    1.979 4.   ]
    """
    with np.errstate(all="ignore"):
        x, s = np.asarray(q, np.float64), np.atleast_1d(np.asarray(scale, np.float64))
        inner = s / 1.4142  # of x / sqrt(2), the argument of erf
        b = np.floor(over(-1.769, inner))
        c = np.floor(over(1 / -0.2888, inner * inner))
        distance = np.minimum(np.abs(x), -b) + b
        erf = np.floor(np.sign(x) * (distance * distance + c) / 2**shift)
        erf_scale = inner * inner * -0.2888 * 2**shift
        one = np.floor_divide(1.0, erf_scale)
        return x * (erf + one), s * erf_scale / 2


def ibert_exp(
    q: ArrayLike, scale: ArrayLike, shift: int = EXP_SHIFT
) -> tuple[FloatArray, FloatArray]:
    """Return exp(scale * q) for q <= 0 as `IntSoftmax.int_exp` does: integers like q, and a scale.

    q is [...] with scale [1], or [..., C] with scale [C]; both results are float64.

    exp(0) is floor(2.7921 / scale^2) * 2^shift: from 2^44.8 at scale 0.01 to 2^33.5 at 0.5 as
    released, beyond int32 at every scale below 1.1815; above 1.671 every exponential is 0. The
    constants are floored at the scale of the scores, so the 1.913e-3 of the quadratic is the error
    only as scale -> 0:

        scale    0.5     0.25    0.1     1/16    0.03    0.01    2^-11    2^-16
        error    0.1246  0.0269  0.0037  0.0271  0.0132  0.0041  0.00193  0.001913

    The worst between 0.01 and 0.5 is 0.141. `shift` 16 errs alike, and fits int32 from 0.01 on.
    Softmax then requantizes these integers by a range seen in training: not repeated here.

    >>> codes, scale = ibert_exp([-2, -1, 0], 0.5)
    >>> print(codes / 2**30, np.round(codes * scale, 3))
    [ 5.5  7.  11. ] [0.492 0.627 0.985]
    """
    with np.errstate(all="ignore"):
        x, s = np.asarray(q, np.float64), np.atleast_1d(np.asarray(scale, np.float64))
        ln2 = np.floor(over(-0.6931, s))
        b = np.floor(over(0.96963238 / 0.35815147, s))
        c = np.floor(over(1 / 0.35815147, s * s))
        x = np.maximum(x, shift * ln2)
        halvings = np.floor(x / ln2)
        rest = x - ln2 * halvings
        power = np.floor(((rest + b) * rest + c) * 2.0 ** (shift - halvings))
        return np.maximum(power, 0.0), 0.35815147 * (s * s) / 2**shift


def ibert_layer_norm(
    q: ArrayLike, gamma: ArrayLike, beta: ArrayLike, shift: ArrayLike = 0
) -> tuple[FloatArray, FloatArray]:
    """Return LayerNorm over the last axis as `IntLayerNorm` does in evaluation.

    q is [..., C], gamma and beta [C], shift the learned `IntLayerNorm.shift`, one number >= 0.
    The integers are float64 [..., C], the scale sqrt(C) 2^-30 gamma is float64 [C].

    - eps is dropped: a row of +-1 at scale 1e-3 becomes +-1, with eps = 1e-5 it is +-0.302.
    - A constant row is 0 * inf = NaN. One whose deviations are all in [0, 2^shift) has the root 0
      too: inf where it deviates, NaN elsewhere.
    - beta is divided by gamma: gamma = 0 gives an infinite integer, NaN if beta = 0, at scale 0.
      With |beta / gamma| > sqrt(C) the sum can leave int32.
    - The mean is rounded: normal rows of 192 codes, deviating by 10, 30, 100 and 1000, err by about
      0.07, 0.025, 0.008 and 0.0007 at gamma 1. The shift is one for all rows: at 4, because one
      row somewhere was loud, these err by 1.2, 0.26, 0.06 and 0.007.

    sqrt(C) is taken in float32, correctly rounded as IEEE 754 asks; torch 2.13 with MKL returns its
    neighbour at 1,160 of the widths up to 8192, from 19 on, but at none that ViT, DeiT or Swin has.
    Sums are exact below 2^53; beyond, torch's depend on the order it adds in.

    >>> codes, scale = ibert_layer_norm([1, -1, 2, -2], gamma=[1, 0, 0, -1], beta=[1, 1, 0, 1])
    >>> print(codes, scale * 2**29)
    [ 8.94784853e+08             inf             nan -1.25269879e+09] [ 1.  0.  0. -1.]
    """
    with np.errstate(all="ignore"):
        x, weight, bias, step = (np.asarray(a, np.float64) for a in (q, gamma, beta, shift))
        unit = 2.0**step
        y = x - np.rint(x.mean(-1, keepdims=True))
        squares = np.square(np.floor(y / unit)).sum(-1, keepdims=True)
        factor = np.floor(over(2.0**31, np.floor(np.sqrt(squares)) * unit))
        scale = np.float64(np.sqrt(np.float32(x.shape[-1]))) / 2**30
        offset = np.floor(bias / weight / scale)
        return np.floor(y * factor / 2) + offset, scale * weight
