"""The laws of refvit for anyone's integer operators, and the strategies that draw their cases.

    from refvit.testing import laws
    laws.requantize(my_requantize)            # returns, or raises a LawError of one line

`laws` hold a function to the specification in `refvit.integer`: exactly for requantize, matmul and
quantizer, within the errors stated there for softmax, gelu and layer_norm, whose algorithm is free
(bit for bit is `reference`'s, or a replay of vectors). Each draws one or two hundred cases
where implementations go wrong, shrinks what fails, and names the clause, the smallest case, what
was expected and what was found. `strategies` are those cases by themselves, for laws of your own.
`reference` is refvit's kernels in their signatures, which refvit's own tests hold to them.
It needs the extra `test`: pip install refvit[test].
"""

from refvit.testing import laws, reference, strategies
from refvit.testing.laws import LawError

__all__ = ["LawError", "laws", "reference", "strategies"]
