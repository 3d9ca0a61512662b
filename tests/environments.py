"""The same integers everywhere: `python tests/environments.py [--python 3.11 3.13] [--json]`.

Makes virtual environments with pip (each Python, NumPy 2.0 and the newest) and runs one program in
each: with one and two BLAS threads, without the SIMD that NumPy dispatches to, with the OpenBLAS
kernels of other processors. Everything must give the digests of the first: the logits of the
golden artefact, and every kernel of every profile; and `refvit doctor` must find nothing wrong.

Engines compiled on the spot are not compared: calibration computes in floats, whose last bit may
differ between two BLAS, and with it a scale. From the artefact on there is no such freedom.
Exits with 1 where something differs or fails, or where fewer than two environments ran. A row
where NumPy alone crashes is skipped: OpenBLAS 0.3.34 does with the kernels of other processors on
an AMD Zen 4 (its issue 6021).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "nano_vit_w8a8.safetensors"
NUMPY = ("numpy==2.0.*", "numpy")
SIMD, KERNELS = "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Kernels of OpenBLAS, and the feature, by NumPy's name, without which they cannot run.
CORES = {"Prescott": "SSE3", "Nehalem": "SSE42", "Sandybridge": "AVX", "Haswell": "AVX2",
         "Zen": "AVX2", "SkylakeX": "AVX512_SKX", "SapphireRapids": "AVX512_SPR",
         "ARMV8": "ASIMD", "NEOVERSEN1": "ASIMDHP", "NEOVERSEV1": "SVE"}  # fmt: skip
ALONE = """
import numpy as np
for kind in (np.float32, np.float64):
    for m, n in ((17, 9), (131, 67)):
        np.ones((m, 1024), kind) @ np.ones((1024, n), kind)
print("{}")
"""
PROGRAM = """
import hashlib, json, sys
import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
import refvit
from refvit import doctor
from refvit.integer import FAST

def sha256(raw):
    return hashlib.sha256(raw).hexdigest()

engine = refvit.load(sys.argv[1])
images, _ = refvit.data.shapes10("test", 12)
logits = engine(engine.preprocess.normalise(images))
found = doctor.examine(doctor.all_checks())
core, threads = doctor.openblas() or ("", 0)
print(json.dumps({
    "logits": sha256(logits.astype("<i4").tobytes()),
    "kernels": sha256(json.dumps(doctor.every_kernel(FAST)).encode()),
    "wrong": [f"{name}: {wrong}" for name, wrong, _ in found if wrong],
    "numpy": np.__version__,
    "core": core,
    "threads": threads,
    "dispatched": [name for name in __cpu_dispatch__ if __cpu_features__[name]],
    "features": [name for name, there in __cpu_features__.items() if there],
}))
"""


@dataclass
class Row:
    """One environment: what ran there, its digests, and how it ended."""

    environment: str
    outcome: str
    logits: str = ""
    kernels: str = ""
    core: str = ""
    seconds: float = 0.0

    def __str__(self):
        digests = f"{self.logits[:12]:<14}{self.kernels[:12]:<14}"
        return f"{self.environment:<50}{digests}{self.core:<13}{self.seconds:>6.1f}  {self.outcome}"


HEAD = f"{'environment':<50}{'logits':<14}{'kernels':<14}{'BLAS':<13}{'s':>6}  outcome"


def pythons(version):
    """Yield interpreters that may be Python `version`: this one, on the path, of pyenv."""
    yield sys.executable
    yield shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


def find_python(version):
    """Return an interpreter that says it is `version`, None if there is none."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, pythons(version)):
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    return None


def make_environment(python, numpy, folder):
    """Make or renew a virtual environment with refvit's dependencies; return why it cannot be."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    others = [need for need in about["project"]["dependencies"] if not need.startswith("numpy")]
    steps = (
        [python, "-m", "venv", str(folder)],
        [inside(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--upgrade", "--only-binary", ":all:", numpy, *others],
    )  # fmt: skip
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            return last_line(done)
    return ""


def inside(folder):
    """Return the interpreter of a virtual environment."""
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def last_line(done):
    """Return the last thing a process said, or how it ended."""
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
    return said.splitlines()[-1]


def settings(base):
    """Yield labels and variables to run with, where `base` is what a run without any said."""
    for count in ("1", "2"):
        yield f"{count} thread{'s' * (count != '1')}", dict.fromkeys(THREADS, count)
    if base["dispatched"]:
        yield "no dispatched SIMD", {SIMD: " ".join(base["dispatched"])}
    for core, needs in CORES.items():
        if needs in base["features"]:
            yield f"{core} kernels", {KERNELS: core}


def run(python, variables, program, *arguments):
    """Run a program with more variables; return what it printed, or None and why it did not."""
    clean = {k: v for k, v in os.environ.items() if k not in (SIMD, KERNELS, *THREADS)}
    clean |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | variables
    command = [python, "-c", program, *map(str, arguments)]
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return None, "no answer in 15 minutes"
    return (None, last_line(done)) if done.returncode else (json.loads(done.stdout), "")


def outcome(found, variables, first):
    """Say how one run compares: same, DIFFERENT or FAILED; skipped if it was the same, but not in
    the environment that was asked for."""
    if found["wrong"]:
        return f"FAILED: {found['wrong'][0]}"
    apart = [what for what in ("logits", "kernels") if found[what] != first[what]]
    if apart:
        return f"DIFFERENT: {' and '.join(apart)}"
    wanted = variables.get(KERNELS)
    if wanted and found["core"].lower() != wanted.lower():
        return f"skipped: OpenBLAS took {found['core'] or 'no kernels it names'}, the same there"
    if variables.get(SIMD) and found["dispatched"]:
        return f"skipped: NumPy still dispatches to {' '.join(found['dispatched'])}"
    return "same"


def rows(versions, artefact, folder):
    """Make every environment and yield its rows; the first that answers is the reference."""
    first = None
    for version in versions:
        python = find_python(version)
        for numpy in NUMPY:
            name = f"Python {version}, {numpy.replace('==', ' ')}"
            if python is None:
                yield Row(name, f"skipped: no Python {version} on PATH or in pyenv")
                continue
            place = folder / f"{version}-{numpy.replace('==', '-').replace('*', 'x')}"
            if why := make_environment(python, numpy, place):
                yield Row(name, f"skipped: {why}")
                continue
            base, why = run(inside(place), {}, PROGRAM, artefact)
            if base is None:
                yield Row(name, f"FAILED: {why}")
                continue
            first = first or base
            name = f"Python {version}, NumPy {base['numpy']}"
            for label, variables in settings(base):
                yield compared(f"{name}, {label}", inside(place), artefact, variables, first)


def compared(name, python, artefact, variables, first):
    """Return the row of one run."""
    began = time.monotonic()
    found, why = run(python, variables, PROGRAM, artefact)
    seconds = time.monotonic() - began
    if found is None and why.startswith("signal") and run(python, variables, ALONE)[1] == why:
        return Row(name, f"skipped: NumPy alone ends there by {why}", seconds=seconds)
    if found is None:
        return Row(name, f"FAILED: {why}", seconds=seconds)
    end = outcome(found, variables, first)
    core = f"{found['core']} x{found['threads']}"
    return Row(name, end, found["logits"], found["kernels"], core, seconds)


def verdict(found):
    """Return the exit code for all rows."""
    bad = any(row.outcome.startswith(("DIFFERENT", "FAILED")) for row in found)
    return int(bad or sum(row.outcome == "same" for row in found) < 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=["3.11", "3.13"], metavar="VERSION")
    parser.add_argument("--artefact", type=Path, default=GOLDEN, metavar="PATH")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the environments there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.artefact.is_file():
        parser.error(f"no file {str(args.artefact)!r}")
    found, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = (
            (args.keep or Path(scratch)).resolve(),
            sys.stderr if args.json else sys.stdout,
        )
        print(HEAD, file=out, flush=True)
        for row in rows(args.python, args.artefact.resolve(), folder):
            found.append(row)
            print(row, file=out, flush=True)
    same = sum(row.outcome == "same" for row in found)
    print(f"\n{same} of {len(found)} the same, {time.monotonic() - began:.0f} s.", file=out)
    if args.json:
        print(json.dumps([asdict(row) for row in found], indent=2))
    return verdict(found)


if __name__ == "__main__":
    sys.exit(main())
