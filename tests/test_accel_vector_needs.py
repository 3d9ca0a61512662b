"""A vector layer needs SRAM for its own tiles: what waits on chip may not take it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, simulate_layers
from refvit.accel.residency import needs, resident
from refvit.accel.steps import steps_of

KB = 1024
HW = replace(MACHINES["edge32"], rows=8, cols=8, sram_a_bytes=16 * KB, sram_b_bytes=16 * KB,
             sram_o_bytes=16 * KB, accumulator_bytes=16 * KB, fused=())  # fmt: skip
ALL = 48 * KB  # of the three SRAMs


def vector(name, op, reads, sizes, size):
    return Layer(name, op, name, size, 8, sizes, reads=reads, writes=((name, size),))


def waiting_over_a_norm(waits, size):
    """`held` of so many bytes is made first and read last; a LayerNorm of `size` runs between."""
    return [
        vector("held", "gelu", ("image",), (waits,), waits),
        vector("norm", "layer_norm", ("other",), (size,), size),
        vector("last", "add", ("held", "norm"), (waits, size), waits),
    ]


def kept(waits, size):
    layers = waiting_over_a_norm(waits, size)
    bits = dict.fromkeys(("image", "other", "held", "norm", "last"), 8)
    rows = {row.name: row for row in simulate_layers(layers, HW, bits)}
    return "o" in rows["held"].resident


def test_what_a_norm_needs_by_hand():
    """A LayerNorm of 4 KB in and 4 KB out needs both whole; one of 1 MB two halves: 8 + 8 KB."""
    for size, needed in ((4 * KB, (4 * KB, 0, 4 * KB)), (1024 * KB, (8 * KB, 0, 8 * KB))):
        steps = steps_of(waiting_over_a_norm(KB, size), HW, ())
        assert needs(steps[1], HW, lambda _: 8) == needed


@pytest.mark.parametrize(
    ("waits", "size", "stays"),
    [
        (20 * KB, 1024 * KB, True),
        # a layer that streams takes 16 KB of 48, which leaves 32
        (31 * KB, 1024 * KB, True),
        (33 * KB, 1024 * KB, False),
        (44 * KB, 1024 * KB, False),
    ],
)
def test_what_waits_leaves_a_norm_its_tiles_by_hand(waits, size, stays):
    assert kept(waits, size) == stays


@given(st.integers(1, 48), st.integers(1, 64))
def test_what_waits_and_what_a_vector_layer_needs_fit_together(waits, size):
    layers = waiting_over_a_norm(waits * KB, size * KB)
    steps = steps_of(layers, HW, ())
    stays = resident(steps, HW, lambda _: 8)
    tiles = min(size, 8) + min(size, 8)
    if "held" in stays:
        assert waits + tiles <= ALL // KB
    assert {site for site in stays if site != "norm"} <= {"held"}
