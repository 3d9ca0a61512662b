"""What a comparison with somebody else's figures is made of: `Figure` and `Check`.

How near a figure has to be is stated with its check. One that is farther off makes the check fail,
unless it has an excuse: a reason that can be computed, given beside the figure and counted where
the check is summed up, so that a check with excuses never reads as one that holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure: of what, the other's, ours, and how they differ; `off` is 0 where they agree and
    at most 1 where they are as near as stated. A `note` says what there is to know, an `excuse`
    why one that is farther off may be."""

    name: str
    theirs: float
    ours: float
    off: float
    note: str = ""
    excuse: str = ""

    @property
    def within(self) -> bool:
        return self.off <= 1


@dataclass(frozen=True)
class Check:
    """Figures of one source, and how near was stated that they are; with `about`, what is to be
    said of them, they are shown one by one."""

    name: str
    source: str
    stated: str
    figures: tuple[Figure, ...]
    about: str = ""

    @property
    def worst(self) -> Figure:
        return max(self.figures, key=lambda figure: figure.off)

    @property
    def within(self) -> int:
        """How many figures are as near as stated."""
        return sum(figure.within for figure in self.figures)

    @property
    def excused(self) -> int:
        """How many figures are not, and have an excuse."""
        return sum(bool(figure.excuse) and not figure.within for figure in self.figures)

    @property
    def ok(self) -> bool:
        """Whether every figure is as near as stated or excused."""
        return self.within + self.excused == len(self.figures)

    @property
    def holds(self) -> str:
        """The same in words: yes only if every figure is as near as stated.

        >>> near, far = Figure("a", 1, 1, 0.0), Figure("b", 1, 3, 2.0, excuse="a reason")
        >>> Check("x", "y", "z", (near, far)).holds
        '1 of 2, 1 excused'
        """
        if not self.ok:
            return "NO"
        if not self.excused:
            return "yes"
        found = f"{self.within} of {len(self.figures)}, {self.excused} excused"
        return found if self.within else f"not met: {found}"


def exactly(name: str, source: str, figures: Iterable[Figure]) -> Check:
    """Return a check whose figures have to be equal."""
    return Check(name, source, "exact", tuple(figures))


def equal(name: str, theirs: float, ours: float) -> Figure:
    """Return a figure that has to be equal: `off` is infinite where it is not."""
    return Figure(name, theirs, ours, 0.0 if theirs == ours else float("inf"))
