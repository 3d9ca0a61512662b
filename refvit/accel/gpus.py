"""GPUs as a roofline sees them: a peak for each width and the bandwidth of their memory.

FP16, INT8 and the bandwidth are those of LLM-Viewer (Yuan et al. 2024, hardware_params.py), so that
the ridges are its own. FP32 (without tensor cores) and INT4 are NVIDIA's figures for the same card.
All are dense, without the factor of two of structured sparsity. A card without INT4 arithmetic
runs 4-bit codes at its INT8 peak, after unpacking; they still take half the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMATS = {32: "FP32", 16: "FP16", 8: "INT8", 4: "INT4"}


@dataclass(frozen=True)
class Gpu:
    """Tera-operations a second by format, and gigabytes a second; `int4` is None where the card has
    no such arithmetic."""

    name: str
    fp32: float
    fp16: float
    int8: float
    int4: float | None
    gb_per_second: float
    source: str

    def tops(self, bits: int) -> float:
        """Return the peak for codes of `bits`, in 1e12 operations a second.

        Raises ValueError for a width that is none of its formats.

        >>> GPUS["v100"].tops(4), GPUS["a100-40g"].tops(4)
        (62.0, 1248.0)
        """
        if bits not in FORMATS:
            raise ValueError(f"{self.name} has FP32, FP16, INT8, INT4; give bits=32, 16, 8 or 4")
        peaks = {32: self.fp32, 16: self.fp16, 8: self.int8, 4: self.int4}
        return peaks[bits] or self.int8


_CARDS = (
    Gpu("a6000", 38.7, 154.8, 309.7, 619.3, 768.0, "NVIDIA GA102 whitepaper, RTX A6000"),
    Gpu("a100-40g", 19.5, 312.0, 624.0, 1248.0, 1555.0, "NVIDIA A100 whitepaper, 40 GB SXM"),
    # Volta's tensor cores take FP16 alone. INT8 is DP4A, four times FP32: 62 is four times the 15.7
    # of the SXM2 card, beside the PCIe card's 112; LLM-Viewer has the two together.
    Gpu("v100", 14.0, 112.0, 62.0, None, 900.0, "NVIDIA Volta whitepaper, V100 PCIe; no INT4"),
    # The data sheet has 3.35 TB/s for HBM3, 9 % more: its ridges would be 295 and 591.
    Gpu("h100-sxm", 67.0, 989.5, 1979.0, None, 3072.0, "NVIDIA H100 data sheet, SXM5; no INT4"),
    Gpu("l40", 90.5, 181.0, 362.0, 724.0, 864.0, "NVIDIA L40 data sheet"),
)
GPUS = {card.name: card for card in _CARDS}


def find_gpu(name: str) -> Gpu | None:
    """Return the GPU of that name, of any case, or the one that it begins; None if there is none.

    >>> find_gpu("A100").name, find_gpu("H100_SXM").name, find_gpu("edge32")
    ('a100-40g', 'h100-sxm', None)
    """
    key = name.lower().replace("_", "-")
    return next((card for card in _CARDS if f"{card.name}-".startswith(f"{key}-")), None)
