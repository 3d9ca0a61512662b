"""Energy: every entry of the tables against its source, and MACs, rows and ranges by hand."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Layer, machine_of, simulate, simulate_layers
from refvit.accel.energy import (
    HIGHS,
    LOWS,
    TABLES,
    Events,
    end_parts_uj,
    energy_parts_uj,
    energy_range_uj,
    mac_uj,
    sliced_mac_uj,
)
from refvit.accel.notes import LINK, notes
from refvit.accel.row import PARTS
from refvit.cli import main
from refvit.models import VARIANTS

EDGE, NANO = MACHINES["edge32"], VARIANTS["nano_vit"]

# Each entry copied by hand from what its source prints: pJ of an int8 multiply and of an int32 add,
# of a register bit, of a 64-bit word of SRAM over the root of its KB, and of a 64-bit word of DRAM.
# Low end, the table itself, high end.
WRITTEN = {
    # Horowitz, ISSCC 2014, 45 nm: integer operations 0.2 and 0.1; 10 pJ of 8 KB, 20 of 32 KB, 100
    # of 1 MB; 1.3 to 2.6 nJ. 3.5 is the line between. Register: Accelergy's.
    ("horowitz45", "multiply"): (0.2, 0.2, 0.2),
    ("horowitz45", "add"): (0.1, 0.1, 0.1),
    ("horowitz45", "register"): (0.009, 0.009, 0.009),
    ("horowitz45", "sram"): (3.125, 3.5, 3.5355339),
    ("horowitz45", "dram"): (1300.0, 1300.0, 2600.0),
    # Accelergy: MAC 0.315 (45 nm) of which its 32-bit adder 0.21 (Aladdin, 40 nm); register 0.009;
    # CACTI 7 at 45 nm, 64-bit reads: 49.672 pJ of 2 MB, 13.069 of 64 KB; LPDDR4 8 pJ a bit.
    ("accelergy45", "multiply"): (0.105, 0.105, 0.105),
    ("accelergy45", "add"): (0.21, 0.21, 0.21),
    ("accelergy45", "register"): (0.009, 0.009, 0.009),
    ("accelergy45", "sram"): (1.0976065, 1.25, 1.633625),
    ("accelergy45", "dram"): (512.0, 512.0, 512.0),
}
ENTRIES = {
    "multiply": lambda table: table.pj_per_multiply8,
    "add": lambda table: table.pj_per_add32,
    "register": lambda table: table.pj_per_register_bit,
    "sram": lambda table: table.pj_per_sram_word_root_kb,
    "dram": lambda table: 8 * table.pj_per_dram_byte,
}


@pytest.mark.parametrize(("name", "entry"), WRITTEN)
def test_every_entry_is_what_its_source_prints(name, entry):
    found = [ENTRIES[entry](ends[name]) for ends in (LOWS, TABLES, HIGHS)]
    assert found == pytest.approx(WRITTEN[name, entry], rel=1e-7)
    assert {table.name for table in (LOWS[name], TABLES[name], HIGHS[name])} == {name}


def test_no_entry_is_left_out():
    assert {name for name, _ in WRITTEN} == set(TABLES) == set(LOWS) == set(HIGHS)
    numbers = {f for f in vars(TABLES["horowitz45"]) if f != "name"}
    assert len(numbers) == len(ENTRIES)
    for name, table in TABLES.items():
        assert table.pj_per_mac8 == pytest.approx({"horowitz45": 0.30, "accelergy45": 0.315}[name])
        assert table.pj_per_vector_op == {"horowitz45": 0.1, "accelergy45": 0.21}[name]


def test_the_recorded_tables_are_those_written_here(shared):
    told = json.loads((shared / "reference" / "energy_tables.json").read_text())
    horowitz, aladdin = told["horowitz_isscc2014_45nm"], told["accelergy_library_aladdin_40nm"]
    assert WRITTEN["horowitz45", "multiply"][1] == horowitz["int_mult"]["8b"]
    assert WRITTEN["horowitz45", "add"][1] == horowitz["int_add"]["32b"]
    dram = WRITTEN["horowitz45", "dram"]
    assert [dram[0], dram[2]] == horowitz["dram_64b"]
    points = {8: "8KB", 32: "32KB", 1024: "1MB"}
    slopes = [horowitz["sram_64b_read"][said] / math.sqrt(kb) for kb, said in points.items()]
    assert (min(slopes), max(slopes)) == pytest.approx(WRITTEN["horowitz45", "sram"][::2])
    assert WRITTEN["accelergy45", "add"][1] == aladdin["add_32b"]
    bits = {aladdin["register_per_bit_read"]} | {
        WRITTEN[name, "register"][1] for name in TABLES
    }  # fmt: skip
    assert bits == {0.009}
    lpddr4 = told["accelergy_cacti_plugin_dram_pJ_per_bit"]["LPDDR4"]
    assert WRITTEN["accelergy45", "dram"][1] == 64 * lpddr4
    assert 64 * lpddr4 == told["timeloop_exercises_reference_outputs"]["dram_lpddr4_64b"]
    runs = json.loads((shared / "reference" / "cacti_sram.json").read_text())
    slopes = [
        run["read_pJ"] / math.sqrt(run["kb"])
        for run in runs
        if run["node_nm"] == 45.0 and run["width"] == 64 and run["kb"] >= 8
    ]
    assert (min(slopes), max(slopes)) == pytest.approx(WRITTEN["accelergy45", "sram"][::2])


# --- a MAC ---


@pytest.mark.parametrize(
    ("table", "a", "b", "pj"),
    [
        ("horowitz45", 8, 8, 0.300),
        ("horowitz45", 4, 4, 0.150),
        ("horowitz45", 8, 4, 0.200),
        ("horowitz45", 16, 16, 0.900),
        ("accelergy45", 8, 8, 0.315),
        ("accelergy45", 4, 4, 0.23625),
        ("accelergy45", 16, 16, 0.630),
    ],
)
def test_a_mac_by_hand(table, a, b, pj):
    assert mac_uj(Events(10**6, a, (), 0, 0, b), TABLES[table]) == pytest.approx(pj)


widths = st.integers(1, 32)


@given(st.sampled_from(sorted(TABLES)), widths, widths, st.integers(1, 10**9))
def test_only_the_multiply_goes_with_the_product_of_the_widths(name, a, b, macs):
    table = TABLES[name]
    multiply, add = Fraction(table.pj_per_multiply8), Fraction(table.pj_per_add32)
    exact = macs * (multiply * a * b / 64 + add) / 10**6
    assert mac_uj(Events(macs, a, (), 0, 0, b), table) == pytest.approx(float(exact), rel=1e-12)


def test_the_multiply_of_horowitz_goes_with_the_product_up_to_32_bits():
    """His own int32 multiply is 3.1 pJ: the assumption is 3 % off there."""
    assert TABLES["horowitz45"].mac_pj(32, 32) - 0.1 == pytest.approx(3.1, rel=0.04)


@given(widths, widths, st.integers(1, 16), st.sampled_from(sorted(TABLES)))
def test_a_slice_that_is_a_whole_mac_never_costs_less(a, b, multiplier, name):
    hw = replace(EDGE, multiplier_bits=multiplier)
    events, table = Events(1000, a, (), 0, 0, b), TABLES[name]
    whole = sliced_mac_uj(events, table, hw.slices(a, b), multiplier)
    assert whole >= mac_uj(events, table) * (1 - 1e-12)
    if a == b == multiplier:
        assert whole == mac_uj(events, table)
    short = hw.slices(a, b) - 1
    if short * multiplier**2 < a * b:
        with pytest.raises(ValueError, match="give the slices of the machine"):
            sliced_mac_uj(events, table, short, multiplier)


# --- low and high ---

events = st.builds(
    Events,
    macs=st.integers(0, 10**9),
    bits=st.sampled_from([4, 8, 16]),
    sram_bytes=st.tuples(*[st.tuples(st.integers(0, 10**9), st.integers(1024, 2**24))] * 4),
    dram_bytes=st.integers(0, 10**9),
    vector_ops=st.integers(0, 10**9),
    b_bits=st.sampled_from([0, 4, 8, 16]),
)


@given(events, st.sampled_from([4, 8, 16]))
def test_low_and_high_hold_every_table_between_them(happened, multiplier):
    hw = replace(EDGE, multiplier_bits=multiplier)
    said = hw.slices(*happened.widths), multiplier
    low, high = energy_range_uj(happened, *said)
    lows, highs = end_parts_uj(happened, *said)
    for name, least, most in zip(TABLES, lows, highs, strict=True):
        own = energy_parts_uj(happened, TABLES[name])
        for a, b, c in zip(least, own, most, strict=True):
            assert a * (1 - 1e-12) <= b <= c * (1 + 1e-12)
        # the estimate of one table: its own parts, and no other's
        assert low <= math.fsum(least) <= math.fsum(most) <= high
        assert math.fsum(least) == pytest.approx(math.fsum(energy_parts_uj(happened, LOWS[name])))
    assert low in [math.fsum(each) for each in lows]
    assert high in [math.fsum(each) for each in highs]


@given(st.integers(1, 10**12))
def test_the_high_estimate_has_the_high_end_of_dram(moved):
    """1.3 to 2.6 nJ a 64-bit word, against 512 pJ of LPDDR4."""
    low, high = energy_range_uj(Events(0, 8, (), moved, 0))
    assert low == pytest.approx(moved * 64e-6)
    assert high == pytest.approx(moved * 325e-6)


# --- a row ---


def linear(M, K, N):
    """One layer: a linear of M rows, K inputs and N outputs."""
    return Layer("fc", "linear", "fc", M * N, M, (M * K,), M, K, N, 1, True, ("x",),
                 (("fc", M * N),), True)  # fmt: skip


def row_by_hand(hw, layer, bits=8):
    (row,) = simulate_layers([layer], hw, dict.fromkeys(("x", "fc.weight", "fc"), bits))
    return row


def test_the_energy_of_a_row_by_hand():
    """32 x 64 x 64 on 32 x 32, weights in the array: two folds of K, so sums go out twice and come
    back once, and once more to become codes. An SRAM four times as large costs twice a byte."""
    kb = 1024
    hw = replace(EDGE, sram_a_bytes=64 * kb, sram_b_bytes=256 * kb, sram_o_bytes=16 * kb,
                 accumulator_bytes=1024 * kb, dram_bytes_per_cycle=1e9)  # fmt: skip
    row, n, w, macs = row_by_hand(hw, linear(32, 64, 64)), 32 * 64, 64 * 64, 32 * 64 * 64
    pj = {  # Horowitz: 3.5 sqrt(KB) / 8 a byte
        "mac": macs * 0.3,
        "registers": macs * (8 + 8 + 32) * 0.009,
        "sram_a": (2 * n + n) * 3.5,  # loaded, and read once for each 32 columns
        "sram_b": (w + w) * 7.0,
        "sram_o": (n + n) * 1.75,  # written, and read to be stored
        "accumulator": 4 * n * (2 + 1 + 1) * 14.0,
        "dram": (2 * n + w) * 162.5,
        "vector": n * 0.1,
    }
    for part, wanted in pj.items():
        assert getattr(row, f"uj_{part}") == pytest.approx(wanted / 1e6), part
    assert row.uj == pytest.approx(sum(pj.values()) / 1e6)
    # the same by Accelergy at its low end, and by Horowitz at his high one
    root = [3 * n * 8, 2 * w * 16, 2 * n * 4, 16 * n * 32]  # bytes times sqrt(KB)
    low = macs * (0.315 + 48 * 0.009) + sum(root) * 49.672 / math.sqrt(2048) / 8
    high = macs * (0.3 + 48 * 0.009) + sum(root) * 10 / math.sqrt(8) / 8
    assert row.uj_low == pytest.approx((low + (2 * n + w) * 64 + n * 0.21) / 1e6)
    assert row.uj_high == pytest.approx((high + (2 * n + w) * 325 + n * 0.1) / 1e6)


def test_sums_that_spill_leave_the_accumulator_and_come_back():
    """Half of the output's SRAM holds 32 x 32 sums and half of the others 32 x 512 codes: K is cut
    in two, and every sum goes to DRAM once and returns."""
    hw = replace(EDGE, sram_a_bytes=2**15, sram_b_bytes=2**15, sram_o_bytes=2**13)
    M, K, N = 2048, 1024, 2048
    row = row_by_hand(hw, linear(M, K, N))
    assert (row.tile_m, row.tile_k, row.tile_n) == (32, 512, 32)
    assert row.store_bytes == M * N + 4 * M * N
    folds = K // 32
    array = 4 * M * N * (folds + (folds - 1) + 1)  # written, read back, read to become codes
    spilled = 4 * M * N + 4 * M * N  # read to be stored, written when they come back
    per_byte = 3.5 * math.sqrt(8) / 8
    assert row.uj_accumulator == pytest.approx((array + spilled) * per_byte / 1e6)


def test_a_machine_of_another_table_has_its_own_estimate():
    ours, theirs = (row_by_hand(replace(EDGE, energy=name), linear(64, 64, 64)) for name in TABLES)
    assert (ours.uj_low, ours.uj_high) == (theirs.uj_low, theirs.uj_high)
    assert theirs.uj_mac == pytest.approx(64**3 * 0.315 / 1e6)
    assert theirs.uj_dram == pytest.approx(theirs.dram_bytes * 64 / 1e6)
    assert theirs.uj < ours.uj


@pytest.mark.parametrize(
    ("multiplier", "bits", "low", "high"),
    [
        (8, 8, 0.3, 0.315),
        (8, 4, 0.15, 0.315),  # a whole MAC of 8 bits, by Accelergy
        (8, 16, 0.63, 1.26),  # four of them
        (16, 16, 0.63, 0.9),
        (16, 8, 0.3, 0.9),
        (16, 4, 0.15, 0.9),
    ],
)
def test_the_range_of_a_mac_by_multiplier_by_hand(multiplier, bits, low, high):
    row = row_by_hand(replace(EDGE, multiplier_bits=multiplier), linear(64, 64, 64), bits)
    registers = (32 + 2 * bits) * 0.009
    assert row.uj_array_low * 1e6 / 64**3 == pytest.approx(low + registers)
    assert row.uj_array_high * 1e6 / 64**3 == pytest.approx(high + registers)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_in_a_model_low_is_below_the_machines_own_and_that_below_high(machine, bits):
    for row in simulate(VARIANTS["deit_tiny"], machine, bits).rows:
        assert row.uj_low <= row.uj <= row.uj_high
        assert row.uj_low < row.uj_high
        for part in PARTS:
            low, own, high = (getattr(row, f"uj_{part}{end}") for end in ("_low", "", "_high"))
            assert low <= own * (1 + 1e-12)
            assert own <= high * (1 + 1e-12)


# --- what a reader is told ---


def told(machine, bits=8):
    report = simulate(NANO, machine, bits)
    return "\n".join(notes(report.rows, report.machine))


def test_the_notes_say_what_is_assumed():
    said = told(EDGE)
    for part in (
        "horowitz45 162.5 to 325, accelergy45 64)",
        "uj is by horowitz45, DRAM at its low end",
        "a vector operation costs an int32 add",
        "64 bits at a time",
        "45 nm",
    ):
        assert part in said
    assert "uj is by accelergy45" in told(replace(EDGE, energy="accelergy45"))
    narrow = told(EDGE, bits=4)
    assert "4 bits is taken as 0.25 of one of 8, the add as whole: an assumption" in narrow
    assert "the high estimate charges a whole MAC of the machine's multiplier" in narrow
    assert "16 bits is taken as 4 of one of 8" in told("eyeriss-like")


def test_what_stands_on_an_l2_says_that_it_is_charged_as_dram(capsys, tmp_path):
    for name, hw in MACHINES.items():
        assert (LINK in told(hw)) == (name in ("edge16", "gemmini16")), name
    derived = machine_of({"name": "mine", "base": "edge16", "vector_lanes": 8})
    assert LINK in told(derived)
    own = machine_of({"name": "mine", "base": "edge16", "dram_bytes_per_cycle": 4.0})
    assert LINK not in told(own)  # a memory of one's own
    assert main(["simulate", "nano_vit", "--machine", "edge16"]) == 0
    assert LINK in capsys.readouterr().out
    assert main(["simulate", "nano_vit", "--machine", "edge16", "--json"]) == 0
    assert LINK in json.loads(capsys.readouterr().out)["notes"]
    page = tmp_path / "page.html"
    assert main(["simulate", "nano_vit", "--machine", "edge16", "--html", str(page)]) == 0
    assert LINK in page.read_text(encoding="utf-8")
