"""Energy per event, from published tables, always as a low and a high estimate.

Tables of different papers are never mixed within one estimate: their processes and cell types
differ, and the two kept here are about three apart on SRAM. Both are for 45 nm; one entry is
borrowed, the register bit of `horowitz45`, as Horowitz gives none. Where a source gives a range, a
table has it at both ends: the low estimate is the least over the tables at their low ends, the high
one the greatest at their high ends. A machine's own figure, `uj`, is by its table as `TABLES` has
it: DRAM at its low end, SRAM by the fit between its ends.

A MAC is a multiply, which goes with the product of the widths, and an add of 32 bits, which does
not. A multiplier wider than its codes works as if only the rows that hold bits did, and one that
takes wide codes in slices as if it were wide and added once; the high estimate takes neither for
granted: there every slice is a whole MAC of the multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

NOT_MODELLED = (
    "leakage",
    "clock tree",
    "idle PEs (taken as gated)",
    "interconnect between units",
    "bandwidth of the SRAMs",
    "DRAM banks and refresh",
    "energy of a host processor",
    "biases and constants of requantization",
    "the buffer of what a fused sum adds",
    "sparsity",
)
# What every estimate takes for granted, whatever the widths.
TAKEN = (
    "a vector operation costs an int32 add, be it a step of an exponential or of a division",
    "an SRAM is read and written 64 bits at a time, for its slope times sqrt(KB)",
    "the tables are for 45 nm, whatever the machine is made in",
)


ASSUMED = "the add as whole: an assumption, no table has it"


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules: per int8 multiply, int32 add, register bit, SRAM word of 64 bits per sqrt(KB),
    and DRAM byte."""

    name: str
    pj_per_multiply8: float
    pj_per_add32: float
    pj_per_register_bit: float
    pj_per_sram_word_root_kb: float
    pj_per_dram_byte: float

    @property
    def pj_per_mac8(self) -> float:
        """The energy of an int8 multiply and its int32 add."""
        return self.mac_pj(8, 8)

    @property
    def pj_per_vector_op(self) -> float:
        """The energy of a 32-bit operation of the vector unit: that of an int32 add, as no table
        has an exponential or a division."""
        return self.pj_per_add32

    def mac_pj(self, a_bits: int, b_bits: int) -> float:
        """Return the energy of a MAC of codes of those widths: multiply x a b / 64 + add.

        No table covers 4 bits. Scaled to 32 bits the multiply of Horowitz is 3.2, his own 3.1.

        >>> TABLES["horowitz45"].mac_pj(4, 4), TABLES["horowitz45"].mac_pj(16, 16)
        (0.15000000000000002, 0.9)
        """
        return self.pj_per_multiply8 * (a_bits * b_bits / 64) + self.pj_per_add32

    def sram_pj_per_byte(self, size_bytes: int) -> float:
        """Return the energy of one byte of an SRAM of that size: slope * sqrt(KB) / 8.

        >>> TABLES["horowitz45"].sram_pj_per_byte(64 * 1024)
        3.5
        """
        return self.pj_per_sram_word_root_kb * math.sqrt(size_bytes / 1024) / 8


TABLES = {
    # Horowitz, ISSCC 2014, 45 nm: int8 multiply 0.2, int32 add 0.1; SRAM 10, 20, 100 pJ a 64-bit
    # read of 8 KB, 32 KB, 1 MB, about 3.5 sqrt(KB); DRAM 1.3 to 2.6 nJ a 64-bit word, here its low
    # end. Register bit: Accelergy's 40 nm library (Aladdin).
    "horowitz45": EnergyTable("horowitz45", 0.2, 0.1, 0.009, 3.5, 1300 / 8),
    # Accelergy's examples, 45 nm: a whole 8-bit MAC 0.315. How it divides they do not say: the
    # 32-bit adder of Accelergy's own library (Aladdin, 40 nm) is 0.21, which leaves 0.105 to the
    # multiply. SRAM by CACTI 7 with low-power cells, measured as about 1.25 sqrt(KB); LPDDR4 8 pJ a
    # bit; register bit of the same library.
    "accelergy45": EnergyTable("accelergy45", 0.315 - 0.21, 0.21, 0.009, 1.25, 8 * 8),
}
# The same tables at the ends of what their sources give. SRAM is a line through points: the ends
# are the points farthest from it. Of Horowitz, 1 MB and 8 KB; of CACTI, reads of 64 bits from 8 KB
# to 2 MB, the largest and 64 KB.
LOWS = {
    "horowitz45": replace(TABLES["horowitz45"], pj_per_sram_word_root_kb=100 / math.sqrt(1024)),
    "accelergy45": replace(
        TABLES["accelergy45"], pj_per_sram_word_root_kb=49.672 / math.sqrt(2048)
    ),
}
HIGHS = {
    "horowitz45": replace(
        TABLES["horowitz45"],
        pj_per_sram_word_root_kb=10 / math.sqrt(8),
        pj_per_dram_byte=2600 / 8,
    ),
    "accelergy45": replace(TABLES["accelergy45"], pj_per_sram_word_root_kb=13.069 / math.sqrt(64)),
}

Parts = tuple[float, float, float, float]  # uJ of the array, the SRAMs, DRAM and the vector unit


@dataclass(frozen=True)
class Events:
    """What a layer does: MACs of a width, SRAM bytes by buffer, DRAM bytes, vector operations.

    `bits` are those of A's codes, and of B's where `b_bits` says no other.
    """

    macs: int
    bits: int
    sram_bytes: tuple[tuple[int, int], ...]  # (bytes moved, size of the buffer in bytes)
    dram_bytes: int
    vector_ops: int
    b_bits: int = 0

    @property
    def sram_total(self) -> int:
        return sum(moved for moved, _ in self.sram_bytes)

    @property
    def widths(self) -> tuple[int, int]:
        """The widths of A's codes and of B's."""
        return self.bits, self.b_bits or self.bits


def mac_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules of the MACs, of which only the bits that the codes have take part."""
    return events.macs * table.mac_pj(*events.widths) * 1e-6


def sliced_mac_uj(
    events: Events, table: EnergyTable, slices: int = 1, multiplier_bits: int = 8
) -> float:
    """Return microjoules of the MACs if each of their slices is a whole MAC of the multiplier.

    Raises ValueError where so few slices do not cover the codes.
    """
    a_bits, b_bits = events.widths
    if slices * multiplier_bits**2 < a_bits * b_bits:
        short = f"codes of {a_bits} x {b_bits} bits do not fit in {slices} of {multiplier_bits}"
        raise ValueError(f"{short} x {multiplier_bits}; give the slices of the machine")
    return events.macs * slices * table.mac_pj(multiplier_bits, multiplier_bits) * 1e-6


def register_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules of the registers: every MAC moves two codes on and adds to a sum."""
    bits = 32 + sum(events.widths)
    return events.macs * (table.pj_per_register_bit * bits) * 1e-6


def sram_uj(events: Events, table: EnergyTable) -> tuple[float, ...]:
    """Return microjoules of each SRAM, by its size."""
    return tuple(moved * table.sram_pj_per_byte(size) * 1e-6 for moved, size in events.sram_bytes)


def energy_parts_uj(events: Events, table: EnergyTable) -> Parts:
    """Return microjoules in the array (MACs and registers), SRAMs, DRAM and vector unit."""
    array = mac_uj(events, table) + register_uj(events, table)
    dram = events.dram_bytes * table.pj_per_dram_byte * 1e-6
    vector = events.vector_ops * table.pj_per_vector_op * 1e-6
    return array, math.fsum(sram_uj(events, table)), dram, vector


def energy_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules: the sum of the parts."""
    return math.fsum(energy_parts_uj(events, table))


def end_parts_uj(
    events: Events, slices: int = 1, multiplier_bits: int = 8
) -> tuple[list[Parts], list[Parts]]:
    """Return the parts by every table at its low end, and at its high end.

    At the high end a MAC is `slices` whole ones of a multiplier of `multiplier_bits`.
    """
    lows = [energy_parts_uj(events, table) for table in LOWS.values()]
    highs = []
    for table in HIGHS.values():
        mac = sliced_mac_uj(events, table, slices, multiplier_bits)
        array = mac + register_uj(events, table)
        highs.append((array, *energy_parts_uj(events, table)[1:]))
    return lows, highs


def energy_range_uj(
    events: Events, slices: int = 1, multiplier_bits: int = 8
) -> tuple[float, float]:
    """Return the least estimate at the low ends of the tables, the greatest at the high ends."""
    lows, highs = end_parts_uj(events, slices, multiplier_bits)
    return min(map(math.fsum, lows)), max(map(math.fsum, highs))


def assumption(bits: int, b_bits: int = 0) -> str:
    """Return what an estimate at `bits` assumes beyond its tables: "" at 8.

    >>> assumption(4).partition(": ")[0]
    'a multiply of 4 bits is taken as 0.25 of one of 8, the add as whole'
    """
    b_bits = b_bits or bits
    if bits == b_bits == 8:
        return ""
    share, size = bits * b_bits / 64, f"{bits}" if bits == b_bits else f"{bits} x {b_bits}"
    return f"a multiply of {size} bits is taken as {share:g} of one of 8, {ASSUMED}"


def assumptions(widths: Iterable[tuple[int, int]]) -> str:
    """Return the same of several pairs of widths, those of A and B.

    >>> assumptions([(8, 8), (4, 4), (8, 4), (8, 4)]).partition(", the")[0]
    'multiplies of 4 x 4, 8 x 4 bits are taken as 0.25, 0.5 of one of 8'
    """
    pairs = sorted({pair for pair in widths if pair != (8, 8)})
    if len(pairs) < 2:
        return assumption(*pairs[0]) if pairs else ""
    sizes = ", ".join(f"{a} x {b}" for a, b in pairs)
    shares = ", ".join(f"{a * b / 64:g}" for a, b in pairs)
    return f"multiplies of {sizes} bits are taken as {shares} of one of 8, {ASSUMED}"
