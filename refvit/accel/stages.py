"""The tiles of a GEMM in time: when each is loaded, computed and stored, for a Gantt chart.

`stream.Clock` says where a stream of tiles stands; stepped one tile at a time, it says when each
part of a tile ends. Nothing here has a rule of its own, so the last store ends when `Cut` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from refvit.accel.gemm import Operands, gemm_of
from refvit.accel.hardware import Machine
from refvit.accel.row import Row
from refvit.accel.stream import Clock
from refvit.accel.tiles import ORDERS, Cut, kinds
from refvit.accel.workload import Layer

Tile = tuple[int, int, int]  # its cycles: computed, loaded, stored
MOST = 10_000  # tiles that a chart can show


@dataclass(frozen=True)
class Stage:
    """What happens to a tile, number `tile` of a stream, from cycle `start` to cycle `end`: it is
    loaded or stored by the DRAM port, or computed by the array (`does`: load, compute, store)."""

    tile: int
    does: str
    start: int
    end: int


def tile_stages(layer: Layer, row: Row, machine: Machine) -> list[Stage]:
    """Return the stages of the tiles of a GEMM, as `row` of a report on `machine` cuts it.

    The array's fill and drain, where folds overlap, are no stage: they follow the last. Raises
    ValueError for a layer that is no GEMM, a row of another layer, or more than 10,000 tiles.

    >>> from refvit.accel import machine, simulate, workload
    >>> layer, row = workload("nano_vit")[0], simulate("nano_vit").rows[0]
    >>> [(s.does, s.start, s.end) for s in tile_stages(layer, row, machine("edge32"))]
    [('load', 0, 448), ('compute', 448, 576), ('load', 448, 672), ('compute', 672, 800)]
    """
    if not layer.M or layer.name != row.name or not row.tiles:
        raise ValueError(f"wanted a GEMM and its row; got {layer.name!r} and {row.name!r}")
    if row.tiles > MOST:
        raise ValueError(f"{row.tiles:,} tiles are too many to draw; {MOST:,} are not")
    resident = tuple(name in row.resident for name in "abo")
    operands = Operands(row.a_bits, row.b_bits, row.o_bits, (resident[0], resident[1], resident[2]))
    gemm = gemm_of(layer, machine, operands, host=row.o_bits == 32)
    return stages(_tiles(Cut(gemm, machine, (row.tile_m, row.tile_k, row.tile_n), row.order)))


def stages(tiles: Sequence[Tile]) -> list[Stage]:
    """Return the stages of tiles, of which each has its cycles of (compute, load, store), that go
    through two buffers and one DRAM port; those of no cycles are left out.

    >>> [(s.tile, s.does, s.start, s.end) for s in stages([(4, 3, 0), (4, 3, 0)])]
    [(0, 'load', 0, 3), (0, 'compute', 3, 7), (1, 'load', 3, 6), (1, 'compute', 7, 11)]
    """
    clock, found = Clock(), list[Stage]()
    for number, (compute, load, store) in enumerate(tiles):
        found += _stored(clock, number - 2)
        clock = clock.tiles(compute, load, store)
        found.append(Stage(number, "load", clock.port - load, clock.port))
        found.append(Stage(number, "compute", clock.array - compute, clock.array))
    found += _stored(clock, len(tiles) - 2)
    end = clock.end()
    found.append(Stage(len(tiles) - 1, "store", end - clock.store, end))
    return [stage for stage in found if stage.end > stage.start]


def _stored(clock: Clock, number: int) -> Iterator[Stage]:
    """Yield when the tile before the last is stored: as soon as it is computed and the port free"""
    start = max(clock.port, clock.before)
    yield Stage(number, "store", start, start + clock.earlier)


def _tiles(cut: Cut) -> list[Tile]:
    """Return the cycles of every tile of every GEMM, in the order of the loops."""
    loops = ["mkn".index(axis) for axis in ORDERS[cut.order]]
    each = np.stack(cut.cycles).transpose(*(axis + 1 for axis in loops), 0)
    for place, axis in enumerate(loops):
        each = each.repeat([times for _, times in kinds(cut.pieces[axis])], axis=place)
    once = [(int(c), int(d), int(s)) for c, d, s in each.reshape(-1, 3)]
    return list(chain.from_iterable(repeat(once, cut.gemm.count)))
