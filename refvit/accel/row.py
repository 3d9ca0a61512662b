"""A row of a report, one layer, and the sums over several."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from refvit.accel.machine import Machine
from refvit.accel.systolic import utilization

BOUNDS = ("compute", "memory", "vector", "host")
UNITS = ("array", "vector", "fused", "host")
COUNTS = (
    "macs",
    "cycles",
    "compute_cycles",
    "array_cycles",
    "stall_cycles",
    "prologue_cycles",
    "steady_cycles",
    "epilogue_cycles",
    "memory_cycles",
    "vector_cycles",
    "sram_bytes",
    "dram_bytes",
    "load_bytes",
    "store_bytes",
    "resident_bytes",
)
PARTS = ("array", "sram", "dram", "vector")
SUMMED = (
    "us",
    "uj_low",
    "uj_high",
    "uj",
    "uj_array",
    "uj_sram",
    "uj_dram",
    "uj_vector",
    "uj_mac",
    "uj_registers",
    "uj_sram_a",
    "uj_sram_b",
    "uj_sram_o",
    "uj_accumulator",
    *(f"uj_{part}_{end}" for part in PARTS for end in ("low", "high")),
)


@dataclass(frozen=True)
class Row:
    """One layer: cycles from first load to last store, of which the unit computes
    `compute_cycles`; bytes in all; microseconds; microjoules by the two energy tables; and
    `bound`, one of compute, memory, vector, host. `utilization` is MACs / (cycles x PEs). `uj` is
    the energy by the machine's own table, the sum of its array, SRAM, DRAM and vector parts.

    `unit` is the one that works: array, vector, host, or "fused" behind the array. `cycles` are the
    prologue, in which the first tile is loaded, the steady state, and the epilogue, from the last
    product to the last store; they are `compute_cycles` and the stall. Those of a fused layer are
    by how much longer the GEMM takes with it. `memory_cycles` are those that the DRAM port is busy,
    `vector_cycles` those of the vector unit, hidden or not, and `array_cycles` those that the array
    multiplies: `compute_cycles` without what it waits for the vector unit. `dram_bytes` are loaded
    and stored; `resident_bytes` are those of operands and results that did not have to be, as they
    stay on chip, and `resident` names them: a and b, the first two operands, o, the result. A GEMM
    has its outer tile, how many there are (`tiles`, over all its `count`), their loop order, and
    the share of the array its tiles cover. Of `uj`, the array's part is that of MACs and registers,
    the SRAMs' that of each; every part has its least and greatest over the tables too.
    """

    name: str
    op: str
    group: str
    macs: int
    cycles: int
    compute_cycles: int
    stall_cycles: int
    utilization: float
    sram_bytes: int
    dram_bytes: int
    us: float
    uj_low: float
    uj_high: float
    uj: float
    uj_array: float
    uj_sram: float
    uj_dram: float
    uj_vector: float
    bound: str
    unit: str = ""
    prologue_cycles: int = 0
    steady_cycles: int = 0
    epilogue_cycles: int = 0
    memory_cycles: int = 0
    vector_cycles: int = 0
    load_bytes: int = 0
    store_bytes: int = 0
    resident_bytes: int = 0
    resident: str = ""
    a_bits: int = 0
    b_bits: int = 0
    o_bits: int = 0
    tile_m: int = 0
    tile_k: int = 0
    tile_n: int = 0
    tiles: int = 0
    order: str = ""
    mapping_efficiency: float = 0.0
    uj_mac: float = 0.0
    uj_registers: float = 0.0
    uj_sram_a: float = 0.0
    uj_sram_b: float = 0.0
    uj_sram_o: float = 0.0
    uj_accumulator: float = 0.0
    uj_array_low: float = 0.0
    uj_array_high: float = 0.0
    uj_sram_low: float = 0.0
    uj_sram_high: float = 0.0
    uj_dram_low: float = 0.0
    uj_dram_high: float = 0.0
    uj_vector_low: float = 0.0
    uj_vector_high: float = 0.0
    array_cycles: int = 0

    def called(self, name: str, group: str) -> Row:
        """Return the same figures under another name, for a layer that costs alike.

        A copy of all fields at once: set one by one, they would take half of a simulation.
        """
        row = object.__new__(Row)
        row.__dict__.update(self.__dict__, name=name, group=group)
        return row


def total(rows: tuple[Row, ...], machine: Machine) -> dict[str, float]:
    """Return the sums over `rows`, and their joint utilization."""
    sums: dict[str, float] = {key: sum(getattr(row, key) for row in rows) for key in COUNTS}
    # fsum rounds once, so totals do not depend on how a Python version adds floats
    sums |= {key: fsum(getattr(row, key) for row in rows) for key in SUMMED}
    used = utilization(int(sums["macs"]), sums["cycles"], machine.rows, machine.cols)
    return sums | {"utilization": used}
