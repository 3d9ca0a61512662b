"""The laws of the specification, for anyone's implementation of an operator.

Each takes a function, tries it on a hundred or more drawn cases, always the same ones, and returns
None or raises `LawError`: one line with the clause, the law, the smallest counterexample, what was
expected and what was found. The function is handed copies; it must answer every input with an
integer array of the right shape, the same one every time, and not write to what it is given.

    requantize  clause 2.2   fn(acc, multiplier, shift, lo, hi)
    matmul      clause 3.3   fn(a, b)
    quantizer   clause 1.4   fn(x, scale, bits)
    softmax     clause 4.1   fn(codes), at one scale
    gelu        clause 4.2   fn(codes), at one scale
    layer_norm  clause 4.3   fn(codes, gamma, beta, scale, out_scale, eps)
"""

from refvit.testing.laws.exact import matmul, quantizer, requantize
from refvit.testing.laws.kernels import gelu, softmax
from refvit.testing.laws.norm import layer_norm
from refvit.testing.laws.trial import LawError

__all__ = ["LawError", "gelu", "layer_norm", "matmul", "quantizer", "requantize", "softmax"]
