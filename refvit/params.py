"""`Params`: named tensors that know their path, so that an operator's site is its name.

A model reads `p.blocks[3].attn.q.weight`; the operator that gets `p.blocks[3].attn.q` reports
itself as `blocks.3.attn.q`. The tensors may be arrays, integer codes, `Var`s or shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Params:
    """A view of a flat `{dotted name: tensor}` mapping at one path.

    >>> p = Params({"norm.weight": 1.0, "blocks.0.fc.bias": 2.0})
    >>> p.norm.weight, p.blocks[0].fc.bias, p.blocks[0].fc.path
    (1.0, 2.0, 'blocks.0.fc')
    >>> p.blocks[0].at("act")
    'blocks.0.act'
    """

    __slots__ = ("_branches", "_tensors", "path")

    def __init__(
        self, tensors: Mapping[str, Any], path: str = "", branches: frozenset[str] | None = None
    ) -> None:
        self._tensors = tensors
        self._branches = _branches(tensors) if branches is None else branches
        self.path = path

    def __reduce__(self) -> Any:
        """Another process is sent what is under this path, by its full names."""
        return Params, (dict(self.items()), self.path)

    def at(self, name: str) -> str:
        """Return the full name of `name` under this path."""
        return f"{self.path}.{name}" if self.path else name

    def __getattr__(self, name: str) -> Any:
        """Return the tensor of that name or the view below it; AttributeError lists the names."""
        full = self.at(name)
        if full in self._tensors:
            return self._tensors[full]
        if full in self._branches:
            return Params(self._tensors, full, self._branches)
        raise AttributeError(
            f"no parameter {full!r}; under {self.path!r} there are {self._names()}"
        )

    def __getitem__(self, key: int | str) -> Any:
        """`p[3]` is one of a list of layers; `p["a.b"]` is a view or tensor by dotted name."""
        return self.__getattr__(str(key))

    def get(self, name: str) -> Any | None:
        """Return the tensor `name`, or None where a layer has none (a linear without bias)."""
        return self._tensors.get(self.at(name))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield `(full name, tensor)` of everything under this path, in stored order."""
        start = f"{self.path}." if self.path else ""
        return ((name, t) for name, t in self._tensors.items() if name.startswith(start))

    def map(self, fn: Callable[[Any], Any]) -> Params:
        """Return new `Params` with `fn` applied to every tensor under this path."""
        return Params({name: fn(tensor) for name, tensor in self.items()}, self.path)

    def _names(self) -> list[str]:
        below = (name[len(self.path) :].lstrip(".") for name, _ in self.items())
        return sorted({name.split(".")[0] for name in below})

    def __repr__(self) -> str:
        return f"Params({self.path!r}, {sum(1 for _ in self.items())} tensors)"


def _branches(tensors: Mapping[str, Any]) -> frozenset[str]:
    parts = (name.split(".") for name in tensors)
    return frozenset(".".join(p[:n]) for p in parts for n in range(1, len(p)))
