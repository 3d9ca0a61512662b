"""How fast the accelerator is, by CPU time, the best of several: a busy machine does not fail it.

The limits here are several times the targets, which the benchmarks hold (`bench_simulate.py`: 50 ms
for ViT-B/16; `bench_explore.py`: 60 s for 10,000 machines). What fails here is slower by nature.
"""

import importlib.util
import time
from pathlib import Path

import pytest

from refvit.accel import MACHINES, simulate
from refvit.accel.grid import Grid, parse_grid
from refvit.explore import explore
from refvit.models import VARIANTS

BENCHMARKS = Path(__file__).parent / "benchmarks"


def bench(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def best(function, runs, limit):
    """The least seconds of CPU time of some runs; no more of them once one is within the limit."""
    least = float("inf")
    for _ in range(runs):
        began = time.process_time()
        function()
        least = min(least, time.process_time() - began)
        if least <= limit:
            break
    return least


@pytest.mark.parametrize("machine", MACHINES)
def test_vit_base_is_simulated_in_an_instant(machine):
    """From empty caches: 50 ms is the target, 250 ms the limit here."""
    forget = bench("bench_simulate").forget

    def cold():
        forget()
        simulate(VARIANTS["vit_base"], machine)

    assert best(cold, 5, 0.25) <= 0.25


def test_a_sweep_keeps_the_pace_of_ten_thousand_machines_a_minute():
    """51 of the benchmark's 10,240 machines: 6 ms each is the target, 24 ms the limit here."""
    whole = parse_grid(bench("bench_explore").GRID)
    grid = Grid(tuple(whole.machine(i) for i in range(0, len(whole), 201)))
    assert len(whole) == 10_240
    limit, forget = 0.024 * len(grid), bench("bench_simulate").forget

    def cold():
        forget()
        explore(VARIANTS["deit_small"], grid)

    assert best(cold, 4, limit) <= limit


@pytest.mark.parametrize(("name", "options"), [
    ("bench_simulate", ["--machine", "edge32", "--model", "nano_vit", "--runs", "1"]),
    ("bench_explore", ["--model", "nano_vit", "--machines", "rows=8,16", "--sample", "1"]),
])  # fmt: skip
def test_a_benchmark_fails_when_its_limit_is_passed(name, options, monkeypatch, capsys):
    module = bench(name)
    monkeypatch.setattr(module, "scalesim", lambda *args: "no SCALE-Sim", raising=False)
    for limit, code in (("1e9", 0), ("0", 1)):
        monkeypatch.setattr("sys.argv", [name, *options, "--limit", limit])
        try:
            module.main()
            ended = 0
        except SystemExit as end:
            ended = end.code
        assert ended == code
        assert ("too slow" in capsys.readouterr().err) == bool(code)
