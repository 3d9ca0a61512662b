"""`RecordingOps`: the engine's own interpreter, with every operator shown as it ran.

Movement (rearrange, select, roll, pad) has no site: what enters an operator is the moved value,
which knows whose result it is and how it was moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer.integer_ops import IntegerOps
from refvit.integer.qtensor import QTensor
from refvit.ops.protocol import Index, Mask
from refvit.params import Params

IntArray = NDArray[Any]


@dataclass(frozen=True)
class Held:
    """A value, the site whose result it is, and how that was moved since."""

    q: QTensor
    site: str
    moves: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One operator as it ran. `axis` is that of mean and concat, `mask` that of softmax."""

    op: str
    site: str
    inputs: tuple[Held, ...]
    output: IntArray
    axis: int | None = None
    mask: Mask | None = None


class RecordingOps:
    """The engine's operators, each shown to `seen` once it has run."""

    def __init__(self, integer: IntegerOps, seen: Callable[[Step], None]) -> None:
        self.integer = integer
        self.seen = seen

    def _show(self, op: str, site: str, out: QTensor, *inputs: Held, **more: Any) -> Held:
        self.seen(Step(op, site, inputs, out.codes, **more))
        return Held(out, site)

    def _moved(self, x: Held, out: QTensor, how: str) -> Held:
        return Held(out, x.site, (*x.moves, how))

    def input(self, x: IntArray, *, site: str) -> Held:
        return Held(self.integer.input(x, site=site), site)

    def output(self, x: Held, *, site: str) -> Held:
        return x

    def param(self, p: Params, name: str) -> Held:
        return Held(self.integer.param(p, name), p.at(name))

    def linear(self, x: Held, p: Params) -> Held:
        return self._show("linear", p.path, self.integer.linear(x.q, p), x)

    def matmul(self, a: Held, b: Held, *, site: str, scale: float = 1.0) -> Held:
        out = self.integer.matmul(a.q, b.q, site=site, scale=scale)
        return self._show("matmul", site, out, a, b)

    def add(self, a: Held, b: Held, *, site: str) -> Held:
        return self._show("add", site, self.integer.add(a.q, b.q, site=site), a, b)

    def gelu(self, x: Held, *, site: str, form: str = "erf") -> Held:
        return self._show("gelu", site, self.integer.gelu(x.q, site=site, form=form), x)

    def softmax(self, x: Held, *, site: str, mask: Mask | None = None) -> Held:
        out = self.integer.softmax(x.q, site=site, mask=mask)
        return self._show("softmax", site, out, x, mask=mask)

    def layer_norm(self, x: Held, p: Params, *, eps: float) -> Held:
        return self._show("layer_norm", p.path, self.integer.layer_norm(x.q, p, eps=eps), x)

    def mean(self, x: Held, *, axis: int, site: str) -> Held:
        out = self.integer.mean(x.q, axis=axis, site=site)
        return self._show("mean", site, out, x, axis=axis)

    def concat(self, parts: Sequence[Held], *, axis: int, site: str) -> Held:
        out = self.integer.concat([x.q for x in parts], axis=axis, site=site)
        return self._show("concat", site, out, *parts, axis=axis)

    def rearrange(self, x: Held, pattern: str, /, **sizes: int) -> Held:
        how = " ".join(f"{name}={size}" for name, size in sizes.items())
        out = self.integer.rearrange(x.q, pattern, **sizes)
        return self._moved(x, out, f"rearrange {pattern} {how}".strip())

    def select(self, x: Held, index: Index, *, axis: int) -> Held:
        out = self.integer.select(x.q, index, axis=axis)
        if isinstance(index, slice):
            if out.shape == x.q.shape:
                return x
            start, stop, _ = index.indices(x.q.shape[axis])
            return self._moved(x, out, f"select {start}:{stop} of axis {axis}")
        places = f"{index.size} places" if isinstance(index, np.ndarray) else index
        return self._moved(x, out, f"select {places} of axis {axis}")

    def roll(self, x: Held, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Held:
        out = self.integer.roll(x.q, shifts, axes=axes)
        return self._moved(x, out, f"roll by {shifts} along axes {axes}")

    def pad(self, x: Held, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Held:
        out = self.integer.pad(x.q, after, axes=axes)
        return self._moved(x, out, f"pad {after} codes {x.q.zero} after axes {axes}")
