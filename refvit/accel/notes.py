"""What a report has to say beside its figures: widths, what stays on chip, what is assumed."""

from __future__ import annotations

from collections.abc import Sequence

from refvit.accel.energy import HIGHS, LOWS, NOT_MODELLED, TAKEN, EnergyTable, assumptions
from refvit.accel.machine import Machine
from refvit.accel.presets import KB, behind_l2
from refvit.accel.row import Row
from refvit.accel.vector import HOST_CYCLES

LINK = (
    "L2: the bytes a cycle of this machine are those of its link to an L2, which is not modelled; "
    "all that crosses is charged as DRAM, also what L2 would have held, and L2 itself is not."
)


def notes(rows: Sequence[Row], machine: Machine) -> list[str]:
    """Return one sentence for each thing a reader of these rows should know."""
    return [
        f"Machine: {machine.source}." if machine.source else f"Machine: {machine.name}.",
        f"Widths: {widths(rows)}.",
        traffic(rows),
        f"Time: {shares(rows)}; layers follow each other, a tile's load and store hide behind "
        "the products of others.",
        energy(rows, machine),
        tables(machine),
        *host(rows, machine),
        *([LINK] if behind_l2(machine) else []),
    ]


def widths(rows: Sequence[Row]) -> str:
    """Return the widths of A x B that products read, with their shares of the MACs."""
    macs: dict[tuple[int, int], int] = {}
    for row in rows:
        if row.macs:
            macs[row.a_bits, row.b_bits] = macs.get((row.a_bits, row.b_bits), 0) + row.macs
    whole = sum(macs.values())
    ordered = sorted(macs.items(), key=lambda item: -item[1])
    said = ", ".join(f"{a} x {b} bits {part / whole:.0%} of MACs" for (a, b), part in ordered)
    return said or "no products"


def code_widths(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the widths that codes are stored at, each rising: of the weights, of the activations
    that products read, and of the residual stream, which LayerNorm reads."""
    weights = {row.b_bits for row in rows if row.op == "linear"}
    read = {row.a_bits for row in rows if row.macs}
    read |= {row.b_bits for row in rows if row.op == "matmul"}
    stream = {row.a_bits for row in rows if row.op == "layer_norm"}
    return {"weights": sorted(weights), "activations": sorted(read),
            "residual stream": sorted(stream)}  # fmt: skip


def said_widths(rows: Sequence[Row]) -> str:
    """Return the same in words, as `weights 4, activations 8, residual stream 16 bits`."""
    found = {name: " and ".join(map(str, bits)) for name, bits in code_widths(rows).items() if bits}
    return ", ".join(f"{name} {bits}" for name, bits in found.items()) + " bits" * bool(found)


def host(rows: Sequence[Row], machine: Machine) -> list[str]:
    """Return where the cycles of a host come from, if there is one."""
    if not any(row.unit == "host" for row in rows):
        return []
    each = ", ".join(f"{op} {cycles}" for op, cycles in HOST_CYCLES.items())
    return [
        f"Host: cycles an element, of its own clock of {machine.host_mhz:g} MHz ({each}), are "
        "worked out from the shares of the time that Kim et al. 2023 (arXiv 2302.14017) found for "
        "BERT-Base at 512 tokens on a CPU beside a 16 x 16 array, given in whole per cents: for "
        "other models, lengths and cores they are a prediction that nothing here holds."
    ]


def traffic(rows: Sequence[Row]) -> str:
    """Return what crosses to DRAM and what need not."""
    moved, stays = (
        sum(getattr(row, key) for row in rows) for key in ("dram_bytes", "resident_bytes")
    )
    share = stays / (moved + stays) if moved + stays else 0.0
    return (
        f"DRAM: {moved:,} bytes; {stays:,} more ({share:.0%}) did not have to move, as their "
        "tensors stayed on chip."
    )


def shares(rows: Sequence[Row]) -> str:
    """Return the share of the time that each unit works or waits.

    Where a host takes what is not a product, this is the lesson of Kim et al. 2023.
    """
    whole = sum(row.us for row in rows) or 1.0
    named = {"array": "array", "vector": "vector unit", "fused": "behind the array", "host": "host"}
    parts = ((said, sum(r.us for r in rows if r.unit == unit)) for unit, said in named.items())
    return ", ".join(f"{said} {us / whole:.0%}" for said, us in parts if us)


def energy(rows: Sequence[Row], machine: Machine) -> str:
    """Return the energy by part, low and high, and all that its estimate assumes or leaves out."""
    parts = ", ".join(
        f"{part} {sum(getattr(r, f'uj_{part}_low') for r in rows):,.1f} - "
        f"{sum(getattr(r, f'uj_{part}_high') for r in rows):,.1f}"
        for part in ("array", "sram", "dram", "vector")
    )
    pairs = {(row.a_bits, row.b_bits) for row in rows if row.macs}
    return f"Energy in uJ, low - high: {'; '.join([parts, *multiplied(pairs, machine)])}."


def multiplied(pairs: set[tuple[int, int]], machine: Machine) -> list[str]:
    """Return what is assumed of MACs of widths that no table has, or no multiplier."""
    wide = machine.multiplier_bits
    said = [assumptions(pairs)] if pairs - {(8, 8)} else []
    if pairs - {(wide, wide)}:
        said.append(
            f"the {wide}-bit multiplier is charged for the bits of its codes alone, in the high "
            "estimate for a whole MAC of its own width in every cycle that it takes"
        )
    return said


def tables(machine: Machine) -> str:
    """Return which tables low, high and `uj` are read from, and what they take for granted."""
    sources = "; ".join(map(_ends, LOWS.values(), HIGHS.values()))
    return (
        "Energy tables: low and high are the least and the greatest over both, at the ends of what "
        f"their sources give ({sources}); uj is by {machine.energy}, DRAM at its low end. They "
        f"take it that {'; '.join(TAKEN)}. The register bit of horowitz45 is Accelergy's; of the "
        "MAC of accelergy45, 0.315 pJ, its 32-bit adder of 0.21 is taken as the add."
    )


def _ends(low: EnergyTable, high: EnergyTable) -> str:
    """Return the name of a table, and the pJ a byte of its memories from low to high."""
    dram = sorted({low.pj_per_dram_byte, high.pj_per_dram_byte})
    sram = [table.sram_pj_per_byte(64 * KB) for table in (low, high)]
    return (
        f"{low.name}: DRAM {' to '.join(f'{pj:g}' for pj in dram)} pJ a byte, "
        f"SRAM of 64 KB {sram[0]:.2f} to {sram[1]:.2f}"
    )


def not_modelled() -> str:
    """Return what no figure contains."""
    return f"Not modelled: {', '.join(NOT_MODELLED)}."
