"""Machines: the array, its buffers, its memory and its clock, as a table of named presets."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Integral

from refvit.accel.energy import TABLES
from refvit.accel.systolic import DATAFLOWS

KB = 1024
WHOLE = ("rows", "cols", "sram_a_bytes", "sram_b_bytes", "sram_o_bytes", "vector_lanes")
SIZES = (*WHOLE, "dram_bytes_per_cycle", "clock_mhz")


@dataclass(frozen=True)
class Machine:
    """An accelerator of rows x cols PEs.

    The three SRAMs are double-buffered: half of each holds the tile in use. `vector_lanes` elements
    pass the vector unit each cycle, and `energy` names the table its own estimate is read from.
    Raises ValueError for a size that is not above 0, an unknown name, or buffers in which no tile
    of the array would fit.
    """

    name: str
    rows: int
    cols: int
    dataflow: str
    overlap: bool
    clock_mhz: float
    sram_a_bytes: int
    sram_b_bytes: int
    sram_o_bytes: int
    dram_bytes_per_cycle: float
    vector_lanes: int
    source: str = ""
    energy: str = "horowitz45"

    def __post_init__(self) -> None:
        for name in SIZES:
            size = getattr(self, name)
            _require(0 < size < inf, self, f"{name} is {size}; it has to be above 0 and finite")
        for name in WHOLE:
            size = getattr(self, name)
            _require(isinstance(size, Integral), self, f"{name} is {size}; give a whole number")
        known = f"there are {', '.join(DATAFLOWS)}"
        _require(self.dataflow in DATAFLOWS, self, f"no dataflow {self.dataflow!r}; {known}")
        known = f"there are {', '.join(TABLES)}"
        _require(self.energy in TABLES, self, f"no energy table {self.energy!r}; {known}")
        edge = max(self.rows, self.cols)
        tile, sums = 2 * 2 * edge * edge, 2 * 4 * edge * edge  # 16-bit codes, int32 sums, two each
        _require(
            min(self.sram_a_bytes, self.sram_b_bytes) >= tile and self.sram_o_bytes >= sums,
            self,
            f"half a buffer must hold a tile of the array; give A and B {tile} bytes, O {sums}",
        )

    def us(self, cycles: float) -> float:
        """Return microseconds of that many cycles."""
        return cycles / self.clock_mhz


def _require(true: bool, machine: Machine, message: str) -> None:
    if not true:
        raise ValueError(f"machine {machine.name!r}: {message}")


MACHINES = {
    # 8 B a cycle puts its ridge at 256 operations a byte: ViT-B sits at the knee, DeiT-T below it.
    "edge32": Machine(
        "edge32",
        32,
        32,
        "ws",
        True,
        500.0,
        128 * KB,
        128 * KB,
        256 * KB,
        8.0,
        32,
        "refvit: an edge-class int8 array whose folds overlap",
    ),
    # Gemmini (Genc et al. 2021) with the buffers of Kim et al. 2023, figure 11: 256 KB scratchpad
    # shared by both operands, 128 KB accumulator, 16 B a cycle from L2; folds do not overlap.
    "edge16": Machine(
        "edge16",
        16,
        16,
        "ws",
        False,
        1000.0,
        128 * KB,
        128 * KB,
        128 * KB,
        16.0,
        16,
        "Gemmini-like, after Kim et al. 2023, figure 11",
    ),
}


def machine(which: str | Machine) -> Machine:
    """Return the preset of that name (a `Machine` passes through); ValueError lists the names."""
    if isinstance(which, Machine):
        return which
    if which not in MACHINES:
        raise ValueError(f"no machine {which!r}; there are {', '.join(MACHINES)}")
    return MACHINES[which]
