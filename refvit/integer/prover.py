"""`ProveOps`: the interpreter that proves an engine from its integers alone.

It runs a model once on ranges. At every operator it takes the constants of that site, of the names,
types, shapes and ranges they must have, and proves from them what can come out, for any image
whatever. `compile` ends with it and `load` begins with it, so an engine that exists is proved, and
a file cannot claim what its integers do not bear out (specification, section 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.integer import grid_proofs, grids
from refvit.integer.arithmetic import PLAIN, code_dtype
from refvit.integer.bounds import Proof, dot_range, product_range, prove
from refvit.integer.fixedpoint import GUARD, real_of
from refvit.integer.grid_kinds import KINDS
from refvit.integer.kernels.log_softmax import POWER
from refvit.integer.kernels.profiles import profile
from refvit.integer.kernels.softmax import ROW_SUM
from refvit.integer.needs import COUNT, MULTIPLIER, SHIFT, Need, small
from refvit.integer.ranged import Ranged
from refvit.integer.zero_points import ZERO
from refvit.models import Config, forward, parameter_shapes
from refvit.ops import Shape
from refvit.ops.functional import concat_shape, padded_shape
from refvit.ops.protocol import Index, Mask
from refvit.ops.shape_ops import rearranged_shape, selected_shape
from refvit.params import Params
from refvit.quant import Log2Grid, QParams, code_range

IntArray = NDArray[Any]
WIDTH = "give what it reads, its input or its weights, fewer bits in the recipe"


def prove_engine(
    config: Config, constants: Params, widths: Mapping[str, int], kernels: str
) -> tuple[Proof, ...]:
    """Return the proofs of every range of an engine, in the order of its forward.

    Raises OverflowError for a range that does not fit, with the site and the cure; ValueError for
    a constant that is missing, unknown, or not of the type, shape or range it must have.
    """
    ops = ProveOps(constants, widths, kernels, parameter_shapes(config))
    forward(ops, Shape((1, config.channels, *config.image)), constants, config)
    strange = [name for name, _ in constants.items() if name not in ops.taken]
    if strange:
        raise ValueError(f"{strange[0]} is no constant of this model")
    unused = [name for name in widths if name not in ops.coded]
    if unused:
        raise ValueError(f"a width is given for {unused[0]}, which has no codes")
    return tuple(ops.proofs)


class ProveOps:
    """Collects `proofs` and the names of the constants that were `taken`, of which `coded` are
    learned codes."""

    def __init__(
        self,
        constants: Params,
        widths: Mapping[str, int],
        kernels: str,
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.constants, self.widths, self.shapes = constants, widths, shapes
        self.profile = profile(kernels)
        self.proofs: list[Proof] = []
        self.taken: set[str] = set()
        self.coded: set[str] = set()

    def _take(
        self, site: str, shape: tuple[int, ...], needs: Mapping[str, Need]
    ) -> tuple[Any, Ranged]:
        """Return the constants of `site` and the value [shape] that its clamp allows."""
        for name, need in needs.items():
            self._taken(f"{site}.{name}", need)
        clamp = self._taken(f"{site}.clamp", COUNT.of((2,)))
        lo, hi = clamp.tolist()
        bits = hi.bit_length() + (lo < 0)
        if hi & (hi + 1) or lo not in (0, -hi, -hi - 1) or not 2 <= bits <= 16:
            raise ValueError(f"{site}.clamp [{lo}, {hi}] is no range of codes of 2 to 16 bits")
        return self.constants[site], self._shifted(site, Ranged(shape, lo, hi))

    def _shifted(self, site: str, codes: Ranged) -> Ranged:
        """Return the integers that `codes` stand for if `site` has a zero point: it is a code."""
        if self.constants.get(f"{site}.{ZERO}") is None:
            return codes
        zero = int(self._taken(f"{site}.{ZERO}", small(*codes.range)))
        if not zero:
            raise ValueError(f"{site}.{ZERO} is 0; a file of such codes leaves it out")
        return codes.less(zero)

    def _taken(self, name: str, need: Need) -> IntArray:
        tensor = self.constants.get(name)
        if tensor is None:
            raise ValueError(f"it lacks {name}")
        need.check(name, tensor)
        self.taken.add(name)
        return np.asarray(tensor)

    def _coded(self, site: str, op: str, out: Ranged, guard: int | None = None) -> Ranged:
        """Return `out` with the grid that the constants of `site` give its codes, if they do, after
        the proof that the integers fit which are narrowed to them."""
        kind = next((k for k in KINDS if self.constants.get(f"{site}.{k}") is not None), None)
        if kind is None:
            return out
        if out.grid is not None:
            raise ValueError(f"{site}: its codes are {kind} or have a zero point, not both")
        width = out.shape[-1]
        self._taken(f"{site}.{kind}", KINDS[kind].need(width))
        grid = grid_proofs.said(site, op, kind, self.constants[site], width)
        writes_itself = op == "linear" or (op == "softmax" and self.profile.log2)
        if not writes_itself:
            self.proofs.append(grid_proofs.narrow_range(site, grid, guard))
        return replace(out, lo=grid.range[0], hi=grid.range[1], grid=grid)

    def _reads(self, site: str, op: str, *operands: Ranged) -> None:
        """Check that `site` holds what the codes of its operands stand for, as it was proved."""
        for name, held in grids.read(site, op, *(x.grid for x in operands)).items():
            lo, hi = int(held.min()), int(held.max())
            found = self._taken(f"{site}.{name}", Need(("int32",), held.shape, lo, hi))
            if not np.array_equal(found, held):
                raise ValueError(f"{site}.{name} is not that of the codes which come in")

    def _codes(self, name: str) -> IntArray:
        """Return learned codes: of the model's shape, and of the width that is given for them."""
        bits = self.widths.get(name)
        if bits is None:
            raise ValueError(f"no width is given for {name}")
        lo, hi = code_range(bits)
        self.coded.add(name)
        return self._taken(name, Need((code_dtype(lo, hi).name,), self.shapes[name], lo, hi))

    def input(self, x: Any, *, site: str) -> Ranged:
        return self._take(site, x.shape, {})[1]

    def output(self, x: Ranged, *, site: str) -> Ranged:
        return x

    def param(self, p: Params, name: str) -> Ranged:
        codes = self._codes(p.at(name))
        return Ranged(codes.shape, *code_range(self.widths[p.at(name)]))

    def linear(self, x: Ranged, p: Params) -> Ranged:
        weight = self._codes(p.at("weight"))
        rows = (len(weight),)
        needs = {"multiplier": MULTIPLIER.of(rows), "shift": SHIFT.of(rows)}
        needs |= {"bias": COUNT.of(rows)} if p.at("bias") in self.shapes else {}
        c, out = self._take(p.path, (*x.shape[:-1], len(weight)), needs)
        self._reads(p.path, "linear", x)
        bounds = dot_range(weight, c.get("bias"), *x.range)
        heaviest = int(np.abs(weight.astype(np.int32)).sum(1, dtype=np.int64).max())
        why = f"sum |w| <= {heaviest}, integers in [{x.lo}, {x.hi}], bias or not"
        self.proofs.append(prove(p.path, "accumulator", *bounds, WIDTH, why=why))
        return self._coded(p.path, "linear", out)

    def matmul(self, a: Ranged, b: Ranged, *, site: str, scale: float = 1.0) -> Ranged:
        needs = {"multiplier": MULTIPLIER, "shift": SHIFT}
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        _, out = self._take(site, shape, needs)
        self._reads(site, "matmul", a, b)
        bounds = product_range(a.shape[-1], a.range, b.range, a.total)
        why = f"{a.shape[-1]} products of codes" if a.total is None else f"row sum <= {a.total}"
        self.proofs.append(prove(site, "accumulator", *bounds, WIDTH, why=why))
        return out

    def add(self, a: Ranged, b: Ranged, *, site: str) -> Ranged:
        needs = {"multiplier": MULTIPLIER.of((2,)), "shift": SHIFT.of((2,))}
        shape = np.broadcast_shapes(a.shape, b.shape)
        c, out = self._take(site, shape, needs)
        self._reads(site, "add", a, b)
        steps = np.abs(real_of(c.multiplier, c.shift))
        largest = (max(-x.lo, x.hi) for x in (a, b))
        reach = sum(size * step + 1 for size, step in zip(largest, steps, strict=True))
        end = int(np.ceil(reach)) + (1 << GUARD)
        why = f"both addends in 2**-{GUARD} of the output's steps"
        mend = "its addends are this far apart in scale: calibrate on images that reach both"
        self.proofs.append(prove(site, "sum with guard bits", -end, end, mend, why=why))
        return self._coded(site, "add", out, GUARD)

    def gelu(self, x: Ranged, *, site: str, form: str = "erf") -> Ranged:
        self._reads(site, "gelu", x)
        out = self._coded(site, "gelu", self._take(site, x.shape, {})[1])
        write = grids.writer(self.constants[site])
        kernel = self.profile.gelu_for(write.lo, write.hi, write.coded)
        c, _ = self._take(site, x.shape, kernel.needs(*x.range))
        self.proofs += kernel.ranges(site, c, *x.range)
        if not kernel.elementwise:
            return out
        codes = np.arange(x.lo, x.hi + 1).astype(code_dtype(*x.range))
        results = write.narrow(kernel.run(codes, c, PLAIN, write.lo, write.hi))
        results = grids.meant(out.grid, results) if write.coded else results
        return replace(out, lo=int(results.min()), hi=int(results.max()))

    def softmax(self, x: Ranged, *, site: str, mask: Mask | None = None) -> Ranged:
        kernel = self.profile.softmax
        self._reads(site, "softmax", x)
        c, out = self._take(site, x.shape, kernel.needs(*x.differing))
        proofs = kernel.ranges(site, c, *x.differing, x.shape[-1])
        self.proofs += proofs
        total: int | None = next(proof.hi for proof in proofs if proof.what == ROW_SUM)
        assert total is not None
        out = self._coded(site, "softmax", out)
        if self.profile.log2:
            if not isinstance(out.grid, Log2Grid):
                raise ValueError(f"it lacks {site}.log2")
            total = -(-total >> POWER - out.grid.power)  # in units of the least power
        elif out.grid is not None and not isinstance(out.grid, QParams):
            total = grid_proofs.row_sum(out.grid, grids.guard_of(out.grid), total, x.shape[-1])
        return replace(out, lo=0, total=total)

    def layer_norm(self, x: Ranged, p: Params, *, eps: float) -> Ranged:
        kernel = self.profile.layer_norm
        c, out = self._take(p.path, x.shape, kernel.needs(x.shape[-1]))
        self._reads(p.path, "layer_norm", x)
        self.proofs += kernel.ranges(p.path, c, *x.differing)
        return out

    def mean(self, x: Ranged, *, axis: int, site: str) -> Ranged:
        shape, count = x.shape[:axis] + x.shape[axis + 1 :], x.shape[axis]
        _, out = self._take(site, shape, {"multiplier": MULTIPLIER, "shift": SHIFT})
        self._reads(site, "mean", x)
        bounds = product_range(count, x.range, (1, 1))
        self.proofs.append(prove(site, "sum", *bounds, WIDTH, why=f"{count} codes"))
        return out

    def concat(self, parts: Sequence[Ranged], *, axis: int, site: str) -> Ranged:
        needs = {"multiplier": MULTIPLIER.of((len(parts),)), "shift": SHIFT.of((len(parts),))}
        _, out = self._take(site, concat_shape([part.shape for part in parts], axis), needs)
        self._reads(site, "concat", *parts)
        return out

    def rearrange(self, x: Ranged, pattern: str, /, **sizes: int) -> Ranged:
        grid = grids.moved(x.grid, x.shape, pattern, sizes)
        return Ranged(rearranged_shape(x.shape, pattern, sizes), x.lo, x.hi, grid=grid)

    def select(self, x: Ranged, index: Index, *, axis: int) -> Ranged:
        return replace(x, shape=selected_shape(x.shape, index, axis), total=None)

    def roll(self, x: Ranged, shifts: tuple[int, ...], *, axes: tuple[int, ...]) -> Ranged:
        return replace(x, total=None)

    def pad(self, x: Ranged, after: tuple[int, ...], *, axes: tuple[int, ...]) -> Ranged:
        shape = padded_shape(x.shape, after, axes)
        return replace(x, shape=shape, lo=min(0, x.lo), hi=max(0, x.hi), total=None)
