"""`Ranged`: what can be said of a value for any image whatever."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refvit.integer.grids import Form
from refvit.integer.zero_points import affine, differences


@dataclass(frozen=True)
class Ranged:
    """What is known of a value: its [shape], the range of its integers, where they are
    probabilities the greatest sum of a row, and the `grid` of codes that stand for others: then the
    integers are those they stand for."""

    shape: tuple[int, ...]
    lo: int
    hi: int
    total: int | None = None
    grid: Form | None = None

    @property
    def range(self) -> tuple[int, int]:
        return self.lo, self.hi

    def less(self, zero: int) -> Ranged:
        """Return the integers c - zero that codes c of this range stand for: one of them is 0."""
        (lo, hi), grid = self.range, affine(self.range, 1.0, zero)
        return replace(self, lo=lo - zero, hi=hi - zero, grid=grid)

    @property
    def differing(self) -> tuple[int, int]:
        """The range of integers of which an operator takes differences alone."""
        return differences(self.grid, *self.range)
