"""A model on many machines: totals of a simulation, blocks alike simulated once, and the front.

Deep models repeat a block. Of a chain of blocks four are simulated (of Swin's, four pairs): the
first, which follows something else, the last, which something else follows, and two between them.
If those two cost the same, so does every other; if not, the whole model is simulated. All of it is
`simulate` on a shorter model, so there is no second copy of an equation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.accel.machine import Machine
from refvit.accel.row import Row
from refvit.accel.simulate import simulate
from refvit.accel.systolic import utilization
from refvit.accel.widths import site_widths
from refvit.accel.workload import workload

NEAR = 1e-3  # of every cost: points of a front that are no further apart are one
KEPT = 4  # of a chain: its first, two alike, its last
BLOCK = re.compile(r"(?:stages\.(\d+)\.)?blocks\.(\d+)\.")
WHOLE = ("macs", "cycles", "dram_bytes", "sram_bytes")
REAL = ("uj_low", "uj_high", "uj")


@dataclass(frozen=True)
class Chain:
    """Blocks in a row, each `period` of them alike: how many there are, and stay when shortened."""

    blocks: int
    period: int

    @property
    def kept(self) -> int:
        whole = self.blocks % self.period == 0 and self.blocks > KEPT * self.period
        return KEPT * self.period if whole else self.blocks

    def stand_in(self, block: int) -> int:
        """Return which block of the shortened chain stands for one of the whole."""
        dropped = self.blocks - self.kept
        if dropped and 2 * self.period <= block < 2 * self.period + dropped:
            return self.period + block % self.period
        return block if block < 2 * self.period else block - dropped

    def times(self, block: int) -> int:
        """Return for how many blocks that one of the shortened chain stands."""
        second = self.period <= block < 2 * self.period
        return 1 + (self.blocks - self.kept) // self.period if second else 1


def chains(config: Any) -> tuple[Chain, ...]:
    """Return the chains of a model: one, or one a stage, where every other window is shifted."""
    if hasattr(config, "depths"):
        return tuple(Chain(depth, 2) for depth in config.depths)
    return (Chain(config.depth, 1),)


@lru_cache(maxsize=64)
def shortened(config: Any) -> Any:
    """Return the configuration with every chain shortened."""
    kept = tuple(chain.kept for chain in chains(config))
    return (
        replace(config, depths=kept)
        if hasattr(config, "depths")
        else replace(config, depth=kept[0])
    )


@lru_cache(maxsize=64)
def counted(
    config: Any, names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Return for how many layers each layer of the shortened model stands, and the pairs of them
    that have to cost the same."""
    each, times, where = chains(config), [], {name: i for i, name in enumerate(names)}
    pairs = []
    for number, name in enumerate(names):
        match = BLOCK.match(name)
        chain = each[int(match[1] or 0)] if match else Chain(1, 1)
        block = int(match[2]) if match else 0
        times.append(chain.times(block))
        if match and times[-1] > 1:
            start, end = match.span(2)
            pairs.append((number, where[f"{name[:start]}{block + chain.period}{name[end:]}"]))
    return tuple(times), tuple(pairs)


@lru_cache(maxsize=64)
def narrowed(config: Any, widths: tuple[tuple[str, int], ...]) -> dict[str, int] | None:
    """Return the widths of the shortened model's sites, by those of the whole one's; None where
    blocks that are to be alike have different ones."""
    each, found = chains(config), dict[str, int]()
    for site, bits in widths:
        match, name = BLOCK.match(site), site
        if match:
            block = each[int(match[1] or 0)].stand_in(int(match[2]))
            name = f"{site[: match.start(2)]}{block}{site[match.end(2) :]}"
        if found.setdefault(name, bits) != bits:
            return None
    return found


def totals(
    config: Any,
    machine: str | Path | Machine = "edge32",
    bits: int = 8,
    batch: int = 1,
    recipe: Mapping[str, int] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Return totals of `simulate` with these arguments, and its errors: MACs, cycles, bytes, us,
    microjoules and the utilization. Whole numbers are the same, others but for their rounding.

    >>> from refvit.models import VARIANTS
    >>> totals(VARIANTS["deit_tiny"])["cycles"] == simulate(VARIANTS["deit_tiny"]).totals["cycles"]
    True
    """
    config = getattr(config, "config", config)
    found = shortened_totals(config, machine, bits, batch, recipe, options)
    if found is not None:
        return found
    report = simulate(config, machine, bits, batch, recipe=recipe, **options)
    return summed(report.rows, (1,) * len(report.rows), report.machine)


def shortened_totals(
    config: Any,
    machine: str | Path | Machine,
    bits: int,
    batch: int,
    recipe: Mapping[str, int] | None,
    options: Mapping[str, Any],
) -> dict[str, float] | None:
    """Return the totals by way of the shortened model; None where that is the model itself, or
    where blocks that are to be alike have other widths or cost otherwise."""
    if not hasattr(config, "channels") or shortened(config) == config:
        return None
    widths = None
    if recipe is not None:  # the sites that it does not name have widths too
        widths = narrowed(config, tuple(site_widths(workload(config, batch), bits, recipe).items()))
        if widths is None:
            return None
    report = simulate(shortened(config), machine, bits, batch, recipe=widths, **options)
    rows = report.rows
    times, pairs = counted(config, tuple(row.name for row in rows))
    if not all(cost(rows[a]) == cost(rows[b]) for a, b in pairs):
        return None
    return summed(rows, times, report.machine)


def cost(row: Row) -> tuple[float, ...]:
    """Return what a layer costs, whatever its name."""
    return (row.cycles, row.dram_bytes, row.sram_bytes, row.uj_low, row.uj_high, row.uj)


def summed(rows: Sequence[Row], times: Sequence[int], hw: Machine) -> dict[str, float]:
    """Return the sums over rows, each taken so many times."""
    pairs = list(zip(rows, times, strict=True))
    found: dict[str, float] = {key: sum(getattr(row, key) * n for row, n in pairs) for key in WHOLE}
    found |= {key: fsum(getattr(row, key) * n for row, n in pairs) for key in REAL}
    cycles = found["cycles"]
    used = utilization(int(found["macs"]), cycles, hw.rows, hw.cols)
    return found | {"us": hw.us(cycles), "utilization": used}


def distinct(costs: NDArray[np.float64], within: float = NEAR) -> NDArray[np.bool_]:
    """Return which points [n] of a front, of costs [n, k], to show: of points that differ by no
    more than `within`, a share, in every cost, the one that is best on the whole.

    Those left out have one that is shown so near; points of the same costs stay or go together.

    >>> distinct(np.array([[1.0, 4.0], [1.0005, 3.9999], [2.0, 2.0], [2.0, 2.0]]))
    array([ True, False,  True,  True])
    """
    points, which = np.unique(costs, axis=0, return_inverse=True)
    widest = np.abs(points).max(0, initial=0.0)
    whole = (points / np.where(widest > 0, widest, 1.0)).sum(1)
    shown: list[int] = []
    for at in np.argsort(whole, kind="stable"):
        kept = points[shown]
        room = within * np.minimum(np.abs(kept), np.abs(points[at]))
        if not (np.abs(kept - points[at]) <= room).all(1).any():
            shown.append(int(at))
    return np.isin(which.reshape(-1), shown)


def pareto(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points [n] of costs [n, k] no other point is better than: as low in every cost
    and lower in one. Points that cost the same stay or go together.

    >>> pareto(np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0]]))
    array([ True,  True, False,  True])
    """
    front = np.ones(len(costs), bool)
    # those of the least sum first: they leave the fewest points to compare with
    for at in np.argsort(costs.sum(1), kind="stable"):
        if front[at]:
            left = np.flatnonzero(front)
            worse = (costs[left] >= costs[at]).all(1) & (costs[left] > costs[at]).any(1)
            front[left[worse]] = False
    return front
