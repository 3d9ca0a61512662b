"""Machines: the array, its buffers, its memory and its clock, as a table of named presets."""

from __future__ import annotations

from dataclasses import dataclass

from refvit.accel.systolic import DATAFLOWS

KB = 1024


@dataclass(frozen=True)
class Machine:
    """An accelerator of rows x cols PEs.

    The three SRAMs are double-buffered: half of each holds the tile in use. `vector_lanes` elements
    pass the vector unit each cycle. Raises ValueError where no tile of the array would fit.
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

    def __post_init__(self) -> None:
        whole = (
            self.rows,
            self.cols,
            self.sram_a_bytes,
            self.sram_b_bytes,
            self.sram_o_bytes,
            self.vector_lanes,
            self.dram_bytes_per_cycle,
            self.clock_mhz,
        )
        if min(whole) <= 0:
            raise ValueError(f"machine {self.name!r}: every size is above 0; got {whole}")
        if self.dataflow not in DATAFLOWS:
            raise ValueError(
                f"machine {self.name!r}: no dataflow {self.dataflow!r}; "
                f"there are {', '.join(DATAFLOWS)}"
            )
        edge = max(self.rows, self.cols)
        tile, sums = 2 * 2 * edge * edge, 2 * 4 * edge * edge  # 16-bit codes, int32 sums, two each
        if min(self.sram_a_bytes, self.sram_b_bytes) < tile or self.sram_o_bytes < sums:
            raise ValueError(
                f"machine {self.name!r}: half a buffer must hold a tile of the array; "
                f"give A and B {tile} bytes, O {sums}"
            )

    def us(self, cycles: float) -> float:
        """Return microseconds of that many cycles."""
        return cycles / self.clock_mhz


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
