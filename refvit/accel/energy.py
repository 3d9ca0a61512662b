"""Energy per event, from published tables, always as a low and a high estimate.

Tables of different papers are never mixed within one estimate: their processes and cell types
differ, and the two kept here are about three apart on SRAM. Both are for 45 nm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

NOT_MODELLED = (
    "leakage",
    "clock tree",
    "idle PEs (taken as gated)",
    "interconnect between units",
    "bandwidth of the SRAMs",
    "DRAM banks and refresh",
    "energy of a host processor",
    "sparsity",
)


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules: per int8 MAC, register bit, SRAM word of 64 bits per sqrt(KB), DRAM byte, and
    per 32-bit operation of the vector unit."""

    name: str
    pj_per_mac8: float
    pj_per_register_bit: float
    pj_per_sram_word_root_kb: float
    pj_per_dram_byte: float
    pj_per_vector_op: float

    def sram_pj_per_byte(self, size_bytes: int) -> float:
        """Return the energy of one byte of an SRAM of that size: slope * sqrt(KB) / 8.

        >>> TABLES["horowitz45"].sram_pj_per_byte(64 * 1024)
        3.5
        """
        return self.pj_per_sram_word_root_kb * math.sqrt(size_bytes / 1024) / 8


TABLES = {
    # Horowitz, ISSCC 2014: int8 multiply 0.2 + int32 add 0.1; SRAM 10, 20, 100 pJ a 64-bit read
    # of 8 KB, 32 KB, 1 MB, which is 3.5 sqrt(KB); DRAM 1.3 nJ a 64-bit word, its low end.
    # Register bit: Accelergy's 40 nm library (Aladdin), as Horowitz gives none. A vector operation
    # is charged as an int32 add, 0.1.
    "horowitz45": EnergyTable("horowitz45", 0.30, 0.009, 3.5, 162.0, 0.1),
    # Accelergy's examples: 8-bit MAC 0.315 at 45 nm; SRAM by CACTI 7 with low-power cells, measured
    # as 1.25 sqrt(KB); LPDDR4 8 pJ a bit; 32-bit adder of its 40 nm library (Aladdin) 0.21.
    "accelergy45": EnergyTable("accelergy45", 0.315, 0.009, 1.25, 64.0, 0.21),
}


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


def mac_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules of the MACs.

    One of a x b bits costs a b / 64 of one of 8: an assumption, as no table covers 4 bits.
    """
    share = events.bits * (events.b_bits or events.bits) / 64
    return events.macs * (table.pj_per_mac8 * share) * 1e-6


def register_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules of the registers: every MAC moves two codes on and adds to a sum."""
    bits = 32 + events.bits + (events.b_bits or events.bits)
    return events.macs * (table.pj_per_register_bit * bits) * 1e-6


def sram_uj(events: Events, table: EnergyTable) -> tuple[float, ...]:
    """Return microjoules of each SRAM, by its size."""
    return tuple(moved * table.sram_pj_per_byte(size) * 1e-6 for moved, size in events.sram_bytes)


def energy_parts_uj(events: Events, table: EnergyTable) -> tuple[float, float, float, float]:
    """Return microjoules in the array (MACs and registers), SRAMs, DRAM and vector unit."""
    array = mac_uj(events, table) + register_uj(events, table)
    dram = events.dram_bytes * table.pj_per_dram_byte * 1e-6
    vector = events.vector_ops * table.pj_per_vector_op * 1e-6
    return array, math.fsum(sram_uj(events, table)), dram, vector


def assumption(bits: int, b_bits: int = 0) -> str:
    """Return what an estimate at `bits` assumes beyond its tables: "" at 8.

    >>> assumption(4)
    'a MAC of 4 bits is taken as 0.25 of one of 8: an assumption, no table has it'
    """
    b_bits = b_bits or bits
    if bits == b_bits == 8:
        return ""
    share, size = bits * b_bits / 64, f"{bits}" if bits == b_bits else f"{bits} x {b_bits}"
    return f"a MAC of {size} bits is taken as {share:g} of one of 8: an assumption, no table has it"


def assumptions(widths: Iterable[tuple[int, int]]) -> str:
    """Return the same of several pairs of widths, those of A and B.

    >>> assumptions([(8, 8), (4, 4), (8, 4), (8, 4)])
    'MACs of 4 x 4, 8 x 4 bits are taken as 0.25, 0.5 of one of 8: an assumption, no table has them'
    """
    pairs = sorted({pair for pair in widths if pair != (8, 8)})
    if len(pairs) < 2:
        return assumption(*pairs[0]) if pairs else ""
    sizes = ", ".join(f"{a} x {b}" for a, b in pairs)
    shares = ", ".join(f"{a * b / 64:g}" for a, b in pairs)
    return (
        f"MACs of {sizes} bits are taken as {shares} of one of 8: an assumption, no table has them"
    )


def energy_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules: the sum of the parts."""
    return math.fsum(energy_parts_uj(events, table))


def energy_range_uj(events: Events) -> tuple[float, float]:
    """Return the least and the greatest estimate over the tables."""
    estimates = [energy_uj(events, table) for table in TABLES.values()]
    return min(estimates), max(estimates)
