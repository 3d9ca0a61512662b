"""Laws of tiles in time: they end when the report says, and no unit does two things at once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, simulate, tile_stages, workload
from refvit.accel.stages import stages
from refvit.accel.stream import Clock
from refvit.accel.systolic import fill_and_drain, mapping

CYCLES = st.integers(0, 9)
TILES = st.lists(st.tuples(CYCLES, CYCLES, CYCLES), min_size=1, max_size=12)


def of(found, *does):
    return sorted((s for s in found if s.does in does), key=lambda s: s.start)


@given(TILES)
def test_a_stream_ends_when_its_clock_says(tiles):
    clock = Clock()
    for tile in tiles:
        clock = clock.tiles(*tile)
    found = stages(tiles)
    assert max((s.end for s in found), default=0) == clock.end()
    for which, does in enumerate(("compute", "load", "store")):
        assert sum(s.end - s.start for s in of(found, does)) == sum(tile[which] for tile in tiles)


@given(TILES)
def test_a_unit_does_one_thing_at_a_time_and_a_tile_one_after_another(tiles):
    found = stages(tiles)
    for does in (("compute",), ("load", "store")):
        assert all(a.end <= b.start for a, b in pairwise(of(found, *does)))
    at = {(s.tile, s.does): s for s in found}
    for (tile, does), stage in at.items():
        for before in {"load": (), "compute": ("load",), "store": ("compute",)}[does]:
            assert (tile, before) not in at or at[tile, before].end <= stage.start
        if does == "load" and (tile - 2, "compute") in at:  # two buffers
            assert at[tile - 2, "compute"].end <= stage.start


@pytest.mark.parametrize("name", ["edge32", "edge16", "eyeriss-like"])
def test_every_layer_ends_with_its_row(name):
    """All GEMMs of DeiT-Tiny; where folds overlap, fill and drain of the array come on top."""
    machine, model = MACHINES[name], "deit_tiny"
    layers = {layer.name: layer for layer in workload(model)}
    for row in simulate(model, name).rows[:16]:
        if row.tiles:
            layer = layers[row.name]
            tile = row.tile_m, row.tile_k, row.tile_n
            pairs = zip((layer.M, layer.K, layer.N), tile, strict=True)
            sizes = [(size - 1) % part + 1 for size, part in pairs]
            time = mapping(*sizes, machine.dataflow)[2] * machine.slices(row.a_bits, row.b_bits)
            edge = fill_and_drain(
                time, machine.rows, machine.cols, machine.dataflow, machine.overlap
            )
            end = max(stage.end for stage in tile_stages(layer, row, machine))
            assert end + edge == row.cycles


def test_what_is_no_gemm_or_another_layer_is_refused():
    layers, rows = workload("nano_vit"), simulate("nano_vit").rows
    norm = next(layer for layer in layers if layer.op == "layer_norm")
    for layer in (norm, layers[1], layers[3]):
        with pytest.raises(ValueError, match="wanted a GEMM"):
            tile_stages(layer, rows[0], MACHINES["edge32"])
