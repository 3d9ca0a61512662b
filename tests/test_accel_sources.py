"""Presets and GPUs: every number against what its source prints, copied by hand."""

from dataclasses import fields
from fractions import Fraction

import pytest

from refvit.accel import GPUS, MACHINES, Gpu, Machine, Passes, roofline
from refvit.models import VARIANTS

KB, MB = 1024, 1024**2
SRAMS = ("sram_a_bytes", "sram_b_bytes", "sram_o_bytes")

# Numbers of the machines, field by field. "refvit" marks what no source gives: a choice of ours,
# said so in presets.py.
PRESETS = {
    "edge32": {  # refvit, all of it; 8 B a cycle is the ridge of 256 of ACCELERATOR.md, section 4
        "rows": 32, "cols": 32, "dataflow": "ws", "overlap": True, "clock_mhz": 500.0,
        "sram_a_bytes": 128 * KB, "sram_b_bytes": 128 * KB, "sram_o_bytes": 256 * KB,
        "accumulator_bytes": 0, "dram_bytes_per_cycle": 8.0, "vector_lanes": 32,
        "widths": (4, 8, 16), "multiplier_bits": 8,
    },
    "edge16": {  # Kim et al. 2023, figure 11: 16 wide, 1 GHz, 256 KB, 128 KB, 16 B a cycle from L2
        "rows": 16, "cols": 16, "dataflow": "ws", "overlap": False, "clock_mhz": 1000.0,
        "sram_a_bytes": 128 * KB, "sram_b_bytes": 128 * KB, "sram_o_bytes": 128 * KB,
        "accumulator_bytes": 0, "dram_bytes_per_cycle": 16.0, "vector_lanes": 16,
        "widths": (4, 8, 16), "multiplier_bits": 8,  # 4-bit codes: refvit
    },
    "gemmini16": {  # Genc et al. 2021: 16 x 16, 256 KB, 64 KB, 1 GHz, a bus of 128 bits
        "rows": 16, "cols": 16, "dataflow": "ws", "overlap": True, "clock_mhz": 1000.0,
        "sram_a_bytes": 112 * KB, "sram_b_bytes": 112 * KB, "sram_o_bytes": 32 * KB,
        "accumulator_bytes": 64 * KB, "dram_bytes_per_cycle": 16.0, "vector_lanes": 16,
        "widths": (4, 8, 16), "multiplier_bits": 8,
    },
    "tpuv1": {  # Jouppi et al. 2017: 256 x 256, 700 MHz, 24 + 4 MiB, 30 GiB/s, 4 x 64 KiB of FIFO
        "rows": 256, "cols": 256, "dataflow": "ws", "overlap": True, "clock_mhz": 700.0,
        "sram_a_bytes": 12 * MB, "sram_b_bytes": 256 * KB, "sram_o_bytes": 12 * MB,
        "accumulator_bytes": 4 * MB, "dram_bytes_per_cycle": 46.0, "vector_lanes": 256,
        "widths": (8, 16), "multiplier_bits": 8,
    },
    "eyeriss-like": {  # Chen et al. 2017: 12 x 14, 16 bits, 108 KB, 200 MHz; 64 bits at 90 MHz
        "rows": 12, "cols": 14, "dataflow": "ws", "overlap": True, "clock_mhz": 200.0,
        "sram_a_bytes": 36 * KB, "sram_b_bytes": 36 * KB, "sram_o_bytes": 36 * KB,
        "accumulator_bytes": 0, "dram_bytes_per_cycle": 3.6, "vector_lanes": 14,
        "widths": (16,), "multiplier_bits": 16,
    },
    "cloud128": {  # a quarter of a TPU v3 chip, Jouppi et al. 2020; MXUs of 128 x 128 at 940 MHz
        "rows": 128, "cols": 128, "dataflow": "ws", "overlap": True, "clock_mhz": 940.0,
        "sram_a_bytes": 2 * MB, "sram_b_bytes": 2 * MB, "sram_o_bytes": 4 * MB,
        "accumulator_bytes": 0, "dram_bytes_per_cycle": 239.0, "vector_lanes": 512,
        "widths": (4, 8, 16), "multiplier_bits": 8,
    },
}  # fmt: skip
ALIKE = {"energy": "horowitz45", "fused": ("requantize", "gelu"), "passes": Passes()}


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_is_that_of_its_source(name):
    hw = MACHINES[name]
    written = PRESETS[name] | ALIKE
    assert {key: getattr(hw, key) for key in written} == written
    rest = [each for each in fields(Machine) if each.name not in {*written, "name", "source"}]
    assert [getattr(hw, each.name) for each in rest] == [each.default for each in rest]


def test_no_preset_is_left_out_and_passes_are_those_of_the_model():
    assert set(PRESETS) == set(MACHINES)
    passes = {each.name: getattr(Passes(), each.name) for each in fields(Passes)}
    assert passes == {
        "softmax": 3, "layer_norm": 3, "gelu": 1, "requantize": 1, "add": 1, "mean": 1
    }  # fmt: skip


# What the sources say in other units than a preset's fields.
def test_presets_add_up_to_what_their_sources_say():
    whole = {name: sum(getattr(hw, key) for key in SRAMS) for name, hw in MACHINES.items()}
    edge16, gemmini, tpu = MACHINES["edge16"], MACHINES["gemmini16"], MACHINES["tpuv1"]
    eyeriss, cloud = MACHINES["eyeriss-like"], MACHINES["cloud128"]
    assert edge16.sram_a_bytes + edge16.sram_b_bytes == 256 * KB  # the scratchpad
    assert edge16.sums_bytes == 128 * KB  # the accumulator
    assert whole["gemmini16"] == 256 * KB
    assert gemmini.sram_o_bytes * 8 == 256 * KB  # an eighth for results
    assert whole["tpuv1"] - tpu.sram_b_bytes == 24 * MB  # the unified buffer
    assert whole["tpuv1"] - tpu.sram_b_bytes + tpu.accumulator_bytes == 28 * MB
    assert tpu.sram_b_bytes == 4 * 64 * KB
    assert tpu.dram_bytes_per_cycle == round(30 * 1024**3 / 700e6)
    tops = 2 * tpu.rows * tpu.cols * tpu.clock_mhz / 1e6
    assert round(tops) == 92  # TOPS of Jouppi et al. 2017
    assert whole["eyeriss-like"] == 108 * KB
    assert eyeriss.dram_bytes_per_cycle == 8 * 90 / 200
    assert eyeriss.rows * eyeriss.cols == 168
    assert cloud.dram_bytes_per_cycle == 900e9 // 4 // 940e6
    chip = 4 * 2 * cloud.rows * cloud.cols * cloud.clock_mhz / 1e6
    assert round(chip) == 123  # TFLOP/s of a TPU v3 chip
    assert whole["cloud128"] == 32 * MB // 4
    edge32 = MACHINES["edge32"]
    assert 2 * edge32.rows * edge32.cols / edge32.dram_bytes_per_cycle == 256


# Tera-operations a second at FP32, FP16, INT8, INT4, dense, and GB/s.
CARDS = {
    # NVIDIA, GA102 whitepaper, table of the RTX A6000 (half of what it prints with sparsity)
    "a6000": ("38.7", "154.8", "309.7", "619.3", "768"),
    # NVIDIA, A100 whitepaper, 40 GB SXM
    "a100-40g": ("19.5", "312", "624", "1248", "1555"),
    # NVIDIA, V100 data sheet, PCIe, but INT8, four times the SXM2's 15.7; no INT4
    "v100": ("14", "112", "62", None, "900"),
    # NVIDIA, H100 data sheet, SXM5: 1979 and 3958 with sparsity; LLM-Viewer's 3 TiB/s; no INT4
    "h100-sxm": ("67", "989.5", "1979", None, "3072"),
    # NVIDIA, L40 data sheet
    "l40": ("90.5", "181", "362", "724", "864"),
}
# QUANTIZATION.md, section 1.1, by LLM-Viewer's table: ridges of FP16 and INT8.
RIDGES = {
    "a6000": (202, 403),
    "a100-40g": (201, 401),
    "v100": (124, 69),
    "h100-sxm": (322, 644),
    "l40": (209, 419),
}


@pytest.mark.parametrize("name", CARDS)
def test_every_number_of_a_gpu_is_that_of_its_source(name):
    card = GPUS[name]
    numbers = ("fp32", "fp16", "int8", "int4", "gb_per_second")
    assert {*numbers, "name", "source"} == {each.name for each in fields(Gpu)}
    for key, written in zip(numbers, CARDS[name], strict=True):
        found = getattr(card, key)
        assert found == (None if written is None else float(written)), key
    ridges = [Fraction(CARDS[name][at]) / Fraction(CARDS[name][4]) * 1000 for at in (1, 2)]
    assert tuple(round(float(ridge)) for ridge in ridges) == RIDGES[name]


@pytest.mark.parametrize("name", RIDGES)
def test_gpus_have_the_published_ridges(name):
    got = [roofline(VARIANTS["nano_vit"], name, bits).ridge for bits in (16, 8)]
    assert tuple(round(ridge) for ridge in got) == RIDGES[name]


def test_no_gpu_is_left_out_and_formats_keep_their_proportions():
    assert set(CARDS) == set(RIDGES) == set(GPUS)
    for card in GPUS.values():
        assert card.tops(8) == pytest.approx(2 * card.fp16, rel=1e-3) or card.name == "v100"
        assert card.tops(4) == (card.int4 or card.int8)
        if card.int4 is not None:
            assert card.int4 == pytest.approx(2 * card.int8, rel=1e-3)
