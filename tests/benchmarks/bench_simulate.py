"""How long a simulation takes: `python tests/benchmarks/bench_simulate.py [--json]`.

First the whole of a model on every machine preset: "first" in a process that has only imported
refvit, "cold" with every cache of the accelerator emptied, "warm" with none. The floor, in the same
process, is the forward on shapes that the workload is read from: no simulation can do with less.
Each figure is the CPU time of one core, the least of several, so that other work on the machine
counts little. What is held is 50 ms for all of ViT-B/16 after import: where a first call takes
longer than `--limit MS` (50) on any machine, that is said and the exit code is 1.

Then one GEMM, side by side with SCALE-Sim 3 where it can be imported: `--scalesim PYTHON` names the
interpreter of an environment that has it (its release needs NumPy below 2, so refvit's has not).
Both count the same cycles, which is checked.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import refvit
from refvit.accel import MACHINES, gemm_cycles
from refvit.accel.memory import best_tiling
from refvit.accel.steps import _steps
from refvit.accel.traffic import candidates
from refvit.accel.widths import _defaults
from refvit.accel.workload import layers_of
from refvit.models import variant, workload_records

LIMIT = 50.0  # milliseconds
CACHES = (best_tiling, candidates, _steps, _defaults, layers_of)
FIRST = """
import sys, time, refvit
config = refvit.models.variant(sys.argv[1])
began = time.process_time()
refvit.simulate(config, sys.argv[2])
print((time.process_time() - began) * 1e3)
"""
CONFIG = """
[general]
run_name = one
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
[architecture_presets]
ArrayHeight = {side}
ArrayWidth = {side}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
ReadRequestBuffer = 64
WriteRequestBuffer = 64
Bandwidth = 10
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
"""
RUN = """
import contextlib, io, os, time
from scalesim.scale_sim import scalesim
os.makedirs("out")
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    tool = scalesim(save_disk_space=True, verbose=False, config="s.cfg", topology="t.csv",
                    layout="t.csv", input_type_gemm=True)
    tool.run_scale(top_path="out")
print((time.perf_counter() - began) * 1e3)
"""


def least(function, runs, before=lambda: None):
    """Return the least milliseconds of CPU time of `function`, each time after `before`."""
    best = float("inf")
    for _ in range(runs):
        before()
        began = time.process_time()
        function()
        best = min(best, (time.process_time() - began) * 1e3)
    return best


def forget():
    for cache in CACHES:
        cache.cache_clear()


def first(model, machine, runs):
    """Return the least milliseconds of a first call, each in a process of its own."""
    root = Path(refvit.__file__).parents[1]
    command = [sys.executable, "-c", FIRST, model, machine]
    outs = (subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
            for _ in range(runs))  # fmt: skip
    return min(map(float, outs))


def measure(model, machine, runs):
    config = variant(model)
    floor = least(lambda: workload_records(config), runs)
    found = {
        "first": first(model, machine, min(runs, 5)),
        "cold": least(lambda: refvit.simulate(config, machine), runs, forget),
        "warm": least(lambda: refvit.simulate(config, machine), runs),
    }
    over = {f"{name}_over_floor": ms / floor for name, ms in found.items()}
    return {"model": model, "machine": machine, "floor_ms": floor, **found, **over}


def scalesim(python, gemm, side, dataflow, runs):
    """Return SCALE-Sim's and our milliseconds on one GEMM, or a line that says why not."""
    M, K, N = gemm
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "s.cfg").write_text(CONFIG.format(side=side, dataflow=dataflow))
        (at / "t.csv").write_text(f"Layer,M,N,K,\none,{M},{N},{K},\n")
        done = subprocess.run([python, "-c", RUN], capture_output=True, text=True, cwd=at)
        if done.returncode:
            return f"no SCALE-Sim: {done.stderr.strip().splitlines()[-1]}"
        report = next(at.rglob("COMPUTE_REPORT.csv")).read_text().splitlines()
    theirs = int(float(report[1].split(",")[2]))
    ours = gemm_cycles(M, K, N, side, side, dataflow, compat="scalesim")
    assert ours == theirs + 1, f"{ours} cycles, SCALE-Sim's last has the number {theirs}"
    ms = least(lambda: gemm_cycles(M, K, N, side, side, dataflow, compat="scalesim"), 100 * runs)
    slow = float(done.stdout)
    return {"gemm": gemm, "array": side, "dataflow": dataflow, "cycles": ours,
            "scalesim_ms": slow, "refvit_ms": ms, "ratio": slow / ms}  # fmt: skip


def show(row):
    figures = "".join(f"{row[k]:>9.2f} ({row[f'{k}_over_floor']:4.1f} x)" for k in
                      ("first", "cold", "warm"))  # fmt: skip
    print(f"{row['model']:<12}{row['machine']:<14}{row['floor_ms']:>9.2f}{figures}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_base")
    parser.add_argument("--machine", help="only this one")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument(
        "--limit", type=float, default=LIMIT, metavar="MS", help="that a first call may take (50)"
    )
    parser.add_argument("--scalesim", default=sys.executable, metavar="PYTHON")
    parser.add_argument(
        "--gemm", type=int, nargs=3, default=(197, 768, 768), metavar=("M", "K", "N")
    )
    parser.add_argument("--array", type=int, default=16)
    parser.add_argument("--dataflow", default="ws")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.json:
        print(f"{'milliseconds':<26}{'floor':>9}{'first':>18}{'cold':>18}{'warm':>18}")
    rows = []
    for machine in MACHINES if args.machine is None else [args.machine]:
        rows.append(measure(args.model, machine, args.runs))
        if not args.json:
            show(rows[-1])
    beside = scalesim(args.scalesim, tuple(args.gemm), args.array, args.dataflow, args.runs)
    if args.json:
        print(json.dumps({"simulate": rows, "scalesim": beside}, indent=2))
    elif isinstance(beside, str):
        print(beside)
    else:
        print(
            "{gemm} on {array} x {array} {dataflow}, {cycles:,} cycles in both: SCALE-Sim "
            "{scalesim_ms:,.0f} ms, refvit {refvit_ms:.4f} ms, {ratio:,.0f} x".format(**beside)
        )
    slow = [row for row in rows if row["first"] > args.limit]
    for row in slow:
        over = f"{row['model']} on {row['machine']} took {row['first']:.1f} ms"
        print(f"too slow: {over}, {args.limit:g} are held", file=sys.stderr)
    sys.exit(int(bool(slow)))


if __name__ == "__main__":
    main()
