"""Digests that are the same on every machine: the kernels of every profile, drawn images.

`refvit doctor` and the tests compare with them. Codes come from an integer recipe and scales are
powers of two or short decimals. After a deliberate change of a kernel the table is made again, in
PLAIN arithmetic: `python -c "from refvit.doctor import pinned; print(pinned.every_kernel())"`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.arithmetic import PLAIN, Arithmetic, code_dtype
from refvit.integer.kernels.profiles import LOG2_BITS, PROFILES, Profile
from refvit.params import Params
from refvit.quant import Log2Grid, code_range

IntArray = NDArray[Any]
Trial = tuple[Mapping[str, IntArray], list[IntArray]]  # constants, and codes made with them

# sha256 of the bytes of data.shapes10("test", 50).
IMAGES = "12df3a6c040bb5e5a8e8de7c0eeae18605ecdc007dcb60419acf0f4947f7b914"
# 16 digits of the sha256 of the constants that are planned, and of the codes made with them.
KERNELS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "refvit": {
        "softmax": ("951e81bb497b9fe4", "e62bd62dd053b3aa"),
        "gelu": ("a8f4bf1a424f47fc", "1ccc4061933a9bb3"),
        "layer_norm": ("f4ef4ce1bdd965f7", "4f7b5672ff90a51d"),
    },
    "ivit": {
        "softmax": ("75c5d682514efc0b", "4069a9941c96012d"),
        "gelu": ("4684d8b97e960096", "6c3125b7ec966885"),
        "layer_norm": ("7ed4c0eb9dd188ac", "d0219090a8f9944f"),
    },
    "log2": {
        "softmax": ("6ac0cf2d8eef71c2", "c9e895a353d7e74d"),
        "gelu": ("a8f4bf1a424f47fc", "1ccc4061933a9bb3"),
        "layer_norm": ("f4ef4ce1bdd965f7", "4f7b5672ff90a51d"),
    },
    "table": {
        "softmax": ("c87bfdaa4019d8e7", "e62bd62dd053b3aa"),
        "gelu": ("534822bdc07f761e", "1ccc4061933a9bb3"),
        "layer_norm": ("f4ef4ce1bdd965f7", "4f7b5672ff90a51d"),
    },
}
GRIDS = ((8, 0.125), (8, 0.03), (16, 2.0**-10), (16, 0.0007))  # bits and scale of the input
SITE = "pinned"


def every_kernel(arithmetic: Arithmetic = PLAIN) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the digests of every profile: in PLAIN arithmetic those that are pinned here."""
    return {name: kernel_digests(name, arithmetic) for name in PROFILES}


def kernel_digests(profile: str, arithmetic: Arithmetic) -> dict[str, tuple[str, str]]:
    """Return by operator 16 digits of the sha256 of a profile's constants, and of its codes."""
    kernels, found = PROFILES[profile], {}
    for operator, trial in TRIALS.items():
        constants, codes = hashlib.sha256(), hashlib.sha256()
        for bits, scale in GRIDS:
            planned, results = trial(kernels, arithmetic, bits, scale)
            for name, value in sorted(planned.items()):
                constants.update(f"{name} {np.shape(value)}".encode() + little(value))
            for result in results:
                codes.update(little(result))
        found[operator] = (constants.hexdigest()[:16], codes.hexdigest()[:16])
    return found


def little(x: IntArray) -> bytes:
    """Return integers as bytes, alike on every machine and for every integer type."""
    return np.asarray(x).astype("<i8").tobytes()


def fixed(shape: tuple[int, ...], lo: int, hi: int) -> IntArray:
    """Return int64 codes in [lo, hi] that look random: Knuth's multiplicative hash of the place.

    >>> fixed((8,), -8, 7)
    array([-8,  1, -5,  5, -2, -8,  2, -5])
    """
    place = np.arange(math.prod(shape), dtype=np.uint64)
    hashed = (place * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(8)
    return (hashed % np.uint64(hi - lo + 1)).astype(np.int64).reshape(shape) + lo


def softmax(kernels: Profile, arithmetic: Arithmetic, bits: int, scale: float) -> Trial:
    """Rows of 17 scores, some all alike; once whole, once with a mask that empties a row."""
    lo, hi = code_range(bits)
    x = fixed((4, 2, 17, 17), lo, hi)
    x[0, 0, 0], x[0, 0, 1], x[0, 0, 2, 1:] = lo, hi, lo
    x = x.astype(code_dtype(lo, hi))
    mask = fixed((2, 17, 17), 0, 2) == 0
    mask[0, 3] = True
    top = Log2Grid(LOG2_BITS).hi if kernels.log2 else 255
    out = float(Log2Grid(LOG2_BITS).scale) if kernels.log2 else 1 / 255
    constants, _ = kernels.softmax.plan(SITE, scale, out, lo, hi, 17)
    run, c = kernels.softmax.run, Params(constants)
    return constants, [run(x, c, arithmetic, 0, top), run(x, c, arithmetic, 0, top, mask)]


def gelu(kernels: Profile, arithmetic: Arithmetic, bits: int, scale: float) -> Trial:
    """All codes of 8 bits, or every 16th of 16, in rows of 64."""
    lo, hi = code_range(bits)
    x = np.arange(lo, hi + 1, 1 if bits == 8 else 16).astype(code_dtype(lo, hi)).reshape(-1, 64)
    constants, _ = kernels.gelu.plan(SITE, scale, scale, lo, hi)
    return constants, [kernels.gelu.run(x, Params(constants), arithmetic, lo, hi)]


def layer_norm(kernels: Profile, arithmetic: Arithmetic, bits: int, scale: float) -> Trial:
    """Rows of 48: any codes, all alike, hardly different; gamma of either sign and 0."""
    lo, hi = code_range(bits)
    x = fixed((12, 48), lo, hi)
    x[0], x[1], x[2:5] = 7, hi, np.clip(x[2:5], -1, 1)
    gamma, beta = fixed((48,), -40, 40) / 32, fixed((48,), -64, 64) / 64
    eps = 1e-6
    constants, _ = kernels.layer_norm.plan(SITE, scale, 0.03, lo, hi, gamma, beta, eps)
    run = kernels.layer_norm.run
    return constants, [run(x.astype(code_dtype(lo, hi)), Params(constants), arithmetic, -128, 127)]


TRIALS: Mapping[str, Callable[[Profile, Arithmetic, int, float], Trial]] = {
    "softmax": softmax,
    "gelu": gelu,
    "layer_norm": layer_norm,
}
