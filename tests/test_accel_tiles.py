"""The tiles of a GEMM: what each loads, computes and stores, and which tiling is chosen."""

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, Machine, gemm_cycles, simulate
from refvit.accel.gemm import Operands, gemm_cost
from refvit.accel.memory import best_tiling
from refvit.accel.stream import Clock
from refvit.accel.systolic import ceil_div, cut_cycles, mapping
from refvit.accel.tiles import ORDERS, Cut, Gemm
from refvit.accel.traffic import candidates
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
BUFFERS = ("sram_a_bytes", "sram_b_bytes", "sram_o_bytes")
DATAFLOWS = st.sampled_from(["os", "ws", "is"])
sizes = st.integers(1, 400)
small = st.integers(1, 40)
flags = st.tuples(st.booleans(), st.booleans(), st.booleans())


def with_buffers(hw, *each):
    return replace(hw, **dict(zip(BUFFERS, each, strict=True)))


ENDLESS = with_buffers(EDGE, 2**30, 2**30, 2**30)
gemms = st.builds(
    Gemm, small, small, small,
    *(st.sampled_from([0.5, 1.0, 2.0]) for _ in "abo"), flags, st.integers(1, 3),
    st.integers(1, 2), st.integers(0, 3), st.integers(0, 1), st.sampled_from([0.0, 2.0]),
)  # fmt: skip


@st.composite
def machines(draw):
    """Small arrays, any dataflow, and buffers that hold few of their tiles."""
    rows, cols = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    least = 16 * max(rows, cols) ** 2
    buffer = st.integers(least, 12 * least)
    return Machine(
        "drawn", rows, cols, draw(DATAFLOWS), draw(st.booleans()), 100.0, draw(buffer),
        draw(buffer), draw(buffer), draw(st.sampled_from([0.3, 1.0, 2.5, 8.0, 64.0])),
        draw(st.integers(1, 12)), accumulator_bytes=draw(st.sampled_from([0, 8 * least])),
    )  # fmt: skip


def unit(hw):
    along = mapping(0, 1, 2, hw.dataflow)
    found = dict(zip(along, (hw.rows, hw.cols, hw.rows), strict=True))
    return found[0], found[1], found[2]


@st.composite
def cuts(draw):
    gemm, hw = draw(gemms), draw(machines())
    tile = tuple(each * draw(st.integers(1, 7)) for each in unit(hw))
    return Cut(gemm, hw, tile, draw(st.sampled_from(list(ORDERS))))


def walked(cut):
    """Every tile in its turn, by plain loops: cycles, and bytes of A, B, what else it loads, and
    what it stores."""
    x, hw, tile = cut.gemm, cut.hw, dict(zip("mkn", cut.tile, strict=True))
    whole = dict(zip("mkn", cut.gemm.sizes, strict=True))
    pieces = {axis: math.ceil(whole[axis] / tile[axis]) for axis in "mkn"}
    loops = ORDERS[cut.order]
    held: dict[str, object] = {}
    for head in range(x.count):
        for at in product(*(range(pieces[axis]) for axis in loops)):
            i = dict(zip(loops, at, strict=True))
            size = {axis: min(tile[axis], whole[axis] - i[axis] * tile[axis]) for axis in "mkn"}
            parts = {"a": (head, i["m"], i["k"]), "b": (head, i["k"], i["n"])}
            read = {}
            for name, axes, width, stays in (
                ("a", "mk", x.a_bytes, x.resident[0]), ("b", "kn", x.b_bytes, x.resident[1]),
            ):  # fmt: skip
                fresh = held.get(name) != parts[name]
                # in the third order both pass, also where one could have stayed for a while
                passes = cut.order == "results outer" and any(pieces[axis] > 1 for axis in axes)
                read[name] = math.prod(size[a] for a in axes) * width * (fresh or passes)
                read[name] *= not stays
                held[name] = parts[name]
            results = size["m"] * size["n"]
            last = i["k"] == pieces["k"] - 1
            leave = loops[2] != "k" and pieces[loops[2]] > 1
            sums = 4 * results * (leave and i["k"] > 0) + results * x.beside * last
            store = results * x.o_bytes * (not x.resident[2]) if last else 4 * results * leave
            rows, cols, time = mapping(size["m"], size["k"], size["n"], hw.dataflow)
            steps = time * x.slices
            each = max(steps, hw.rows) if hw.overlap else 2 * hw.rows + hw.cols + steps - 2
            array = math.ceil(rows / hw.rows) * math.ceil(cols / hw.cols) * each
            share = math.ceil(results / hw.vector_lanes) * (last or not leave)
            over = 1 if leave else pieces["k"]
            behind, after = (math.ceil(share * passes / over) for passes in (x.streamed, x.serial))
            yield max(array, behind) + after, read["a"], read["b"], sums, store


@given(cuts())
def test_a_cut_takes_the_time_of_its_tiles_one_by_one(cut):
    """The recurrence over plain loops: every tile at its own size, whatever stays."""
    speed, clock, memory = cut.hw.dram_bytes_per_cycle, Clock(), 0
    tiles = list(walked(cut))
    for compute, *loads, store in tiles:
        load, out = (math.ceil(part / speed - 1e-6) for part in (sum(loads), store))
        clock = clock.tiles(compute, load, out)
        memory += load + out
    assert cut.end == cut.timing.cycles == clock.end() + cut.edge
    assert cut.timing.compute == sum(tile[0] for tile in tiles) + cut.edge
    assert cut.timing.memory == memory
    assert cut.timing.prologue == math.ceil(sum(tiles[0][1:4]) / speed - 1e-6)
    assert cut.timing.epilogue == clock.end() - clock.array
    assert len(tiles) == math.prod(cut.pieces) * cut.gemm.count


@given(cuts())
def test_a_cut_moves_what_the_equations_say(cut):
    x, (m, k, n) = cut.gemm, cut.tile
    a, b, _, store = (sum(part) for part in zip(*(t[1:] for t in walked(cut)), strict=True))
    again_a = 1 if (m >= x.M and k >= x.K) or cut.order == "activations outer" else ceil_div(x.N, n)
    again_b = 1 if (n >= x.N and k >= x.K) or cut.order == "weights outer" else ceil_div(x.M, m)
    inside = {"weights outer": m >= x.M, "activations outer": n >= x.N}.get(cut.order, True)
    spill = 0 if inside else 4 * x.M * x.N * (ceil_div(x.K, k) - 1)
    assert a == x.M * x.K * x.a_bytes * again_a * (not x.resident[0]) * x.count
    assert b == x.K * x.N * x.b_bytes * again_b * (not x.resident[1]) * x.count
    assert store == (x.M * x.N * x.o_bytes * (not x.resident[2]) + spill) * x.count


@given(cuts())
def test_the_array_computes_what_the_closed_form_counts(cut):
    x, hw = replace(cut.gemm, streamed=0, serial=0), cut.hw
    axis = mapping(0, 1, 2, hw.dataflow)[2]
    size = [part * (x.slices if i == axis else 1) for i, part in enumerate(x.sizes)]
    whole = cut_cycles(
        tuple(size), cut.tile[axis] * x.slices, hw.rows, hw.cols, hw.dataflow, hw.overlap, x.count
    )
    assert replace(cut, gemm=x).timing.compute == whole
    assert cut.timing.compute == whole + cut.waits


@given(st.builds(replace, gemms, M=st.integers(1, 24), K=st.integers(1, 24)), machines())
def test_no_tiling_is_faster_by_more_than_a_twentieth(gemm, hw):
    """Against every even cut in whole arrays that fits, in every order."""
    steps = map(candidates, gemm.sizes, unit(hw))
    fits = [tile for tile in product(*steps) if holds(tile, gemm, hw)]
    every = [Cut(gemm, hw, tile, order) for tile in fits for order in ORDERS]
    best = best_tiling(gemm, hw)
    assert holds((best.m, best.k, best.n), gemm, hw)
    assert best.cycles <= 1.05 * min(cut.end for cut in every)
    fast, frugal = (best_tiling(gemm, replace(hw, tiling_slack=slack)) for slack in (0, 1000))
    assert fast.cycles == min(cut.end for cut in every)
    assert frugal.bytes == pytest.approx(min(map(moved, every)))


def moved(cut):
    """The bytes that a cut loads and stores of A, B, sums and results, for one of its GEMMs."""
    beside = cut.gemm.M * cut.gemm.N * cut.gemm.beside
    parts = [*cut.loads, cut.stores]
    return sum(float((part * cut.count).sum()) for part in parts) / cut.gemm.count - beside


def holds(tile, gemm, hw):
    m, k, n = tile
    sums = hw.accumulator_bytes or hw.sram_o_bytes
    results = not hw.accumulator_bytes or m * n * gemm.o_bytes <= hw.sram_o_bytes // 2
    return (
        m * k * gemm.a_bytes <= hw.sram_a_bytes // 2
        and k * n * gemm.b_bytes <= hw.sram_b_bytes // 2
        and 4 * m * n <= sums // 2
        and results
    )


def test_bytes_count_where_they_cost_no_time():
    """fc1 of ViT-B on edge16: the fastest tiling moves more than twice what one a little slower
    does, which is taken; and one that is told by its bytes alone is slower than that."""
    gemm, hw = Gemm(197, 768, 3072, 1, 1, 1, streamed=1), MACHINES["edge16"]
    fast, both, frugal = (best_tiling(gemm, replace(hw, tiling_slack=s)) for s in (0, 0.05, 1000))
    assert fast.cycles <= both.cycles <= 1.05 * fast.cycles < frugal.cycles
    assert fast.bytes > 1.5 * both.bytes >= 1.5 * frugal.bytes


@given(gemms, machines(), st.sampled_from([1.2, 2, 5]), st.integers(1, 15))
def test_a_larger_machine_is_never_slower_by_more_than_a_twentieth(gemm, hw, grow, which):
    keys = (*BUFFERS, "dram_bytes_per_cycle")
    grown = {key: getattr(hw, key) * grow for i, key in enumerate(keys) if which >> i & 1}
    grown |= {key: int(size) for key, size in grown.items() if key in BUFFERS}
    before, after = (best_tiling(gemm, machine) for machine in (hw, replace(hw, **grown)))
    assert after.cycles <= 1.05 * before.cycles


@given(st.integers(1, 5000), st.integers(1, 70))
@example(8, 1)
@example(4999, 1)
def test_there_is_a_candidate_for_every_number_of_pieces(size, each):
    units = math.ceil(size / each)
    wanted = {math.ceil(units / pieces) * each for pieces in range(1, units + 1)}
    assert candidates(size, each) == tuple(sorted(wanted))


def test_a_huge_gemm_is_tiled_at_once():
    assert best_tiling(Gemm(10**12, 64, 64, 1, 1, 1), EDGE).cycles >= 4 * 10**12


def gemm_layer(M, K, N):
    return Layer("x", "linear", "x", M * N, M, (M * K,), M, K, N, 1, True)


@given(st.tuples(sizes, sizes, sizes), st.sampled_from([4, 8, 16]), st.sampled_from([4, 8, 16]),
       DATAFLOWS)  # fmt: skip
def test_every_element_crosses_at_its_own_width(gemm, a_bits, b_bits, dataflow):
    """Where the port alone counts, all crosses once."""
    (M, K, N), hw = gemm, replace(ENDLESS, dataflow=dataflow, dram_bytes_per_cycle=1e-3)
    cost = gemm_cost(gemm_layer(*gemm), hw, Operands(a_bits, b_bits, 16))
    assert cost.load_bytes == math.ceil(M * K * a_bits / 8 + K * N * b_bits / 8)
    assert cost.events.dram_bytes == math.ceil(M * K * a_bits / 8 + K * N * b_bits / 8 + M * N * 2)
    stay = gemm_cost(gemm_layer(*gemm), hw, Operands(a_bits, b_bits, 16, (True, False, True)))
    assert stay.events.dram_bytes == math.ceil(K * N * b_bits / 8)
    assert stay.resident_bytes == math.ceil(M * K * a_bits / 8 + M * N * 2)


@given(sizes, sizes, sizes, DATAFLOWS, st.booleans())
def test_slices_stretch_the_time_axis(M, K, N, dataflow, overlap):
    hw = replace(ENDLESS, dataflow=dataflow, overlap=overlap, vector_lanes=10**6)
    axis = {"os": (M, 4 * K, N), "ws": (4 * M, K, N), "is": (M, K, 4 * N)}[dataflow]
    cost = gemm_cost(gemm_layer(M, K, N), hw, Operands(16, 16, 8))
    whole = gemm_cycles(*axis, 32, 32, dataflow, overlap)
    assert cost.timing.compute >= whole  # more where the time axis is cut to hide loads
    if cost.tiling.tiles == 1:
        assert cost.timing.compute == whole
    wide = gemm_cost(gemm_layer(M, K, N), replace(hw, multiplier_bits=16), Operands(16, 16, 8))
    assert wide.timing.cycles <= cost.timing.cycles * 1.05


def test_partial_sums_that_spill_are_never_packed():
    """K is cut in two and a tile of O is 32 x 32: sums leave once rather than B 64 times."""
    hw = with_buffers(replace(EDGE, dram_bytes_per_cycle=0.5), 2**15, 2**15, 2**13)
    M, K, N = 2048, 1024, 2048
    tiling = gemm_cost(gemm_layer(M, K, N), hw, Operands(8, 8, 4)).tiling
    assert tiling.spill_bytes == 4 * M * N
    assert tiling.store_bytes == M * N / 2 + tiling.spill_bytes
    assert tiling.load_bytes == tiling.a_bytes + tiling.b_bytes + tiling.spill_bytes


def test_tiling_by_hand():
    """A 64 x 4096 x 64 GEMM in 8 KB halves: K is cut, sums stay, so nothing moves twice."""
    hw = with_buffers(EDGE, 16384, 16384, 32768)
    gemm = Gemm(64, 4096, 64, 1, 1, 1)
    tiling = best_tiling(gemm, hw)
    assert tiling.bytes == 2 * 64 * 4096 + 64 * 64
    assert tiling.k <= 128
    tight = replace(hw, sram_o_bytes=8192)  # half holds 1,024 sums: 32 x 32 of the output
    assert best_tiling(gemm, tight).bytes > tiling.bytes


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["nano_swin", "deit_tiny", "vit_base"])
def test_a_batch_takes_no_longer_than_its_images_one_by_one(name, machine):
    one, four = (simulate(VARIANTS[name], machine, 8, n, residency=False).totals for n in (1, 4))
    assert four["cycles"] <= 4 * one["cycles"] * 1.05


def test_an_accumulator_frees_the_output_buffer():
    """256 KB of sums beside 64 KB of results hold tiles that one buffer of 128 KB cannot."""
    one = with_buffers(replace(EDGE, dram_bytes_per_cycle=1.0), 2**20, 2**20, 2**17)
    two = replace(one, accumulator_bytes=2**19)
    gemm = Gemm(512, 512, 512, 1, 1, 1)
    tile = best_tiling(gemm, two)
    assert tile.bytes <= best_tiling(gemm, one).bytes
    assert 4 * tile.m * tile.n <= 2**18
    assert tile.m * tile.n <= 2**16
    hw = replace(EDGE, accumulator_bytes=2**17)
    rows = {row.name: row for row in simulate(VARIANTS["nano_vit"], hw).rows}
    assert rows["blocks.0.mlp.fc1"].uj_accumulator > rows["blocks.0.mlp.fc1"].uj_sram_o > 0


def test_sram_bytes_by_hand():
    """64 x 64 x 64 in ws on 32 x 32: two folds of K, A twice, B once, one tile, all loaded."""
    n, x, layer = 64 * 64, Operands(8, 8, 8), gemm_layer(64, 64, 64)
    cost = gemm_cost(layer, ENDLESS, x)
    pieces = ceil_div(64, cost.tiling.time_piece)
    sums = 4 * n * (2 + 1 + 1)  # written twice, read back once, read to become results
    moved = [b for b, _ in cost.events.sram_bytes]
    assert moved == [2 * n + n, pieces * n + n, n + n, sums]
    os = gemm_cost(layer, replace(ENDLESS, dataflow="os"), x)
    cut = ceil_div(64, os.tiling.time_piece)
    sums = 4 * 2 * n * cut if cut > 1 else 0
    assert [b for b, _ in os.events.sram_bytes] == [3 * n, 3 * n, 2 * n, sums]


def test_sums_that_spill_pass_the_accumulator_once_more_each_way():
    hw = with_buffers(replace(EDGE, dram_bytes_per_cycle=0.5), 2**15, 2**15, 2**13)
    cost = gemm_cost(gemm_layer(2048, 1024, 2048), hw, Operands(8, 8, 4))
    folds, spill = 1024 // 32, cost.tiling.spill_bytes
    assert spill > 0
    sums = 4 * 2048 * 2048 * (folds + folds - 1 + 1)
    assert cost.events.sram_bytes[3][0] == sums + 2 * spill
