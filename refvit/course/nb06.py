"""The exercises of notebook 06: post-training quantization, what it costs and what wins it back.

An error predicted and checked by rounding weights, and biases corrected (Nagel et al. 2019). Widths
under a budget are in `nb06_budget`, rounding up and down in `nb06_more`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course import draw
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb06_budget import BUDGET
from refvit.course.nb06_more import NEVER_WORSE, SEARCH
from refvit.testing.extra import st

Array = NDArray[Any]
Case = tuple[Any, ...]


def predicted_error(step: float, moment: Array) -> float:
    """Predict the mean squared error of an output whose weights were rounded.

    The output is sum_i w_i x_i. `moment` [n, n], float64, is the mean of x x^T over the inputs x
    [n]. Rounding changes every w_i by an error e_i that is uniform between -step/2 and step/2,
    independent of the inputs and of the other errors. Return the mean of (sum_i e_i x_i)**2, a
    float. The check rounds thousands of weights and asks for the mean within 8 percent.
    """
    return float(step**2 / 12 * np.trace(moment))


def rounding_trial(step: float, moment: Array) -> float:
    """Return that mean for 8,000 rows of weights that are rounded."""
    weights = np.random.default_rng(0).uniform(-8, 8, (8000, len(moment))) * step
    errors = np.rint(weights / step) * step - weights
    return float(np.mean(np.sum((errors @ moment) * errors, axis=1)))


def _moments() -> st.SearchStrategy[Array]:
    inputs = draw.matrices((1, 3), (1, 3), st.integers(-3, 3).map(float))
    return inputs.map(lambda x: x.T @ x / len(x))


PREDICTED = Exercise(
    id="nb06.predicted_error",
    title="predict what rounding a row of weights costs",
    answer=predicted_error,
    cases=st.tuples(draw.scales(), _moments()),
    returns="error",
    truth=rounding_trial,
    judge=closely(0.08),
    hints=(
        "Multiply the square out: the mean of e_i e_j x_i x_j, for every pair. What is the mean of "
        "e_i e_j where i and j differ?",
        "Only the pairs i = j are left, and they need the mean of e_i**2: the integral of e**2 "
        "from -step/2 to step/2, divided by step.",
    ),
    wrong=(
        Wrong("all_pairs", "a sum over the whole moment; the errors of two weights are "
              "independent, so their pairs cancel and the diagonal is left",
              lambda step, moment: float(step**2 / 12 * moment.sum())),
        Wrong("worst", "the worst error of a weight, step/2, where the mean square was meant",
              lambda step, moment: float(step**2 / 4 * np.trace(moment))),
        Wrong("twice_as_wide", "errors that reach a whole step either way: rounding to the nearest "
              "is off by half a step at most",
              lambda step, moment: float(step**2 / 3 * np.trace(moment))),
        Wrong("step_not_squared", "a step that is not squared: twice the step is four times the "
              "error", lambda step, moment: float(step / 12 * np.trace(moment))),
        Wrong("mean_of_weights", "a mean over the weights, whose errors add up",
              lambda step, moment: float(step**2 / 12 * np.trace(moment) / len(moment))),
        Wrong("root", "the root of what was asked for",
              lambda step, moment: float(np.sqrt(step**2 / 12 * np.trace(moment)))),
    ),
)  # fmt: skip


def corrected_bias(bias: Array, w: Array, w_hat: Array, x: Array, x_hat: Array) -> Array:
    """Return the bias [out], float64, with which a rounded linear is right on average.

    The exact linear is x @ w.T + bias, for inputs x [n, in], weights w [out, in], bias [out]. The
    rounded one has weights w_hat and reads inputs x_hat, of the same shapes, because what came
    before it is rounded too. With the new bias the mean of every output channel over the n inputs
    is what it is in the exact linear. All are float64; the arguments stay as they are.
    """
    error = x_hat @ w_hat.T - x @ w.T
    return np.asarray(bias - error.mean(axis=0))


def slow_bias(bias: Array, w: Array, w_hat: Array, x: Array, x_hat: Array) -> Array:
    """Return the same, one number after another."""
    found = []
    for o, one in enumerate(bias):
        off = 0.0
        for n in range(len(x)):
            for i in range(w.shape[1]):
                off += x_hat[n, i] * w_hat[o, i] - x[n, i] * w[o, i]
        found.append(one - off / len(x))
    return np.array(found)


@st.composite
def _linears(pick: Callable[..., Any]) -> Case:
    """Draw numbers whose sums and means are exact: few halves, and 1, 2 or 4 inputs."""
    out, into, n = (pick(st.sampled_from(sizes)) for sizes in ((1, 2), (1, 2), (1, 2, 4)))
    halves = st.integers(-6, 6).map(lambda k: k / 2)
    w, w_hat = (pick(draw.matrices((out, out), (into, into), halves)) for _ in range(2))
    x, x_hat = (pick(draw.matrices((n, n), (into, into), halves)) for _ in range(2))
    return pick(draw.vectors(out, out, halves)), w, w_hat, x, x_hat


BIAS = Exercise(
    id="nb06.corrected_bias",
    title="a bias that takes the mean error back",
    answer=corrected_bias,
    cases=_linears(),
    returns="bias",
    truth=slow_bias,
    judge=closely(1e-9),
    hints=(
        "Write down both outputs without a bias, [n, out], and subtract the exact one.",
        "The mean of the difference over the inputs, axis 0, is what every channel has too much.",
    ),
    wrong=(
        Wrong("added", "an error that is added once more: what a channel has too much is taken off",
              lambda b, w, wh, x, xh: b + (xh @ wh.T - x @ w.T).mean(0)),
        Wrong("weights_only", "the error of the weights alone, on the exact inputs: the rounded "
              "linear reads x_hat", lambda b, w, wh, x, xh: b - x.mean(0) @ (wh - w).T),
        Wrong("rounded_inputs_only", "the error of the weights alone, on x_hat: the exact linear "
              "reads x", lambda b, w, wh, x, xh: b - xh.mean(0) @ (wh - w).T),
        Wrong("summed", "a sum over the inputs where their mean was meant",
              lambda b, w, wh, x, xh: b - (xh @ wh.T - x @ w.T).sum(0)),
        Wrong("one_mean", "one mean for all channels, where each has its own",
              lambda b, w, wh, x, xh: b - (xh @ wh.T - x @ w.T).mean()),
        Wrong("first_input", "the error of the first input only",
              lambda b, w, wh, x, xh: b - (xh @ wh.T - x @ w.T)[0]),
    ),
)  # fmt: skip

EXERCISES = (PREDICTED, BUDGET, BIAS, NEVER_WORSE, SEARCH)
