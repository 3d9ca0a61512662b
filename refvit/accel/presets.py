"""The machines refvit knows by name, each with the source of its numbers.

What a source does not give is said so in its line: published chips differ from this model in more
than their numbers, so a preset is a machine of their proportions, not the chip.
"""

from __future__ import annotations

from refvit.accel.hardware import Machine

KB = 1024
MB = 1024 * KB

MACHINES = {
    m.name: m
    for m in (
        # 8 B a cycle puts its ridge at 256 operations a byte: ViT-B sits at the knee, DeiT-T
        # below it.
        Machine(
            "edge32", 32, 32, "ws", True, 500.0, 128 * KB, 128 * KB, 256 * KB, 8.0, 32,
            "refvit: an edge-class int8 array whose folds overlap",
        ),
        # Gemmini (Genc et al. 2021) with the buffers of Kim et al. 2023, figure 11: 256 KB
        # scratchpad shared by both operands, 128 KB accumulator, 16 B a cycle from L2 (see
        # `BEHIND_L2`); folds do not overlap.
        Machine(
            "edge16", 16, 16, "ws", False, 1000.0, 128 * KB, 128 * KB, 128 * KB, 16.0, 16,
            "Gemmini-like, after Kim et al. 2023, figure 11",
        ),
        # Its PEs hold two weights, of which one is loaded while the other works: folds overlap.
        # A 128-bit bus to L2 (see `BEHIND_L2`). Half the scratchpad for each operand, an eighth
        # given to results, and a vector unit of the array's width are refvit's.
        Machine(
            "gemmini16", 16, 16, "ws", True, 1000.0, 112 * KB, 112 * KB, 32 * KB, 16.0, 16,
            "Genc et al. 2021, Gemmini: 16 x 16, 256 KB scratchpad, 64 KB accumulator, 1 GHz",
            accumulator_bytes=64 * KB,
        ),
        # 30 GiB/s of weight memory at 700 MHz is 46 B a cycle. The unified buffer, 24 MiB, holds
        # A and results; 4 tiles of 64 KiB are the weight FIFO; 256 activations a cycle. The chip
        # has no softmax or LayerNorm: nonlinear="host" is nearer to it.
        Machine(
            "tpuv1", 256, 256, "ws", True, 700.0, 12 * MB, 256 * KB, 12 * MB, 46.0, 256,
            "Jouppi et al. 2017, TPU v1: 256 x 256 int8, 700 MHz, 28 MiB, 30 GiB/s",
            accumulator_bytes=4 * MB, widths=(8, 16),
        ),
        # 108 KB of global buffer, here 36 KB for each of the three. Its dataflow is row-stationary,
        # which is not modelled; weights stay here. A 64-bit link at 90 MHz against 200 MHz is
        # 3.6 B a cycle. Codes and multipliers of 16 bits; its vector unit is refvit's.
        Machine(
            "eyeriss-like", 12, 14, "ws", True, 200.0, 36 * KB, 36 * KB, 36 * KB, 3.6, 14,
            "Chen et al. 2017, Eyeriss: 12 x 14, 16 bits, 108 KB, 200 MHz; weight-stationary here",
            widths=(16,), multiplier_bits=16,
        ),
        # One of the four arrays of a TPU v3 chip, with int8 PEs for its bfloat16 ones: 123 TFLOP/s
        # are 4 x 128 x 128 at 940 MHz, and a quarter of 900 GB/s is 239 B a cycle. A quarter of
        # 32 MiB of vector memory and 512 lanes are refvit's reading.
        Machine(
            "cloud128", 128, 128, "ws", True, 940.0, 2 * MB, 2 * MB, 4 * MB, 239.0, 512,
            "a quarter of a TPU v3 chip (Jouppi et al. 2020) with int8 PEs",
        ),
    )
}  # fmt: skip

# Presets whose bytes a cycle are those of a link to L2. Figure 11 of Kim et al. 2023 has 2 MB of it
# and 64 B a cycle from there to DRAM; Gemmini's SoC has one too.
BEHIND_L2 = ("edge16", "gemmini16")


def behind_l2(machine: Machine) -> bool:
    """Return whether a machine has the link to L2 of the preset that it is, or stands on."""
    base = machine.source.partition(" with other ")[0]  # as `machine_of` names what a file changes
    presets = [MACHINES[name] for name in BEHIND_L2]
    return any(
        base in (each.name, each.source)
        and machine.dram_bytes_per_cycle == each.dram_bytes_per_cycle
        for each in presets
    )
