"""The integer-only engine: int8 codes, int32 accumulators, proved ranges, exact replay."""

from refvit.integer.arithmetic import FAST, PLAIN, Arithmetic
from refvit.integer.bounds import Proof, widest
from refvit.integer.engine import IntegerModel, compile, load_engine
from refvit.integer.fixedpoint import dyadic, i_sqrt, requantize
from refvit.integer.integer_ops import IntegerOps
from refvit.integer.qtensor import QTensor

__all__ = [
    "FAST",
    "PLAIN",
    "Arithmetic",
    "IntegerModel",
    "IntegerOps",
    "Proof",
    "QTensor",
    "compile",
    "dyadic",
    "i_sqrt",
    "load_engine",
    "requantize",
    "widest",
]
