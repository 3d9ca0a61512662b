"""Energy: every entry of the tables against its source, MACs by hand, and low and high."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES
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

EDGE = MACHINES["edge32"]

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
