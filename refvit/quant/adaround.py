"""AdaRound: up or down for every weight, learned so that a linear's output stays what it was.

Nagel, Amjad, van Baalen, Louizos and Blankevoort 2020, "Up or Down?", sections 3 and 4. The output
error of a linear is a quadratic form in the weights' error, so one matrix holds the whole
calibration set, and the gradient is exact and in closed form: no minibatches, no tape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.quant.affine import QParams
from refvit.quant.gptq import lattice

Array = NDArray[Any]
GAMMA, ZETA = -0.1, 1.1  # the ends of the stretched sigmoid (equation 23)
BETA = (20.0, 2.0)  # of the regularizer, from the end of the warm-up to the last step
WARMUP = 0.2  # of the steps, without the regularizer


def adaround(
    weight: Array,
    grid: QParams,
    moment: Array,
    steps: int = 1000,
    rate: float = 0.01,
    pressure: float = 0.3,
) -> Array:
    """Return codes [out, in] of `weight`, each next below or above it on `grid`.

    `moment` [in, in] is sum x x^T of the calibration inputs. Minimised over V by Adam is
    e^T M e + pressure * sum(1 - |2h - 1|^beta), where h(V) in [0, 1] is the share of a step above
    the floor and e the error in units of the row's largest step (equations 21 to 24); M is the
    moment at mean diagonal 1, so that `pressure` and `rate` mean the same in every layer and row.

    The released copies (BRECQ, AIMET) clip after the step up, so a weight at the end of its grid
    has a choice that changes nothing, and keep the last codes without a look at nearest. Here both
    neighbours of a weight are codes, and a row that came out worse than nearest is nearest.
    """
    step, lo, hi = lattice(grid, weight.shape)
    position = weight.astype(np.float64) / step
    inside = np.clip(position, lo, hi)
    floor = np.minimum(np.floor(inside), hi - 1)
    m = moment / (float(np.diag(moment).mean()) or 1.0)
    size = step / step.max(1, keepdims=True)
    share = learned(inside - floor, floor - position, m, steps, rate, pressure, size)
    codes = (floor + (share >= 0.5) - lo + grid.lo).astype(grid.dtype)
    return no_worse(weight, grid, codes, moment)


def learned(
    start: Array,
    below: Array,
    m: Array,
    steps: int,
    rate: float,
    pressure: float,
    size: Array | float = 1.0,
) -> Array:
    """Return h [out, in] after Adam (Kingma and Ba 2015); `start` is h before, `below` the error of
    the floor, both in steps, of which each weight's is `size` long."""
    v = np.log((start - GAMMA) / (ZETA - start))  # h(v) = start
    first, second = np.zeros_like(v), np.zeros_like(v)
    for t in range(1, steps + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * (ZETA - GAMMA) + GAMMA
        h = np.clip(stretched, 0.0, 1.0)
        g = 2 * ((h + below) * size) @ m * size + pressure * push(h, t / steps)
        g *= (ZETA - GAMMA) * sigmoid * (1 - sigmoid) * (stretched == h)
        first += 0.1 * (g - first)
        second += 0.001 * (g * g - second)
        v -= rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return h


def push(h: Array, done: float) -> Array:
    """Return the derivative of sum(1 - |2h - 1|^beta); `done` of the steps are, and beta falls."""
    if done < WARMUP:
        return np.zeros_like(h)
    share = (done - WARMUP) / (1 - WARMUP)
    beta = BETA[1] + (BETA[0] - BETA[1]) * 0.5 * (1 + np.cos(np.pi * share))
    centred = 2 * h - 1
    with np.errstate(under="ignore"):
        return np.asarray(-2 * beta * np.sign(centred) * np.abs(centred) ** (beta - 1))


def errors(weight: Array, grid: QParams, codes: Array, moment: Array) -> Array:
    """Return sum (w x - q x)^2 over the calibration inputs, of every row: [out]."""
    off = grid.decode(codes, np.float64) - weight
    return np.asarray(np.einsum("oi,oi->o", off @ moment, off))


def no_worse(weight: Array, grid: QParams, codes: Array, moment: Array) -> Array:
    """Return `codes`, in every row where nearest has the smaller output error those of nearest."""
    nearest = grid.encode(weight.astype(np.float64))
    worse = errors(weight, grid, nearest, moment) < errors(weight, grid, codes, moment)
    return np.where(worse[:, None], nearest, codes)
