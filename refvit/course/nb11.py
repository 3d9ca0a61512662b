"""The exercises of notebook 11, the roofline and the accelerator: ridge, cycles, upgrade.

Those on tiles and buffers are in `nb11_more`, that on energy in `nb11_energy`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import refvit
from refvit.accel.roofline import limits
from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.course.nb11_energy import ADD_UP
from refvit.course.nb11_more import BUFFERS, COMPULSORY, TILED
from refvit.testing.extra import st


def ridge_point(rows: int, cols: int, clock_mhz: float, gb_per_second: float) -> float:
    """Return the ridge of a machine, a float: the operations a byte at which it stops waiting for
    its memory.

    It has rows x cols multipliers, each of which makes one multiply-accumulate a cycle, which are
    two operations; clock_mhz million cycles a second; a memory of gb_per_second 10**9 bytes a
    second. All are at least 1.
    """
    operations = 2 * rows * cols * clock_mhz * 1e6
    return operations / (gb_per_second * 1e9)


def _ridge(rows: int, cols: int, clock_mhz: float, gb_per_second: float) -> float:
    """The ridge of such a machine, as `refvit.roofline` has it."""
    about = {"base": "edge32", "rows": rows, "cols": cols, "clock_mhz": clock_mhz,
             "dram_bytes_per_cycle": gb_per_second * 1e3 / clock_mhz}  # fmt: skip
    _, peak, speed, _ = limits(about, 8)
    return peak / speed


RIDGE = Exercise(
    id="nb11.ridge_point",
    title="the ridge of a machine",
    answer=ridge_point,
    cases=st.tuples(
        st.sampled_from([1, 2, 8, 16, 32, 64]),
        st.sampled_from([1, 2, 8, 16, 32, 64]),
        st.sampled_from([100, 500, 700, 1000, 2000]),
        st.integers(1, 32),
    ),
    returns="ridge",
    hints=(
        "Two rates: operations a second of all multipliers, bytes a second of the memory.",
        "The ridge is the first divided by the second; mind 10**6 and 10**9.",
    ),
    truth=_ridge,
    judge=closely(1e-9),
    wrong=(
        Wrong("macs", "a MAC counted as one operation where it is two",
              lambda rows, cols, clock_mhz, gb_per_second:
              rows * cols * clock_mhz / gb_per_second / 1e3),
        Wrong("inverted", "bytes an operation where operations a byte were asked for",
              lambda *sizes: 1 / ridge_point(*sizes)),
        Wrong("a_cycle", "operations a cycle over bytes a second: the clock is missing",
              lambda rows, cols, clock_mhz, gb_per_second: 2 * rows * cols / gb_per_second),
        Wrong("mega", "MHz divided by GB as if both were millions: a thousand times too much",
              lambda *sizes: 1e3 * ridge_point(*sizes)),
        Wrong("edges", "rows + cols, the edges of the array, where all rows x cols PEs multiply",
              lambda rows, cols, clock_mhz, gb_per_second:
              2 * (rows + cols) * clock_mhz / gb_per_second / 1e3),
        Wrong("whole", "a ridge rounded to a whole number",
              lambda *sizes: float(round(ridge_point(*sizes)))),
    ),
)  # fmt: skip


def array_cycles(M: int, K: int, N: int, rows: int, cols: int) -> int:
    """Return the cycles, an int, of a GEMM [M, K] x [K, N] on a weight-stationary array of
    rows x cols PEs whose folds do not overlap. All sizes are at least 1.

    K lies along the rows and N along the columns; a fold is one pass of the array over rows x cols
    weights, through which all M rows of A stream. What is left over at an edge is a whole fold.
    """
    folds = -(-K // rows) * -(-N // cols)
    return folds * (rows + M + rows - 1 + cols - 1)


@cache
def _stepped(M: int, K: int, N: int, rows: int, cols: int) -> int:
    """The cycles that the array takes when it is stepped clock edge by clock edge."""
    a, b = np.zeros((M, K), np.int8), np.zeros((K, N), np.int8)
    return refvit.accel.step_gemm(a, b, rows, cols)[1]


def _fitted(M: int, K: int, N: int, rows: int, cols: int) -> int:
    """Folds at the edges that are as short as what is left over is small."""
    total = 0
    for k in range(0, K, rows):
        for n in range(0, N, cols):
            total += 2 * min(rows, K - k) + min(cols, N - n) + M - 2
    return total


CYCLES = Exercise(
    id="nb11.array_cycles",
    title="cycles of a GEMM, against the array stepped by clock edges",
    answer=array_cycles,
    cases=st.tuples(*[st.integers(1, 4)] * 3, *[st.integers(1, 3)] * 2),
    returns="cycles",
    hints=(
        "How many folds are there? K // rows rounds down; -(-K // rows) rounds up.",
        "In a fold the weights of the last row need `rows` cycles to arrive; then M rows enter.",
        "The last row of A meets its last PE rows - 1 cycles further down and cols - 1 further "
        "right: rows + M + rows - 1 + cols - 1.",
    ),
    truth=_stepped,
    edges=((9, 5, 5, 2, 3), (1, 1, 1, 5, 4)),
    wrong=(
        Wrong("unloaded", "a fold without the rows cycles in which its weights move in",
              lambda M, K, N, rows, cols: -(-K // rows) * -(-N // cols) * (rows + cols + M - 2)),
        Wrong("floored", "folds rounded down: what is left over at an edge needs a fold too",
              lambda M, K, N, rows, cols: (K // rows) * (N // cols) * (2 * rows + cols + M - 2)),
        Wrong("K_streams", "K as the time of a fold: here K lies along the rows, and M streams",
              lambda M, K, N, rows, cols:
              -(-M // rows) * -(-N // cols) * (2 * rows + cols + K - 2)),
        Wrong("skew", "a skew of rows + cols: from the first PE to the last it is rows - 1 steps "
              "down and cols - 1 to the right",
              lambda M, K, N, rows, cols: -(-K // rows) * -(-N // cols) * (2 * rows + cols + M)),
        Wrong("overlapped", "one fill and one drain for all folds, which here follow each other",
              lambda M, K, N, rows, cols:
              -(-K // rows) * -(-N // cols) * M + 2 * rows + cols - 2),
        Wrong("no_skew", "no skew: when the last row enters at the first PE, the last PE is still "
              "rows - 1 + cols - 1 cycles behind",
              lambda M, K, N, rows, cols: -(-K // rows) * -(-N // cols) * (rows + M)),
        Wrong("ideal", "MACs by PEs: an array that is always full, without fill, drain and edges",
              lambda M, K, N, rows, cols: -(-M * K * N // (rows * cols))),
        Wrong("fitted", "folds at the edge that take less time: signals cross the whole array",
              _fitted),
    ),
)  # fmt: skip


UPGRADES: dict[str, dict[str, Any]] = {
    "array": {"rows": 64, "cols": 64},
    "memory": {"dram_bytes_per_cycle": 16.0},
    "buffers": {"sram_a_bytes": 2**18, "sram_b_bytes": 2**18, "sram_o_bytes": 2**19},
    "lanes": {"vector_lanes": 64},
}


def best_upgrade() -> str:
    """Predict which one upgrade makes DeiT-Tiny on edge32, 8-bit codes, fastest; return its name.

    "array": 64 x 64 PEs for 32 x 32. "memory": 16 bytes a cycle for 8. "buffers": three SRAMs twice
    as large. "lanes": 64 lanes of the vector unit for 32. "codes": weights of 4 bits for 8.
    """
    return "buffers"


@cache
def upgraded(name: str) -> int:
    """Return the cycles of DeiT-Tiny on edge32 with that upgrade."""
    about = {"base": "edge32", **UPGRADES.get(name, {})}
    recipe = "w4a8" if name == "codes" else None
    report = refvit.simulate("deit_tiny", about, recipe=recipe)
    return int(report.totals["cycles"])


def _fastest() -> str:
    return min([*UPGRADES, "codes"], key=upgraded)


def _is_fastest(found: Any, expected: str) -> str:
    known = [*UPGRADES, "codes"]
    if not isinstance(found, str) or found not in known:
        return f"it is {found!r}, expected one of {', '.join(map(repr, known))}"
    more = upgraded(found) / upgraded(expected) - 1
    took = f"{upgraded(found):,} cycles, {more:.0%} more than with the best"
    return "" if found == expected else f"with {found!r} the simulator takes {took}"


UPGRADE = Exercise(
    id="nb11.best_upgrade",
    title="a prediction: the one upgrade that helps most",
    answer=best_upgrade,
    cases=st.just(()),
    hints=(
        "In the timeline of the block most layers wait for memory. There are two ways to wait "
        "less: move the bytes faster, or do not move them.",
        "What fc1 hands to fc2 is 197 x 768 = 151,296 bytes, and the buffer of A has 131,072. "
        "Which of the five lets it stay on chip?",
    ),
    truth=_fastest,
    judge=_is_fastest,
    wrong=(
        Wrong("array", "more multipliers for a model whose multipliers wait more than half the "
              "time", lambda: "array"),
        Wrong("memory", "the same bytes, moved faster: the second best; some need not be moved",
              lambda: "memory"),
        Wrong("lanes", "a faster vector unit, which is busy for a small part of the time",
              lambda: "lanes"),
        Wrong("codes", "fewer bytes of weights, where it is activations that come and go",
              lambda: "codes"),
    ),
)  # fmt: skip

EXERCISES = (RIDGE, CYCLES, TILED, COMPULSORY, BUFFERS, ADD_UP, UPGRADE)
