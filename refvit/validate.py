"""The accelerator model held against what others recorded, printed and built, as one table.

Each `Check` states beforehand how near it has to be; `refvit validate` prints them all, and
`refvit/accel/validation.md` is that output. Nothing is fitted: a figure that is farther off than
stated makes the command fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from refvit.accel import gemm_cycles, mapping_efficiency, sram_reads, step_gemm
from refvit.accel.published import (
    GROUP_VECTOR,
    GROUP_VECTOR_MS,
    KIM,
    ZIGZAG,
    group_vector_parts,
    ideal_cycles,
    kim_row,
    least_cycles,
    total_cycles,
)
from refvit.accel.records import Record, recorded
from refvit.accel.scalesim import dram_reads
from refvit.accel.systolic import DATAFLOWS, ceil_div, first_result_cycle, mapping, sram_outputs
from refvit.integer import PLAIN
from refvit.models import VARIANTS

KIM_STATED, ZIGZAG_STATED, GROUP_VECTOR_STATED = 0.01, 0.20, 1.5


@dataclass(frozen=True)
class Figure:
    """One figure: of what, the other's, ours, and how they differ; `off` is 0 where they agree and
    at most 1 where they are as near as stated. A `note` says what there is to know."""

    name: str
    theirs: float
    ours: float
    off: float
    note: str = ""


@dataclass(frozen=True)
class Check:
    """Figures of one source, and how near was stated that they are; with `about`, what is to be
    said of them, they are shown one by one."""

    name: str
    source: str
    stated: str
    figures: tuple[Figure, ...]
    about: str = ""

    @property
    def worst(self) -> Figure:
        return max(self.figures, key=lambda figure: figure.off)

    @property
    def ok(self) -> bool:
        return self.worst.off <= 1


def validate(folder: Path | None = None) -> list[Check]:
    """Return every check, on the records of the package or those in `folder`.

    Errors are those of `refvit.accel.records.recorded`.
    """
    records = recorded(folder)
    scale, rtl, zigs = (records[name] for name in ("scalesim", "rtl", "zigzag"))
    near = f"{ZIGZAG_STATED:.0%}, of its bytes' time where that is more"
    factor = f"a factor of {GROUP_VECTOR_STATED}"
    return [
        _exactly("stepped array: products and cycles", STEPPED, stepped()),
        _exactly("cycles, folds, SRAM and DRAM counts", SCALESIM, _each(scale, _scalesim)),
        _exactly("cycles, folds, first result", RTL, _each(rtl, _rtl)),
        Check(
            "GEMM operations and intensity", KIM_SOURCE, f"{KIM_STATED}", tuple(kim()), ALL_SHOWN
        ),
        _exactly("ideal cycles", ZIGZAG_SOURCE, _each(zigs, _zigzag_ideal)),
        Check("GEMM totals at 8 bytes a cycle", ZIGZAG_SOURCE, near, tuple(zigzag(zigs)), BELOW),
        Check("milliseconds an image", HUANG, factor, tuple(group_vector()), PEAK),
    ]


STEPPED = "the closed forms and the engine's int32 products, 96 shapes"
SCALESIM = "SCALE-Sim 3.0.0, compat=scalesim"
RTL = "SystemVerilog array, Icarus Verilog 11"
KIM_SOURCE = "Kim et al. 2023, arXiv 2302.14017, table 3"
ZIGZAG_SOURCE = "ZigZag 3.9.1, tpu_like"
HUANG = "Huang et al. 2023, TCAS-I, on a ZCU102"
ALL_SHOWN = (
    "BERT-Base at 8 bits, 1e9 operations and operations a byte, as `refvit roofline` counts."
)
BELOW = (
    "Cycles. ZigZag adds the load of A and the store of the last tile to the array's time, but not "
    "all of what crosses the port while the array works; so some of its totals are below what the "
    "bytes alone take at that bandwidth, which no machine can reach. Those are held against the "
    "bytes; the sums of a run are held against ZigZag as they are."
)
PEAK = (
    "The published peak is 64 x 32 MACs a cycle at 300 MHz, 1228.8 GOP/s (from a public summary "
    "of the paper, whose text was not at hand). Its mean of 762.7 is 62 %; the rest is where the "
    "parts below say: the MACs at that peak, an array not full, the vector unit, and memory waited "
    "for at 64 bytes a cycle, with what fits kept on chip, as the paper keeps its features. "
    "Assumed: weights that stay, folds that overlap, 1 MB a buffer, a vector lane an output "
    "channel. The last two are what other assumptions give; they are not held."
)


def _exactly(name: str, source: str, figures: Iterable[Figure]) -> Check:
    return Check(name, source, "exact", tuple(figures))


def _equal(name: str, theirs: float, ours: float) -> Figure:
    return Figure(name, theirs, ours, 0.0 if theirs == ours else float("inf"))


def _each(
    records: list[Record], compare: Callable[[Record], Iterable[tuple[str, Any, float]]]
) -> Iterator[Figure]:
    """Compare each figure that a record has: (what, theirs, ours); None is not recorded."""
    for r in records:
        where = " ".join(f"{key}={value}" for key, value in r.items() if isinstance(value, str))
        label = f"{r['M']}x{r['K']}x{r['N']} {where}"
        for what, theirs, ours in compare(r):
            if theirs is not None:
                yield _equal(f"{label}: {what}", theirs, ours)


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
        yield _equal(
            f"{label}: cycles", gemm_cycles(M, K, N, rows, cols, dataflow, overlap), cycles
        )
        wrong = int((product != PLAIN.matmul(a, b)).sum())
        yield _equal(f"{label}: wrong products", 0, wrong)


def _scalesim(r: Record) -> Iterator[tuple[str, Any, float]]:
    gemm, array = (r["M"], r["K"], r["N"]), (r["array_rows"], r["array_cols"], r["dataflow"])
    a, b, _ = mapping(*gemm, r["dataflow"])
    folds = ceil_div(a, array[0]) * ceil_div(b, array[1])
    cycles = gemm_cycles(*gemm, *array, compat="scalesim")
    yield "cycles", r["cycles"], cycles
    yield "folds", r["folds"], folds
    yield "cycles a fold", r["cycles_per_fold"], cycles / folds
    share = r["mapping_efficiency_pct"]
    near = round(100 * mapping_efficiency(*gemm, *array), 6)
    yield "mapping efficiency", None if share is None else round(share, 6), near
    reads = sram_reads(*gemm, *array)
    yield "SRAM reads of A", r["sram_ifmap_reads"], reads[0]
    yield "SRAM reads of B", r["sram_filter_reads"], reads[1]
    writes = sram_outputs(*gemm, array[0], r["dataflow"])[0]
    yield "SRAM writes", r["sram_ofmap_writes_true"], writes
    if r["ifmap_sram_kB"] and r["filter_sram_kB"]:
        sizes = (1024 * r["ifmap_sram_kB"], 1024 * r["filter_sram_kB"])
        words_a, words_b = dram_reads(*gemm, *array[1:], *sizes)
        yield "DRAM reads of A", r["dram_ifmap_reads"], words_a
        if words_b is not None:
            yield "DRAM reads of B", r["dram_filter_reads"], words_b


def _rtl(r: Record) -> Iterator[tuple[str, Any, float]]:
    shape = (r["M"], r["K"], r["N"], r["R"], r["C"], r["dataflow"], bool(r["overlap"]))
    a, b, _ = mapping(*shape[:3], r["dataflow"])
    yield "cycles", r["cycles"], gemm_cycles(*shape)
    yield "folds", r["folds"], ceil_div(a, r["R"]) * ceil_div(b, r["C"])
    yield "first result", r["first_output_cycle"], first_result_cycle(*shape)


def kim() -> Iterator[Figure]:
    """Three lengths of BERT-Base: 1e9 operations and operations a byte of its GEMMs."""
    for length, *rows in KIM:
        names = ("projections", "attention products", "feed-forward")
        for name, theirs, ours in zip(names, rows, kim_row(length), strict=True):
            for what, x, y in zip(("GFLOP", "FLOP/B"), theirs, ours, strict=True):
                yield Figure(f"l={length} {name}, {what}", x, y, abs(x - y) / KIM_STATED)


def _zigzag_ideal(r: Record) -> Iterator[tuple[str, Any, float]]:
    yield "ideal", r["ideal_cycles"], ideal_cycles(r["M"], r["K"], r["N"], ZIGZAG)


def zigzag(records: list[Record]) -> Iterator[Figure]:
    """Each GEMM and each run's sum; a total that no machine with that bandwidth could reach is
    held against the bytes that have to cross the port instead."""
    sums: dict[str, tuple[float, float]] = {}
    for r in records:
        gemm, theirs = (r["M"], r["K"], r["N"]), r["plus_offload"]
        ours, least = total_cycles(*gemm, ZIGZAG), least_cycles(*gemm, ZIGZAG)
        before = sums.get(r["run"], (0.0, 0.0))
        sums[r["run"]] = (before[0] + theirs, before[1] + ours)
        note = f"its bytes alone take {least:,.0f}" if theirs < least else ""
        off = abs(ours / max(theirs, least) - 1) / ZIGZAG_STATED
        yield Figure(f"{r['run']} {r['layer']}", theirs, ours, off, note)
    for run, (all_theirs, all_ours) in sums.items():
        off = abs(all_ours / all_theirs - 1) / ZIGZAG_STATED
        yield Figure(f"{run} in all", all_theirs, all_ours, off)


def group_vector() -> Iterator[Figure]:
    """Both models on the machine that the paper's peak describes, with where the time goes."""
    series = replace(GROUP_VECTOR, overlap=False)
    slower = replace(GROUP_VECTOR, dram_bytes_per_cycle=GROUP_VECTOR.dram_bytes_per_cycle / 2)
    for name, theirs in GROUP_VECTOR_MS.items():
        parts = group_vector_parts(VARIANTS[name])
        ours = parts.pop("total")
        off = np.log(max(ours / theirs, theirs / ours)) / np.log(GROUP_VECTOR_STATED)
        others = (group_vector_parts(VARIANTS[name], hw)["total"] for hw in (series, slower))
        parts |= dict(zip(("folds in series", "half the bandwidth"), others, strict=True))
        note = ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items())
        yield Figure(name, theirs, ours, float(off), note)
