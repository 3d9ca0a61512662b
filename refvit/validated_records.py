"""Figures of single GEMMs: an array stepped here, SCALE-Sim's and the RTL's records, ZigZag's rows.

Every figure of the first three has to be equal. Of SCALE-Sim's columns those are left out that
have no closed form, B's DRAM reads of output-stationary runs and the cycles with prefetch, and
those that say nothing more, bandwidths and the stalls that its runs do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from refvit.accel import gemm_cycles, mapping_efficiency, sram_reads, step_gemm
from refvit.accel.checks import Figure, equal
from refvit.accel.published import ZIGZAG, ideal_cycles, least_cycles, simulated_cycles
from refvit.accel.records import Record
from refvit.accel.scalesim import (
    compute_utilization_pct,
    dram_reads,
    dram_writes,
    overall_utilization_pct,
    reported_cycles,
    sram_writes,
)
from refvit.accel.systolic import DATAFLOWS, first_result_cycle, folds, sram_outputs
from refvit.integer import PLAIN

ZIGZAG_STATED = 0.20
Compared = Iterator[tuple[str, Any, float]]  # what, theirs, ours


def each(records: list[Record], compare: Callable[[Record], Iterable[Any]]) -> Iterator[Figure]:
    """Compare each figure that a record has; None is not recorded."""
    for r in records:
        where = " ".join(f"{key}={value}" for key, value in r.items() if isinstance(value, str))
        label = f"{r['M']}x{r['K']}x{r['N']} {where}"
        for what, theirs, ours in compare(r):
            if theirs is not None:
                yield equal(f"{label}: {what}", theirs, ours)


def stepped() -> Iterator[Figure]:
    """Step random GEMMs, edge tiles and arrays of one PE among them, in every dataflow."""
    rng = np.random.default_rng(0)
    for number in range(96):
        dataflow, overlap = DATAFLOWS[number % 3], bool(number // 3 % 2)
        M, K, N = (int(x) for x in rng.integers(1, 14, 3))
        rows, cols = (int(x) for x in rng.integers(1, 6, 2))
        a, b = (rng.integers(-128, 128, size).astype(np.int8) for size in ((M, K), (K, N)))
        product, cycles = step_gemm(a, b, rows, cols, dataflow, overlap)
        label = f"{M}x{K}x{N} on {rows}x{cols} {dataflow}"
        yield equal(f"{label}: cycles", gemm_cycles(M, K, N, rows, cols, dataflow, overlap), cycles)
        wrong = int((product != PLAIN.matmul(a, b)).sum())
        yield equal(f"{label}: wrong products", 0, wrong)


def scalesim(r: Record) -> Compared:
    """A record of SCALE-Sim: cycles, utilization and SRAM, and DRAM where it was a full run."""
    gemm = (r["M"], r["K"], r["N"], r["array_rows"], r["array_cols"], r["dataflow"])
    cycles, count = gemm_cycles(*gemm, compat="scalesim"), folds(*gemm)
    yield "cycles", r["cycles"], cycles
    yield "folds", r["folds"], count
    yield "cycles a fold", r["cycles_per_fold"], cycles / count
    yield "cycles reported", r["scalesim_reported_total_cycles"], reported_cycles(cycles)
    macs, (rows, cols) = r["M"] * r["K"] * r["N"], gemm[3:5]
    for key, ours in (
        ("mapping_efficiency_pct", 100 * mapping_efficiency(*gemm)),
        ("overall_util_pct", overall_utilization_pct(macs, cycles, rows, cols)),
        ("compute_util_pct_as_reported", compute_utilization_pct(*gemm)),
    ):
        yield key, _six(r[key]), round(ours, 6)
    said = r["scalesim_overall_util_pct"]
    if said is not None:
        ours = overall_utilization_pct(macs, reported_cycles(cycles), rows, cols)
        yield "overall utilization reported", _six(said), round(ours, 6)
    yield from _accesses(r, *gemm)


def _accesses(r: Record, M: int, K: int, N: int, rows: int, cols: int, dataflow: str) -> Compared:
    """Words read and written: those of DRAM depend on the sizes of the SRAMs."""
    gemm, sizes = (M, K, N), [r[f"{name}_sram_kB"] for name in ("ifmap", "filter", "ofmap")]
    reads = sram_reads(*gemm, rows, cols, dataflow)
    yield "SRAM reads of A", r["sram_ifmap_reads"], reads[0]
    yield "SRAM reads of B", r["sram_filter_reads"], reads[1]
    yield "SRAM writes", r["sram_ofmap_writes_true"], sram_outputs(*gemm, rows, dataflow)[0]
    reported = sram_writes(*gemm, rows, cols, dataflow)
    yield "SRAM writes reported", r["sram_ofmap_writes_as_reported"], reported
    if sizes[0] and sizes[1]:
        a, b = dram_reads(*gemm, cols, dataflow, 1024 * sizes[0], 1024 * sizes[1])
        yield "DRAM reads of A", r["dram_ifmap_reads"], a
        if b is not None:
            yield "DRAM reads of B", r["dram_filter_reads"], b
    if sizes[2]:
        words = dram_writes(*gemm, rows, cols, dataflow, 1024 * sizes[2])
        yield "DRAM writes", r["dram_ofmap_writes"], words


def _six(share: float | None) -> float | None:
    """Per cents to the six decimals that are recorded."""
    return None if share is None else round(share, 6)


def rtl(r: Record) -> Compared:
    """A run of the SystemVerilog array."""
    shape = (r["M"], r["K"], r["N"], r["R"], r["C"], r["dataflow"])
    yield "cycles", r["cycles"], gemm_cycles(*shape, bool(r["overlap"]))
    yield "folds", r["folds"], folds(*shape)
    yield "first result", r["first_output_cycle"], first_result_cycle(*shape, bool(r["overlap"]))


def zigzag_ideal(r: Record) -> Compared:
    """A GEMM's folds alone."""
    yield "ideal", r["ideal_cycles"], ideal_cycles(r["M"], r["K"], r["N"], ZIGZAG)


def zigzag_rows(records: list[Record]) -> Iterator[Figure]:
    """Each GEMM alone against ZigZag itself."""
    for r in records:
        gemm = (r["M"], r["K"], r["N"], ZIGZAG)
        label = f"{r['run']} {r['layer']}"
        yield zigzag_row(label, r["plus_offload"], simulated_cycles(*gemm), least_cycles(*gemm))


def zigzag_row(label: str, theirs: float, ours: float, least: float) -> Figure:
    """One of them. A total below `least`, the cycles its bytes take, is one that no machine can
    reach: it excuses what is as near to those cycles as was stated for the total.

    >>> zigzag_row("x", 80, 110, 100).excuse, zigzag_row("x", 80, 130, 100).excuse
    ('its bytes alone take 100, refvit 10% more', '')
    """
    off = abs(ours / theirs - 1) / ZIGZAG_STATED
    bytes_alone = f"its bytes alone take {least:,.0f}"
    possible = theirs >= least
    near = abs(ours / least - 1) <= ZIGZAG_STATED
    excuse = f"{bytes_alone}, refvit {ours / least - 1:.0%} more" if off > 1 and near else ""
    if possible:
        return Figure(label, theirs, ours, off)
    return Figure(label, theirs, ours, off, "" if excuse else bytes_alone, excuse)


def zigzag_sums(records: list[Record]) -> Iterator[Figure]:
    """The sum of each run, against ZigZag itself."""
    for run in dict.fromkeys(r["run"] for r in records):
        layers = [r for r in records if r["run"] == run]
        theirs = sum(r["plus_offload"] for r in layers)
        ours = sum(simulated_cycles(r["M"], r["K"], r["N"], ZIGZAG) for r in layers)
        yield Figure(run, theirs, ours, abs(ours / theirs - 1) / ZIGZAG_STATED)
