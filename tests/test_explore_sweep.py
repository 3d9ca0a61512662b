"""Sweeps cost what simulations do, blocks alike simulated once; and what a front is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import refvit
from refvit.accel import MACHINES, simulate, sweep
from refvit.accel.sweep import Chain, chains, pareto, shortened, totals
from refvit.models import VARIANTS
from refvit.site_bits import site_bits

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]
deep = replace(NANO, depth=9)
swin = replace(VARIANTS["nano_swin"], depths=(2, 12))
machines = st.builds(
    lambda rows, cols, dataflow, overlap, speed, lanes, grow: replace(
        EDGE, rows=rows, cols=cols, dataflow=dataflow, overlap=overlap, dram_bytes_per_cycle=speed,
        vector_lanes=lanes, sram_a_bytes=8192 * grow, sram_b_bytes=8192 * grow,
        sram_o_bytes=16384 * grow,
    ),
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["os", "ws", "is"]), st.booleans(),
    st.floats(0.5, 256.0), st.integers(1, 64), st.sampled_from([1, 2, 8, 64]),
)  # fmt: skip


@given(st.sampled_from([NANO, deep, swin, VARIANTS["nano_deit"]]), machines,
       st.sampled_from([4, 8, 16]), st.integers(1, 3))  # fmt: skip
@example(VARIANTS["deit_small"], EDGE, 8, 1)
@example(VARIANTS["swin_small"], EDGE, 8, 1)
@example(VARIANTS["vit_large"], MACHINES["edge16"], 4, 2)
def test_a_sweep_costs_what_simulate_says(config, machine, bits, batch):
    found = totals(config, machine, bits, batch)
    whole = simulate(config, machine, bits, batch).totals
    for key, value in found.items():
        if key in ("macs", "cycles", "dram_bytes", "sram_bytes", "utilization"):
            assert value == whole[key], key
        else:
            assert value == pytest.approx(whole[key], rel=1e-12), key


def test_where_blocks_in_the_middle_differ_all_are_simulated(monkeypatch):
    assert shortened(deep).depth == 4
    assert shortened(swin).depths == (2, 8)
    asked = []

    def watched(config, *rest, **more):
        asked.append(config)
        return simulate(config, *rest, **more)

    monkeypatch.setattr(sweep, "simulate", watched)
    expected = totals(deep)
    assert asked == [shortened(deep)]
    monkeypatch.setattr(sweep, "cost", lambda row: row.name)
    assert totals(deep)["cycles"] == expected["cycles"]
    assert asked[1:] == [shortened(deep), deep]


@given(st.integers(1, 60), st.sampled_from([1, 2]))
def test_a_shortened_chain_stands_for_every_block(blocks, period):
    chain = Chain(blocks, period)
    assert sum(chain.times(block) for block in range(chain.kept)) == blocks
    assert chain.kept <= blocks
    assert chains(swin) == (Chain(2, 2), Chain(12, 2))


costs = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)),
               elements=st.integers(0, 4).map(float))  # fmt: skip


@given(costs)
def test_the_front_is_what_no_other_point_is_better_than(points):
    front = pareto(points)
    for i, a in enumerate(points):
        better = [(b <= a).all() and (b < a).any() for b in points]
        assert front[i] == (not any(better))
        assert front[i] or any(front[j] for j, yes in enumerate(better) if yes)


recipes = st.one_of(
    st.none(),
    st.sampled_from(["w8a8", "w4a8", "w4a4", "w3a3"]),
    st.dictionaries(
        st.sampled_from(["*.fc?.weight", "*.attn.*", "*.0.mlp.act", "*.2.*", "*.softmax", "*"]),
        st.sampled_from([4, 6, 8, 16]), min_size=1,
    ),
)  # fmt: skip


@given(st.sampled_from([NANO, deep, swin]), machines, recipes)
@example(VARIANTS["deit_small"], EDGE, {"blocks.7.*": 4})
@example(VARIANTS["swin_small"], EDGE, {"stages.2.blocks.1.mlp.*": 4})
def test_a_sweep_costs_what_simulate_says_of_mixed_widths(config, machine, recipe):
    table = None if recipe is None else site_bits(config, recipe)
    found = totals(config, machine, recipe=table)
    whole = refvit.simulate(config, machine, recipe=recipe).totals
    for key in ("macs", "cycles", "dram_bytes", "sram_bytes", "utilization"):
        assert found[key] == whole[key], key
    assert found["uj_high"] == pytest.approx(whole["uj_high"], rel=1e-12)
