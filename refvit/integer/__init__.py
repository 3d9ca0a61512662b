"""The integer-only engine: int8 codes, int32 accumulators, proved ranges, exact replay.

Specification, version 1. `q` are codes, `s` their scale, a label: real = s q. All integers are
two's complement, `>>` floors, and every value is int32 unless a width is given.

Factors. A real factor r is (m, n) with r ~ m / 2**n: m signed, 2**23 <= |m| < 2**24, 1 <= n <= 53;
    below 2**-30, m is what n = 53 leaves; 0 is (0, 1).
Requantize. clip((x m + 2**(n-1)) >> n, lo, hi): one rounding, ties toward plus infinity. The
    product is the only 64-bit value. [lo, hi] is the full range of the site's codes, except for
    sums with guard bits, where it is that of int32.
Shift. round(x, k) = (x + 2**(k-1)) >> k for k > 0, x << -k otherwise.
Input. clip(rint(pixel / s), lo, hi), half to even: done once, outside the engine.
Linear. requantize(sum(w x) + b), a factor per output channel, r = s_x s_w gain / s_out (gain 1
    without LayerScale); b = rint(bias / (s_x s_w)) int32. Matmul: the same, one factor, the scale
    of the scores folded in. Mean over n: requantize(sum(x)), r = s_x / (n s_out).
Add. a' and b' = requantize by r = s_a 2**8 / s_out, unclipped; clip(round(a' + b', 8)).
Concat. Each part is requantized to s_out. Rearrange, select, roll and pad move codes; zero is 0.
Softmax. n = max(q) - q; t = requantize(n) to octaves / 2**13, at most 16 * 2**13 - 1; z = t >> 13,
    f = t mod 2**13; e = round(f (f - 31997) + 389997863, z + 15); S = sum(e), k = bits(S) - 14;
    p = round(e (2**27 // round(S, k)), k); out = requantize(p) by r = 2**-27 / s_out, unsigned.
    A masked score is not in the maximum, and its e is 0; S is at least 1.
GELU. u = requantize(|q|) to 2**-12, at most 10247, less 10247; h = 116185706 + sign(q)
    (116185706 - u u); out = requantize(q round(h, k)), k such that q h has 28 bits. The tanh form
    is the same: it differs by 5e-4, the polynomial by 0.018.
LayerNorm. y = C q - sum(q); bits = bits(max |y|); k = bits - W, not below what keeps E under 2**28;
    V = sum(round(y, k)**2) + E / 4**k; j = (30 - bits(V)) >> 1; R = max(isqrt(V << 2 j), 2**14);
    n = round(round(y, bits - 15) (2**29 // R), 17 - bits + k - j), at most by 30;
    out = clip(round(requantize(n) + rint(beta 2**8 / s_out), 8)), the factor of channel c being
    gamma_c sqrt(C) 2**(8 - 27) / s_out. W = (29 - ceil(log2 C)) >> 1, E = C**3 eps / s**2.

Where a scale must give way for a factor to be one of 24 bits, the label does: of a linear's
weights, of a matmul's output. So the integers above are exactly these formulas of the labels.
"""

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
