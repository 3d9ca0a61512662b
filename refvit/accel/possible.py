"""What a machine can be: every field of `Machine` against its kind, its bounds and the others.

An impossible machine is one line that says what was given and what would do.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from refvit.accel.energy import TABLES
from refvit.accel.systolic import DATAFLOWS

if TYPE_CHECKING:
    from refvit.accel.hardware import Machine

WHOLE = (
    "rows",
    "cols",
    "sram_a_bytes",
    "sram_b_bytes",
    "sram_o_bytes",
    "vector_lanes",
    "multiplier_bits",
)
SIZES = (*WHOLE, "dram_bytes_per_cycle", "clock_mhz", "host_mhz")
FUSABLE = ("requantize", "gelu", "add", "softmax")
# What a field may be at most. The greatest published array is 256 x 256; a factor of 256 over what
# has been built leaves room for any design, and cycles of any model fit 64 bits.
SRAMS = ("sram_a_bytes", "sram_b_bytes", "sram_o_bytes", "accumulator_bytes")
MOST = {"rows": 2**16, "cols": 2**16, "vector_lanes": 2**20, "multiplier_bits": 32}
MOST |= dict.fromkeys(SRAMS, 2**40)
LEAST_REAL, MOST_REAL = 1e-3, 1e9  # bytes a cycle, MHz: 1 kHz is slower than any clock


def brief(value: Any) -> str:
    """Return what was given as it is quoted in one line: long values are cut.

    >>> brief("cray"), brief(10**99)
    ("'cray'", '1000000000000000000000000000000000000000...')
    """
    if isinstance(value, int) and value.bit_length() > 10_000:  # Python would not print it
        return f"a number of {value.bit_length():,} bits"
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:40]}..."


def check(machine: Machine) -> None:
    """Raise ValueError, in one line, for what is impossible of a machine."""
    words = isinstance(machine.name, str) and isinstance(machine.source, str)
    require(words, machine, "name and source are words")
    check_sizes(machine)
    require(isinstance(machine.overlap, bool), machine, "overlap is true or false")
    for name, known in (("dataflow", DATAFLOWS), ("energy", tuple(TABLES))):
        found, kind = getattr(machine, name), name.replace("energy", "energy table")
        listed = f"there are {', '.join(known)}"
        require(found in known, machine, f"no {kind} {brief(found)}; {listed}")
    check_lists(machine)
    check_buffers(machine)


def check_sizes(machine: Machine) -> None:
    """Refuse sizes that are no numbers, not above 0, or beyond what any machine has."""
    for name in SIZES:
        size = getattr(machine, name)
        number = isinstance(size, Real) and not isinstance(size, bool)
        fits = number and 0 < size < float("inf")
        word = ", a word where a number is wanted" if isinstance(size, str) else ""
        require(fits, machine, f"{name} is {brief(size)}{word}; it has to be above 0 and finite")
    for name in (*WHOLE, "accumulator_bytes"):
        size = getattr(machine, name)
        whole = isinstance(size, Integral) and not isinstance(size, bool)
        require(whole, machine, f"{name} is {brief(size)}; give a whole number")
    for name, most in MOST.items():
        size = getattr(machine, name)
        require(size <= most, machine, f"{name} is {brief(size)}; give at most {most:,}")
    slack, said = machine.tiling_slack, "it has to be from 0 to 1000"
    number = isinstance(slack, Real) and not isinstance(slack, bool)
    require(number and 0 <= slack <= 1000, machine, f"tiling_slack is {brief(slack)}; {said}")
    for name in set(SIZES) - set(MOST):
        size, range_ = getattr(machine, name), f"{LEAST_REAL:g} to {MOST_REAL:,.0f}"
        fits = LEAST_REAL <= size <= MOST_REAL
        require(fits, machine, f"{name} is {brief(size)}; give {range_}")


def check_lists(machine: Machine) -> None:
    """Refuse operators that no unit fuses, and widths that are not 1 to 32 and rising."""
    fused, widths = machine.fused, machine.widths
    words = isinstance(fused, tuple) and all(isinstance(name, str) for name in fused)
    known = words and set(fused) <= set(FUSABLE) and len(set(fused)) == len(fused)
    listed = f"fused is a list of {', '.join(FUSABLE)}, each once; got {brief(fused)}"
    require(known, machine, listed)
    whole = isinstance(widths, tuple) and all(
        isinstance(w, Integral) and not isinstance(w, bool) for w in widths
    )
    rising = whole and list(widths) == sorted({w for w in widths if 1 <= w <= 32})
    listed = f"widths are whole numbers of 1 to 32, rising; got {brief(widths)}"
    require(bool(widths) and rising, machine, listed)


def check_buffers(machine: Machine) -> None:
    """Refuse buffers of which half holds no tile of the array."""
    edge = max(machine.rows, machine.cols)
    tile = 2 * edge * edge * max(machine.widths) // 8
    sums = 2 * 4 * edge * edge
    out = min(sums, tile) if machine.accumulator_bytes else sums
    require(
        min(machine.sram_a_bytes, machine.sram_b_bytes) >= tile
        and machine.sram_o_bytes >= out
        and machine.sums_bytes >= sums,
        machine,
        f"half a buffer must hold a tile of the array; give A and B {tile} bytes, O {out}"
        + (f", the accumulator {sums}, or 0 for none" if machine.accumulator_bytes else ""),
    )


def require(true: bool, machine: Machine, message: str) -> None:
    if not true:
        raise ValueError(f"machine {machine.name!r}: {message}")
