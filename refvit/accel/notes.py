"""What a report has to say beside its figures: widths, what stays on chip, what is assumed."""

from __future__ import annotations

from collections.abc import Sequence

from refvit.accel.energy import NOT_MODELLED, assumptions
from refvit.accel.machine import Machine
from refvit.accel.row import Row


def notes(rows: Sequence[Row], machine: Machine) -> list[str]:
    """Return one sentence for each thing a reader of these rows should know."""
    return [
        f"Machine: {machine.source}." if machine.source else f"Machine: {machine.name}.",
        f"Widths: {widths(rows)}.",
        traffic(rows),
        f"Time: {shares(rows)}; layers follow each other, a tile's load and store hide behind "
        "the products of others.",
        energy(rows),
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


def energy(rows: Sequence[Row]) -> str:
    """Return the energy by part, low and high, and all that its estimate assumes or leaves out."""
    parts = ", ".join(
        f"{part} {sum(getattr(r, f'uj_{part}_low') for r in rows):,.1f} - "
        f"{sum(getattr(r, f'uj_{part}_high') for r in rows):,.1f}"
        for part in ("array", "sram", "dram", "vector")
    )
    said = assumptions([(r.a_bits, r.b_bits) for r in rows if r.macs])
    return f"Energy in uJ, low - high: {parts}{f'; {said}' if said else ''}."


def not_modelled() -> str:
    """Return what no figure contains."""
    return f"Not modelled: {', '.join(NOT_MODELLED)}."
