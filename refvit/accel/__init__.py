"""The accelerator: cycles, traffic and energy of a model's layers on a systolic array.

To read it, one layer from its sizes to its row: `workload` (what a model asks for), `systolic`
(cycles of a GEMM on the array), `tiles` (a GEMM cut into tiles, and what each loads and stores),
`stream` (tiles through two buffers), `traffic` and `memory` (every cut, and which one is taken),
`vector` and `energy`, `gemm` and `operators` (a layer's cost), `steps` and `residency` (what need
not be stored), `simulate` and `row_of`. `hardware`, `possible` and `presets` are the machines.
Beside that road lie the array stepped clock by clock (`stepped`, `timeline`), tiles in time
(`stages`), the `roofline`, what others recorded (`validated_records` and `validated_papers` in the
package above), sweeps (`grid`, `sweep`) and what draws and prints.
"""

from refvit.accel.gpus import GPUS, Gpu
from refvit.accel.machine import MACHINES, Machine, Passes, machine, machine_of, read_machine
from refvit.accel.report import Report
from refvit.accel.roofline import Roofline, roofline
from refvit.accel.row import Row
from refvit.accel.simulate import simulate, simulate_layers
from refvit.accel.stages import Stage, tile_stages
from refvit.accel.stepped import step_gemm
from refvit.accel.systolic import gemm_cycles, mapping_efficiency, sram_reads
from refvit.accel.timeline import Timeline, timeline
from refvit.accel.widths import site_widths, sites
from refvit.accel.workload import Layer, variant, workload

__all__ = [
    "GPUS",
    "MACHINES",
    "Gpu",
    "Layer",
    "Machine",
    "Passes",
    "Report",
    "Roofline",
    "Row",
    "Stage",
    "Timeline",
    "gemm_cycles",
    "machine",
    "machine_of",
    "mapping_efficiency",
    "read_machine",
    "roofline",
    "simulate",
    "simulate_layers",
    "site_widths",
    "sites",
    "sram_reads",
    "step_gemm",
    "tile_stages",
    "timeline",
    "variant",
    "workload",
]
