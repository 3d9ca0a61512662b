"""`Machine`: the array, its buffers, its vector unit, its memory and its clock, all in numbers."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from numbers import Integral
from typing import Any

from refvit.accel.possible import brief, check, require
from refvit.accel.systolic import mapping

MOST_PASSES = 1000


@dataclass(frozen=True)
class Passes:
    """How often the vector unit goes over an element: softmax for maximum, sum and scale,
    LayerNorm for mean, variance and scale, the others once."""

    softmax: int = 3
    layer_norm: int = 3
    gelu: int = 1
    requantize: int = 1
    add: int = 1
    mean: int = 1

    def __post_init__(self) -> None:
        for each in fields(self):
            passes = getattr(self, each.name)
            whole = isinstance(passes, Integral) and not isinstance(passes, bool)
            if not whole or not 1 <= passes <= MOST_PASSES:
                said = f"passes of {each.name} are a whole number of at least 1"
                raise ValueError(f"{said} and at most {MOST_PASSES:,}; got {brief(passes)}")


@dataclass(frozen=True)
class Machine:
    """An accelerator of rows x cols PEs.

    The three SRAMs, of A, B and the output, are double-buffered: half of each holds the tile in
    use. int32 sums lie in an accumulator SRAM of `accumulator_bytes`, double-buffered too, or with
    0 in the output's. `vector_lanes` elements pass the vector unit each cycle, `passes` times; of
    `fused` operators (requantize, gelu, add, softmax) the results stream behind the GEMM before.
    `multiplier_bits` is the width of a PE's multiplier: wider operands take a cycle a slice.
    `widths` are those codes are stored at: narrower ones take the next. `energy` names the table
    its own estimate is read from. DRAM moves `dram_bytes_per_cycle` of the array's clock; a host
    has a clock of its own, `host_mhz`, 1 GHz as in Kim et al. 2023. A tiling that moves less may be
    slower than the fastest by `tiling_slack`: 0 is for time, 1000 for traffic.

    Raises ValueError, in one line, for a size that is not above 0, an unknown name, or buffers in
    which no tile of the array would fit.
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
    accumulator_bytes: int = 0
    passes: Passes = field(default_factory=Passes)
    fused: tuple[str, ...] = ("requantize", "gelu")
    widths: tuple[int, ...] = (4, 8, 16)
    multiplier_bits: int = 8
    host_mhz: float = 1000.0
    tiling_slack: float = 0.05

    def __post_init__(self) -> None:
        require(isinstance(self.passes, Passes), self, "passes are of the class Passes")
        check(self)

    def us(self, cycles: float) -> float:
        """Return microseconds of that many cycles."""
        return cycles / self.clock_mhz

    @property
    def sums_bytes(self) -> int:
        """The size of the SRAM that holds the int32 sums."""
        return self.accumulator_bytes or self.sram_o_bytes

    @cached_property
    def cells(self) -> tuple[int, int, int]:
        """The least M, K and N that fill the array, or are loaded into it, in time."""
        along = mapping(0, 1, 2, self.dataflow)  # which of the three lies along rows, columns, time
        found = dict(zip(along, (self.rows, self.cols, self.rows), strict=True))
        return found[0], found[1], found[2]

    @cached_property
    def halves(self) -> tuple[int, int, int, int]:
        """The bytes that one tile may have of A, of B, of results and of int32 sums: half of each
        SRAM. Without an accumulator results take the place of their sums."""
        out = self.sram_o_bytes // 2
        sizes = self.sram_a_bytes // 2, self.sram_b_bytes // 2, self.sums_bytes // 2
        return sizes[0], sizes[1], out if self.accumulator_bytes else 4 * out, sizes[2]

    def stored_bits(self, bits: int) -> int:
        """Return the width a code of `bits` is stored at: the next of `widths`.

        Raises ValueError for codes wider than the machine has.
        """
        for width in self.widths:
            if width >= bits:
                return width
        wide = f"codes of {bits} bits are not modelled; there are {self.widths}"
        raise ValueError(f"machine {self.name!r}: {wide}")

    def slices(self, a_bits: int, b_bits: int) -> int:
        """Return the cycles one PE takes for a product of codes of those widths.

        A multiplier takes an operand in slices of its own width, as the TPU runs 8 x 16 bits at
        half speed and 16 x 16 at a quarter (Jouppi et al. 2017, section 2).
        """
        return -(-a_bits // self.multiplier_bits) * -(-b_bits // self.multiplier_bits)

    def to_toml(self, whole: bool = False) -> str:
        """Return the machine as TOML, which `read_machine` reads: all that is not the default, or
        with `whole` every field."""
        lines = []
        for each in fields(self):
            value = getattr(self, each.name)
            default = each.default if each.default is not MISSING else None
            if each.name != "passes" and (whole or value != default):
                lines.append(f"{each.name} = {_toml(value)}")
        changed = [(f.name, getattr(self.passes, f.name)) for f in fields(Passes)]
        changed = [(name, n) for name, n in changed if whole or n != getattr(Passes, name)]
        lines += ["", "[passes]"] if changed else []
        return "\n".join([*lines, *(f"{name} = {n}" for name, n in changed)]) + "\n"


def _toml(value: Any) -> str:
    """Return a TOML value: a basic string, whose escapes are those of JSON, a number or a list."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(int(value)) if isinstance(value, Integral) else repr(float(value))


def quoted(text: str) -> str:
    """Return a TOML basic string.

    >>> quoted('a "b"')
    '"a \\\\"b\\\\""'
    """
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    safe = (c if c.isprintable() else f"\\U{ord(c):08X}" for c in plain)
    return f'"{"".join(safe)}"'
