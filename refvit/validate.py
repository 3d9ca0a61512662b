"""The accelerator model held against what others recorded, printed and built, as one table.

Each `Check` states how near it has to be; `refvit validate` prints them all, and
`refvit/accel/validation.md` is that output. Nothing is fitted: a figure that is farther off than
stated, and has no excuse that can be computed, makes the command fail.
"""

from __future__ import annotations

from pathlib import Path

from refvit.accel.checks import Check, Figure, exactly
from refvit.accel.records import recorded
from refvit.validated_papers import (
    GROUP_VECTOR_STATED,
    KIM_STATED,
    RATIO_STATED,
    group_vector,
    group_vector_ratio,
    kim,
    kim_used,
)
from refvit.validated_records import (
    ZIGZAG_STATED,
    each,
    rtl,
    scalesim,
    stepped,
    zigzag_ideal,
    zigzag_rows,
    zigzag_sums,
)

__all__ = ["Check", "Figure", "validate"]


def validate(folder: Path | None = None) -> list[Check]:
    """Return every check, on the records of the package or those in `folder`.

    Errors are those of `refvit.accel.records.recorded`.
    """
    records = recorded(folder)
    scale, array, zigs = (records[name] for name in ("scalesim", "rtl", "zigzag"))
    near, ratio = f"{ZIGZAG_STATED:.0%}", f"{RATIO_STATED:.0%}, said once it was known"
    factor = f"a factor of {GROUP_VECTOR_STATED}, said with the first result"
    return [
        exactly("stepped array: products and cycles", STEPPED, stepped()),
        exactly("cycles, utilization, SRAM and DRAM counts", SCALESIM, each(scale, scalesim)),
        exactly("cycles, folds, first result", RTL, each(array, rtl)),
        Check("GEMM operations and intensity", KIM, f"{KIM_STATED}", tuple(kim()), ALL_SHOWN),
        Check("share of the array used by products", GEMMINI, RANGE, tuple(kim_used()), BOUND),
        exactly("ideal cycles", ZIGZAG, each(zigs, zigzag_ideal)),
        Check("GEMM totals, the sum of a run", ZIGZAG, near, tuple(zigzag_sums(zigs)), SUMS),
        Check("GEMM totals, one by one", ZIGZAG, near, tuple(zigzag_rows(zigs)), BELOW),
        Check("milliseconds an image", HUANG, factor, tuple(group_vector()), PEAK),
        Check("ViT-S over ViT-T", HUANG, ratio, tuple(group_vector_ratio()), RATIO),
    ]


STEPPED = "the closed forms and the engine's int32 products, 96 shapes"
SCALESIM = "SCALE-Sim 3.0.0, compat=scalesim"
RTL = "SystemVerilog array, Icarus Verilog 11"
KIM = "Kim et al. 2023, arXiv 2302.14017, table 3"
GEMMINI = "Kim et al. 2023, figure 13, a 16 x 16 Gemmini"
RANGE = "66 to 91%, or above for a reason"
ZIGZAG = "ZigZag 3.9.1, tpu_like, 8 bytes a cycle"
HUANG = "Huang et al. 2023, TCAS-I, on a ZCU102"
ALL_SHOWN = (
    "BERT-Base at 8 bits, 1e9 operations and operations a byte, as `refvit roofline` counts."
)
BOUND = (
    "Per cents: MACs over cycles and PEs of the matrix products of BERT-Base at 512 tokens, with "
    "their loads, stores and stalls. Theirs is the nearer end of the range over all splits of the "
    "SRAM they tried; as far as the order of its rows can be told, 66 to 71 % are with 64 KB of "
    "accumulator, as `gemmini16` has, and 88 to 91 % with 128 KB and more, as `edge16` has. The "
    "model has none of the DMA, TLB and instructions that hold a Gemmini back, so its share is an "
    "upper bound: less than 66 % would fail, more than 91 % is said and excused, and is not what "
    "they measured."
)
SUMS = "Cycles of all its GEMMs, against ZigZag as it is."
BELOW = (
    "Cycles of each, against ZigZag as it is, by the simulator itself. Some of ZigZag's totals are "
    "below the cycles that A, B and the result take at 8 bytes a cycle, each moved once: it adds "
    "to the array's time the load of A, for the most part, and the store of the last tile, but not "
    "all of what crosses the port while the array works. No machine with that port can be as fast, "
    "so a figure farther off than stated is excused where that is so, if it is as near to the time "
    "of its bytes."
)
PEAK = (
    "The published peak is 64 x 32 MACs a cycle at 300 MHz, 1228.8 GOP/s (from a public summary "
    "of the paper, whose text was not at hand). Its mean of 762.7 is 62 %; the rest is where the "
    "parts below say: the MACs at that peak, an array not full, the vector unit, and memory waited "
    "for at 64 bytes a cycle, with what fits kept on chip, as the paper keeps its features. "
    "Assumed: weights that stay, folds that overlap, 1 MB a buffer, a vector lane an output "
    "channel. The last two are what other assumptions give; they are not held. The factor was "
    "written down together with the first result, not before it, and it is wide: folds in series "
    "would pass as well, so this does not tell whether the board's folds overlap."
)
RATIO = (
    "The same two times, one over the other: a common factor of both, which the factor above would "
    "let pass, is not in it. This tolerance too was chosen when the ratio was known."
)
