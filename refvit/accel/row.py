"""A row of a report, one layer, and the sums over several."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from refvit.accel.machine import Machine
from refvit.accel.systolic import utilization

BOUNDS = ("compute", "memory", "vector")
COUNTS = ("macs", "cycles", "compute_cycles", "stall_cycles", "sram_bytes", "dram_bytes")
SUMMED = (
    "us",
    "uj_low",
    "uj_high",
    "uj",
    "uj_array",
    "uj_sram",
    "uj_dram",
    "uj_vector",
)


@dataclass(frozen=True)
class Row:
    """One layer: cycles from first load to last store, of which the unit computes
    `compute_cycles`; bytes in all; microseconds; microjoules by the two energy tables; and
    `bound`, one of compute, memory, vector. `utilization` is MACs / (cycles x PEs). `uj` is the
    energy by the machine's own table, the sum of its array, SRAM, DRAM and vector parts."""

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


def total(rows: tuple[Row, ...], machine: Machine) -> dict[str, float]:
    """Return the sums over `rows`, and their joint utilization."""
    sums: dict[str, float] = {key: sum(getattr(row, key) for row in rows) for key in COUNTS}
    # fsum rounds once, so totals do not depend on how a Python version adds floats
    sums |= {key: fsum(getattr(row, key) for row in rows) for key in SUMMED}
    used = utilization(int(sums["macs"]), sums["cycles"], machine.rows, machine.cols)
    return sums | {"utilization": used}
