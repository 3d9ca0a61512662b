"""The accelerator: cycles, traffic and energy of a model's layers on a systolic array."""

from refvit.accel.gpus import GPUS, Gpu
from refvit.accel.machine import MACHINES, Machine, Passes, machine, machine_of, read_machine
from refvit.accel.report import Report
from refvit.accel.roofline import Roofline, roofline
from refvit.accel.row import Row
from refvit.accel.simulate import simulate, simulate_layers
from refvit.accel.stepped import step_gemm
from refvit.accel.systolic import gemm_cycles, mapping_efficiency, sram_reads
from refvit.accel.timeline import Timeline, timeline
from refvit.accel.widths import site_widths, sites
from refvit.accel.workload import Layer, workload

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
    "timeline",
    "workload",
]
