"""Energy of whole rows by hand, its range in a model, and what the notes say of it."""

import json
import math
from dataclasses import replace

import pytest

from refvit.accel import MACHINES, Layer, machine_of, simulate, simulate_layers
from refvit.accel.energy import TABLES, Events, mac_uj, sliced_mac_uj
from refvit.accel.notes import LINK, notes
from refvit.accel.row import PARTS
from refvit.cli import main
from refvit.models import VARIANTS

EDGE, NANO = MACHINES["edge32"], VARIANTS["nano_vit"]


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
        "horowitz45: DRAM 162.5 to 325 pJ a byte, SRAM of 64 KB 3.12 to 3.54",
        "accelergy45: DRAM 64 pJ a byte, SRAM of 64 KB 1.10 to 1.63)",
        "The register bit of horowitz45 is Accelergy's",
        "0.315 pJ, its 32-bit adder of 0.21 is taken as the add",
        "uj is by horowitz45, DRAM at its low end",
        "a vector operation costs an int32 add",
        "64 bits at a time",
        "45 nm",
    ):
        assert part in said
    assert "uj is by accelergy45" in told(replace(EDGE, energy="accelergy45"))
    narrow = told(EDGE, bits=4)
    assert "4 bits is taken as 0.25 of one of 8, the add as whole: an assumption" in narrow
    assert "the 8-bit multiplier is charged for the bits of its codes alone, in the high" in narrow
    assert "16 bits is taken as 4 of one of 8" in told("eyeriss-like")


@pytest.mark.parametrize("multiplier", [4, 8, 16])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_notes_speak_of_the_multiplier_where_low_and_high_differ_by_it(multiplier, bits):
    """Codes of 8 bits are in every table, but on a multiplier of 16 they are narrow too."""
    said = told(replace(EDGE, multiplier_bits=multiplier), bits)
    happened, hw = Events(10**6, bits, (), 0, 0), replace(EDGE, multiplier_bits=multiplier)
    slices = hw.slices(bits, bits)
    differ = any(
        sliced_mac_uj(happened, table, slices, multiplier) != pytest.approx(mac_uj(happened, table))
        for table in TABLES.values()
    )
    assert (f"{multiplier}-bit multiplier" in said) == differ == (bits != multiplier)
    assert ("assumption" in said) == (bits != 8)


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
