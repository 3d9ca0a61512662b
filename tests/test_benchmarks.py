"""The benchmarks whose figures are shown still run, each on as little as it takes."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
LEAST = {
    "bench_training": "--models nano_vit --batch 4 --runs 1",
    "bench_oscillation": "--steps 2 --watched 1 --count 20",
    "bench_query_key": "--images 64 --count 20",
    "bench_offsets": "--images 64 --count 20",
    "bench_distillation": "--images 128 --seeds 1 --tests 20",
    "bench_datafree": "--seeds 1 --steps 4 --reconstruct 1 --many 8 --tests 20",
}
ROWS = {"bench_training": 1, "bench_oscillation": 4, "bench_query_key": 3, "bench_offsets": 2,
        "bench_distillation": 6, "bench_datafree": 12}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_it_prints_a_row_for_each_of_its_ways(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [name, *LEAST[name].split()])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    figures = [line for line in said if line.count("%") > 1 or " ms" in line or "seed" in line]
    assert len(figures) == ROWS[name]
