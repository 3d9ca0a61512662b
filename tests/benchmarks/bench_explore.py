"""How long a sweep takes: machines a second for a model, one core, no accuracy.

`OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_explore.py` prints the seconds of 10,000
machines for DeiT-S, and the milliseconds that `simulate` takes for each of a sample of them; both
have to find the same cycles. What is held is 60 s of one core for 10,000 machines: at a slower pace
than `--limit SECONDS` (60) that is said and the exit code is 1. `--every N` takes each Nth machine.
"""

import argparse
import sys
import time

from refvit import simulate
from refvit.accel.grid import Grid, parse_grid
from refvit.accel.memory import best_tiling
from refvit.explore import explore
from refvit.models import VARIANTS

LIMIT = 60.0  # seconds of one core for 10,000 machines
GRID = (
    "rows=8:64:8", "cols=8:64:8", "dram_bytes_per_cycle=2,4,8,16,32", "overlap=true,false",
    "sram_a_bytes=sram_b_bytes=64K:512K:*2", "dataflow=ws,os", "vector_lanes=32,64",
)  # fmt: skip


def timed(config, grid):
    """Return seconds by the clock and of CPU time, and what was found, tilings not known before."""
    best_tiling.cache_clear()
    wall, cpu = time.perf_counter(), time.process_time()
    found = explore(config, grid)
    return time.perf_counter() - wall, time.process_time() - cpu, found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deit_small")
    parser.add_argument("--machines", nargs="+", default=GRID, metavar="GRID")
    parser.add_argument("--sample", type=int, default=100, help="machines simulated in full")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one of N machines (1)")
    parser.add_argument("--runs", type=int, default=1, help="of which the fastest counts (1)")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, metavar="SECONDS", help="of 10,000 machines (60)"
    )
    args = parser.parse_args()
    config, grid = VARIANTS[args.model], parse_grid(args.machines)
    if args.every > 1:
        grid = Grid(tuple(grid.machine(i) for i in range(0, len(grid), args.every)))
    simulate(config)
    wall, cpu, found = min((timed(config, grid) for _ in range(args.runs)), key=lambda run: run[1])
    count = len(found.points)
    took = f"{cpu:.1f} s of one core ({wall:.1f} s by the clock), {1e3 * cpu / count:.2f} ms each"
    print(f"{args.model}: {count:,} machines in {took}, {len(found.front)} on the front")
    step, start = max(1, len(grid) // args.sample), time.process_time()
    sample = range(0, len(grid), step)
    for number in sample:
        report = simulate(config, grid.machine(number), recipe="w8a8")
        assert found.points[number].cycles == report.totals["cycles"]
    each = (time.process_time() - start) / len(sample)
    print(f"simulate: {1e3 * each:.2f} ms each on {len(sample)} of them, with the same cycles")
    pace = 10_000 * cpu / count
    if pace > args.limit:
        print(f"too slow: {pace:.1f} s for 10,000, {args.limit:g} are held", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
