"""What stays on chip between layers, and what a whole model moves."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, gemm_cycles, simulate, workload
from refvit.accel.residency import resident, tensors
from refvit.accel.row import PARTS
from refvit.accel.steps import steps_of
from refvit.accel.widths import site_widths, stored_at
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
MODELS = ("nano_vit", "nano_swin", "deit_tiny", "deit_tiny_distilled")
BUFFERS = ("sram_a_bytes", "sram_b_bytes", "sram_o_bytes")


def with_buffers(hw, a, b, o):
    return replace(hw, sram_a_bytes=a, sram_b_bytes=b, sram_o_bytes=o)


ENDLESS = with_buffers(EDGE, 2**30, 2**30, 2**30)
kilobytes = st.integers(16, 4096).map(lambda kb: kb * 1024)


def compulsory(layer, bits):
    """The bytes of every operand and result of a layer, each once, by the site that has it."""
    parts = [
        (site, size * bits(site) / 8) for site, size in zip(layer.reads, layer.inputs, strict=True)
    ]
    parts += [(site, size * bits(site) / 8) for site, size in layer.writes]
    if layer.weights:
        cols = [(site, size // layer.M) for site, size in layer.writes]
        widest = max(bits(f"{site}.weight") for site, _ in cols)
        parts += [(f"{site}.weight", layer.K * n * widest / 8) for site, n in cols]
    return parts


def plan_of(name, hw, bits=8, recipe=None):
    layers = workload(VARIANTS[name])
    stored = stored_at(site_widths(layers, bits, recipe), hw)
    steps = steps_of(layers, hw, hw.fused)
    return layers, stored, steps, resident(steps, hw, stored)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_on_chip_crosses_at_least_once(name, machine):
    hw = MACHINES[machine]
    layers, bits, steps, stays = plan_of(name, hw)
    rows = {row.name: row for row in simulate(VARIANTS[name], hw).rows}
    assert list(rows) == [layer.name for layer in layers]
    for step in steps:
        inner = {site for layer in step.layers[:-1] for site, _ in layer.writes}
        read = [part for layer in step.layers for part in compulsory(layer, bits)]
        must = sum(size for site, size in read if site not in stays | inner)
        moved = sum(rows[layer.name].dram_bytes for layer in step.layers)
        kept = sum(rows[layer.name].resident_bytes for layer in step.layers)
        assert moved >= must
        assert moved + kept >= sum(size for site, size in read if site not in inner)


@given(kilobytes, kilobytes, kilobytes, st.sampled_from(MODELS), st.sampled_from([4, 8, 16]))
def test_what_waits_on_chip_fits_there(a, b, o, name, bits):
    hw = with_buffers(EDGE, a, b, o)
    _, stored, steps, stays = plan_of(name, hw, bits)
    waiting = [t for t in tensors(steps, stored) if t.site in stays]
    for at in range(len(steps)):
        assert sum(t.bytes for t in waiting if t.born <= at <= t.dies) <= a + b + o
    for tensor in waiting:
        assert tensor.born < min(tensor.readers)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_with_endless_buffers_only_parameters_the_image_and_the_result_move(name, bits):
    layers, stored, *_ = plan_of(name, ENDLESS, bits)
    made = {site for layer in layers for site, _ in layer.writes}
    must = sum(
        math.ceil(sum(
            size for site, size in compulsory(layer, stored)
            if site not in made or (layer.leaves and site == layer.name)
        ))
        for layer in layers
    )  # fmt: skip
    assert simulate(VARIANTS[name], ENDLESS, bits).totals["dram_bytes"] == must


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", [*MODELS, "swin_tiny", "deit_small"])
def test_residency_never_moves_more_and_never_takes_longer(name, machine):
    kept, sent = (simulate(VARIANTS[name], machine, residency=r) for r in (True, False))
    assert kept.totals["dram_bytes"] <= sent.totals["dram_bytes"]
    assert kept.totals["cycles"] <= sent.totals["cycles"]
    assert sent.totals["resident_bytes"] == 0
    for a, b in zip(kept.rows, sent.rows, strict=True):
        assert a.dram_bytes <= b.dram_bytes


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("nonlinear", ["vector", "host"])
@pytest.mark.parametrize("name", ["nano_swin", "deit_tiny"])
def test_every_cycle_of_a_row_is_accounted_for(name, machine, nonlinear):
    report = simulate(VARIANTS[name], machine, nonlinear=nonlinear)
    hw = report.machine
    for row in report.rows:
        assert min(row.stall_cycles, row.steady_cycles, row.prologue_cycles) >= 0
        assert row.memory_cycles >= row.dram_bytes / hw.dram_bytes_per_cycle - 1
        assert row.cycles >= row.memory_cycles or row.unit == "fused"  # hidden behind its GEMM
        assert row.dram_bytes == row.load_bytes + row.store_bytes
        assert row.uj == pytest.approx(sum(getattr(row, f"uj_{part}") for part in PARTS))
        assert row.uj_array == pytest.approx(row.uj_mac + row.uj_registers)
        srams = row.uj_sram_a + row.uj_sram_b + row.uj_sram_o + row.uj_accumulator
        assert row.uj_sram == pytest.approx(srams)
        ranges = [(getattr(row, f"uj_{p}_low"), getattr(row, f"uj_{p}_high")) for p in PARTS]
        assert sum(low for low, _ in ranges) <= row.uj_low + 1e-9
        assert row.uj_high <= sum(high for _, high in ranges) + 1e-9
        for part, (low, high) in zip(PARTS, ranges, strict=True):
            assert low <= getattr(row, f"uj_{part}") <= high
        if row.macs:
            assert row.tiles >= 1
            assert row.compute_cycles * hw.rows * hw.cols >= row.macs


def test_the_stream_waits_where_there_is_room():
    rows = {row.name: row for row in simulate(VARIANTS["deit_tiny"], ENDLESS).rows}
    assert rows["blocks.0.add1"].resident == rows["blocks.0.attn.scores"].resident == "abo"
    assert rows["blocks.0.attn.qkv"].resident == "ao"  # weights come once, as ever
    assert rows["embed"].resident == "bo"  # the patches, behind the class token
    small = {row.name: row for row in simulate(VARIANTS["deit_tiny"], EDGE).rows}
    assert small["blocks.0.add1"].resident == "b"  # what proj made, not the stream


@given(st.sampled_from(MODELS), st.sampled_from(sorted(MACHINES)), st.integers(0, 7),
       st.sampled_from([1.1, 1.5, 2, 8]), st.sampled_from([1, 2, 8]))  # fmt: skip
def test_larger_buffers_are_never_slower_by_more_than_a_twentieth(name, machine, which, grow, dram):
    """Without residency: what stays on chip is chosen one result after another, so with it a whole
    model may, on some machines, lose by more room."""
    hw = MACHINES[machine]
    larger = {key: int(getattr(hw, key) * grow) for i, key in enumerate(BUFFERS) if which >> i & 1}
    larger["dram_bytes_per_cycle"] = hw.dram_bytes_per_cycle * dram
    before, after = (
        simulate(VARIANTS[name], each, residency=False).totals["cycles"]
        for each in (hw, replace(hw, **larger))
    )
    assert after <= before * 1.05


def test_heads_are_one_stream_on_overlapped_hardware():
    rows = {row.name: row for row in simulate(VARIANTS["deit_tiny"], ENDLESS).rows}
    scores = rows["blocks.0.attn.scores"]
    assert scores.compute_cycles == gemm_cycles(197, 64, 197, 32, 32, "ws", True, count=3)
    alone = simulate(VARIANTS["deit_tiny"], replace(ENDLESS, overlap=False)).rows
    apart = next(row for row in alone if row.name == scores.name)
    assert apart.compute_cycles == 3 * gemm_cycles(197, 64, 197, 32, 32, "ws", False)
