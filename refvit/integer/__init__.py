"""The integer-only engine: int8 codes, int32 accumulators, proved ranges, exact replay.

`specification.md` is the normative page (`refvit spec`): every rounding, clamp and shift, with the
derivation of every constant. The code cites its clauses. Read `fixedpoint` (the one rounding),
`kernels` (softmax, GELU, LayerNorm), `compiler` and `bounds` (constants and proofs),
`integer_ops` and `arithmetic` (the engine), `artefact` and `vectors` (files).
"""

from refvit.integer.arithmetic import FAST, PLAIN, Arithmetic
from refvit.integer.bounds import Proof, widest
from refvit.integer.engine import IntegerModel, compile, load_engine
from refvit.integer.fixedpoint import dyadic, i_sqrt, requantize
from refvit.integer.integer_ops import IntegerOps
from refvit.integer.qtensor import QTensor
from refvit.integer.specification import clauses, specification

__all__ = [
    "FAST",
    "PLAIN",
    "Arithmetic",
    "IntegerModel",
    "IntegerOps",
    "Proof",
    "QTensor",
    "clauses",
    "compile",
    "dyadic",
    "i_sqrt",
    "load_engine",
    "requantize",
    "specification",
    "widest",
]
