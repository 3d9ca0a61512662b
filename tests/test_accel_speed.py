"""The benchmarks of the accelerator hold their limits: 50 ms for ViT-B/16 (`bench_simulate.py`),
60 s for 10,000 machines (`bench_explore.py`)."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


def bench(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
