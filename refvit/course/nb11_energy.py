"""The exercise of notebook 11 on energy: an account whose parts sum to its total."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from refvit.accel import Layer, machine, simulate_layers, site_widths
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st

Parts = dict[str, float]


@cache
def _energy(which: str, M: int, K: int, N: int) -> tuple[tuple[str, float], ...]:
    size = M * N
    layer = Layer("fc", "linear", "b", size, M, (M * K,), M, K, N, 1, True, ("x",), (("fc", size),))
    row = simulate_layers([layer], machine(which), site_widths([layer], 8))[0]
    parts = {part: getattr(row, f"uj_{part}") for part in ("array", "sram", "dram", "vector")}
    return tuple({**parts, "total": row.uj}.items())


def edge32_energy(M: int, K: int, N: int) -> Parts:
    """Return the microjoules of a GEMM on edge32, its parts and their total."""
    return dict(_energy("edge32", M, K, N))


def edge16_energy(M: int, K: int, N: int) -> Parts:
    """Return the same on edge16, added up from the last part to the first."""
    parts = dict(_energy("edge16", M, K, N))
    total = parts["vector"] + parts["dram"] + parts["sram"] + parts["array"]
    return parts | {"total": total}


def on_chip(M: int, K: int, N: int) -> Parts:
    """Return the same for operands that are on the chip: no DRAM."""
    parts = dict(_energy("edge32", M, K, N)) | {"dram": 0.0}
    return parts | {"total": parts["array"] + parts["sram"] + parts["vector"]}


def of_many(M: int, K: int, N: int) -> Parts:
    """Return the microjoules of 10**12 such GEMMs, added up from the last part to the first."""
    return {name: 1e12 * value for name, value in edge16_energy(M, K, N).items()}


def parts_add_up(energy: Any, M: int, K: int, N: int) -> bool:
    """Return True if the energy of a GEMM adds up.

    energy(M, K, N) returns a dict of microjoules: "array", "sram", "dram", "vector" and "total".
    It adds up if the total is the sum of the four parts, to within a part in 10**9 of the total (a
    sum of floats depends on its order), and no part is below 0. This is a property: True for every
    honest account, and False for a faulty one in some case.
    """
    found = energy(M, K, N)
    total = found.pop("total")
    close = math.isclose(total, sum(found.values()), rel_tol=1e-9)
    return close and min(found.values()) >= 0


def _within(found: Parts, room: float) -> bool:
    parts = [value for name, value in found.items() if name != "total"]
    return abs(found["total"] - sum(parts)) <= room


def _changed(**by: float) -> Any:
    """An account of edge32 in which entries are off by shares of the DRAM's energy."""

    def energy(M: int, K: int, N: int) -> Parts:
        found = edge32_energy(M, K, N)
        return found | {name: found[name] + share * found["dram"] for name, share in by.items()}

    return energy


ADD_UP = Exercise(
    id="nb11.parts_add_up",
    title="a property: the parts sum to the total",
    answer=parts_add_up,
    cases=st.tuples(*[st.integers(1, 9)] * 3),
    returns="property",
    hints=(
        "found = energy(M, K, N); found.pop(\"total\") takes the total out of the dict.",
        "math.isclose(total, sum(found.values()), rel_tol=1e-9), and every part is >= 0.",
    ),
    edges=((64, 64, 64), (197, 192, 192)),
    tried=Tried(
        right=(edge32_energy, edge16_energy, on_chip, of_many),
        faulty=(
            Wrong("forgets", "a total without the DRAM", _changed(total=-1.0)),
            Wrong("twice", "a total that has the DRAM twice", _changed(total=1.0)),
            Wrong("rounded", "a total rounded to a millionth", lambda M, K, N:
                  edge32_energy(M, K, N)
                  | {"total": round(edge32_energy(M, K, N)["total"], 6)}),
            Wrong("a_millionth", "a total that is a millionth too great", lambda M, K, N:
                  edge32_energy(M, K, N)
                  | {"total": edge32_energy(M, K, N)["total"] * (1 + 1e-6)}),
            Wrong("credit", "a saving booked as a part below 0",
                  _changed(dram=-2.0, array=2.0)),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda energy, *sizes: True),
        Wrong("exact", "== between sums of floats, which differ in their last bit by their order",
              lambda energy, M, K, N: _within(energy(M, K, N), 0)
              and min(energy(M, K, N).values()) >= 0),
        Wrong("covers", "a total at least as great as its parts: it may be greater",
              lambda energy, M, K, N: (lambda e: min(e.values()) >= 0
              and 2 * e["total"] >= sum(e.values()) * (1 - 1e-9))(energy(M, K, N))),
        Wrong("unsigned", "a sum that is right, with no look at parts below 0",
              lambda energy, M, K, N:
              _within(energy(M, K, N), 1e-9 * energy(M, K, N)["total"])),
        Wrong("loose", "a difference below a fixed thousandth of a microjoule, which small GEMMs "
              "do not exceed whatever they do",
              lambda energy, M, K, N: _within(energy(M, K, N), 1e-3)
              and min(energy(M, K, N).values()) >= 0),
        Wrong("own_total", "a sum over all entries, the total among them",
              lambda energy, M, K, N: (lambda e: math.isclose(
                  e["total"], sum(e.values()), rel_tol=1e-9))(energy(M, K, N))),
    ),
)  # fmt: skip
