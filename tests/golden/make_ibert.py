"""Record the released I-BERT operators: `python make_ibert.py`, with torch and transformers.

ibert_release.npz holds, under gelu_, exp_ and ln_, what the modules of transformers 5.23.0 on
torch 2.13.0 make of integers in float64, a leading axis for the cases: ordinary scales, those whose
squares underflow or constants floor to 0, and one whose 1 // scale is not floor(1 / scale); rows
of no variance or of a mean that ends in a half, gammas of any sign and 0.
"""

from pathlib import Path

import numpy as np
import torch
from transformers.models.ibert import quant_modules

SCALES = [1e-170, 3e-6, 1e-4, 0.008393182058881257, 0.01, 0.0625, 0.3, 0.7, 3.0, 1e5]
SHIFTS = [0, 0, 1, 4, 7]
WIDTH = 12  # its root is inexact in float32


class Floors:
    """Take the place of the release's `floor_ste` and keep every value it returns."""

    kept: list[torch.Tensor] = []  # noqa: RUF012

    @classmethod
    def apply(cls, x: torch.Tensor) -> torch.Tensor:
        cls.kept.append(torch.floor(x))
        return cls.kept[-1]


def gelu(q, scale):
    """The integers of IntGELU.forward, which returns only their product with the scale."""
    module = quant_modules.IntGELU(quant_mode=True)
    erf, erf_scale = module.int_erf(q, scale / module.k)
    return q * (erf + 1.0 // erf_scale), scale * erf_scale / 2


def exp(q, scale):
    return quant_modules.IntSoftmax(8, quant_mode=True).int_exp(q, scale)


def layer_norm(q, gamma, beta, shift):
    """The integers of IntLayerNorm.forward: its last two floors, added."""
    module = quant_modules.IntLayerNorm(WIDTH, 1e-5, quant_mode=True).double().eval()
    module.weight.data, module.bias.data, module.shift = gamma, beta, shift
    _, scale = module(q[None], torch.ones(1))
    return Floors.kept[-2][0] + Floors.kept[-1], scale


def record(name, function, *arguments):
    """Return the arrays of `function` called once for each row of the arguments."""
    rows = zip(*(torch.tensor(np.asarray(a, np.float64)) for a in arguments), strict=True)
    with torch.no_grad():
        out, scale = zip(*(function(*row) for row in rows), strict=True)
    return {f"{name}_out": np.stack(out), f"{name}_scale": np.stack(scale)}


quant_modules.floor_ste = Floors
rng = np.random.default_rng(0)
at = np.array(SCALES)[:, None]
codes = np.concatenate([np.arange(-127, 128, 11), rng.integers(-(2**15), 2**15, 20)])
codes = np.concatenate([codes, rng.integers(-(2**21), 2**21, 6), [0, -128, 2**31 - 1]])
below = -np.concatenate([np.arange(8), rng.integers(8, 256, 16), rng.integers(256, 2**19, 12)])

q = np.rint(rng.standard_normal((len(SHIFTS), 5, WIDTH)) * [[1], [20], [9000], [0], [0]])
q[:, 0, 0] += WIDTH / 2 - q[:, 0].sum(-1)  # a mean of 0.5, which rounds to 0
q[:, 1] += 100
q[:, 4, 3] = 1
gamma, beta = rng.standard_normal((2, len(SHIFTS), WIDTH))
gamma[:, 0], gamma[1, 1], beta[1, :2] = 0, -0.0, (0, 2)
shift = np.array(SHIFTS)[:, None]

tables = {"gelu_q": np.tile(codes, (len(at), 1)), "exp_q": np.tile(below, (len(at), 1))}
tables |= {"gelu_at": at, "exp_at": at, "ln_q": q.astype(np.int64)}
tables |= {"ln_gamma": gamma, "ln_beta": beta, "ln_shift": shift}
tables |= record("gelu", gelu, tables["gelu_q"], at)
tables |= record("exp", exp, tables["exp_q"], at)
tables |= record("ln", layer_norm, q, gamma, beta, shift)
np.savez_compressed(Path(__file__).with_name("ibert_release.npz"), **tables)
