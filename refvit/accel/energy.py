"""Energy per event, from published tables, always as a low and a high estimate.

Tables of different papers are never mixed within one estimate: their processes and cell types
differ, and the two kept here are about three apart on SRAM. Both are for 45 nm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NOT_MODELLED = (
    "residency between layers",
    "leakage",
    "clock tree",
    "interconnect between units",
    "DRAM banks and refresh",
    "host processor",
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
    """What a layer does: MACs of a width, SRAM bytes by buffer, DRAM bytes, vector operations."""

    macs: int
    bits: int
    sram_bytes: tuple[tuple[int, int], ...]  # (bytes moved, size of the buffer in bytes)
    dram_bytes: int
    vector_ops: int

    @property
    def sram_total(self) -> int:
        return sum(moved for moved, _ in self.sram_bytes)


def energy_parts_uj(events: Events, table: EnergyTable) -> tuple[float, float, float, float]:
    """Return microjoules in the array (MACs and registers), SRAMs, DRAM and vector unit.

    A MAC of b bits costs b^2 / 64 of one of 8 bits: an assumption, as no table covers 4 bits.
    """
    mac = table.pj_per_mac8 * events.bits**2 / 64
    registers = table.pj_per_register_bit * (32 + 2 * events.bits)  # a sum and two codes a MAC
    sram = math.fsum(moved * table.sram_pj_per_byte(size) for moved, size in events.sram_bytes)
    dram = events.dram_bytes * table.pj_per_dram_byte
    vector = events.vector_ops * table.pj_per_vector_op
    return events.macs * (mac + registers) * 1e-6, sram * 1e-6, dram * 1e-6, vector * 1e-6


def assumption(bits: int) -> str:
    """Return what an estimate at `bits` assumes beyond its tables: "" at 8.

    >>> assumption(4)
    'a MAC of 4 bits is taken as 0.25 of one of 8: an assumption, no table has it'
    """
    if bits == 8:
        return ""
    share = bits**2 / 64
    return f"a MAC of {bits} bits is taken as {share:g} of one of 8: an assumption, no table has it"


def energy_uj(events: Events, table: EnergyTable) -> float:
    """Return microjoules: the sum of the parts."""
    return math.fsum(energy_parts_uj(events, table))


def energy_range_uj(events: Events) -> tuple[float, float]:
    """Return the least and the greatest estimate over the tables."""
    estimates = [energy_uj(events, table) for table in TABLES.values()]
    return min(estimates), max(estimates)
