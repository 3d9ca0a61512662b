"""Grading: a file of answers judged in another process, whatever it does there.

The process has this user's rights, so the answers of strangers belong in a container.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refvit.course.verdict import Verdict

SILENT_SECONDS = 90.0  # without a verdict; the file itself has to run within them
ROOT = str(Path(__file__).resolve().parents[2])  # where this refvit is
START = """import pathlib, sys
root, file, out, *wanted = sys.argv[1:]
if root not in sys.path:
    sys.path.insert(0, root)
from refvit.course.answers import main
main(pathlib.Path(file), pathlib.Path(out), wanted)
"""
MISSING = "there is no answer: the file defines no function of that name"


def graded(path: Path, wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the verdict, as data for JSON, on every answer in a file, or on `wanted` exercises,
    of which one without an answer is not passed.

    Raises FileNotFoundError, or ValueError for a file that does not run or has no answers;
    ImportError without Hypothesis.
    """
    import refvit.testing.extra  # noqa: F401  (said here: what the process says is not heard)

    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    found, left = _judged(path, wanted)
    while left:  # an answer that ended the process takes only itself along
        more, left = _judged(path, left)
        found |= more
    if not found and not wanted:
        raise ValueError(
            f"{str(path)!r} answers no exercise: it defines no function that one asks for; "
            "refvit check lists them"
        )
    return [found.get(name) or _not_passed(name, MISSING) for name in wanted or found]


def _judged(path: Path, wanted: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the verdicts of one process by exercise, and what it left because it ended early."""
    lines, ending = _lines(path, wanted)
    trouble = [line["error"] for line in lines if "error" in line]
    if trouble or not lines:
        raise ValueError(trouble[0] if trouble else f"{str(path)!r} did not run: {ending}")
    found = {line["exercise"]: line for line in lines if "exercise" in line}
    fault = f"it ended the process that judged it ({ending})"
    for line in lines:
        if "begun" in line:
            found.setdefault(line["begun"], _not_passed(line["begun"], fault))
    return found, [name for name in lines[0]["judged"] if name not in found]


def _not_passed(exercise: str, fault: str) -> dict[str, Any]:
    return Verdict(exercise, False, 0, fault).to_json()


def _lines(path: Path, wanted: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return what the process wrote about a file, and how it ended."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "verdicts.jsonl"
        out.touch()
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", START, ROOT, str(path), str(out), *wanted],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"MPLBACKEND": "Agg"},
        )  # fmt: skip
        try:
            ending = _wait(child, out)
        finally:
            child.kill()
            child.wait()
        text = out.read_text(encoding="utf-8", errors="replace")
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")], ending


def _wait(child: subprocess.Popen[bytes], out: Path) -> str:
    """Wait until a process ends or writes nothing for a while; return how it ended."""
    size, since = 0, time.monotonic()
    while child.poll() is None:
        time.sleep(0.02)
        if out.stat().st_size != size:
            size, since = out.stat().st_size, time.monotonic()
        if time.monotonic() - since > SILENT_SECONDS:
            return f"no verdict for {SILENT_SECONDS:.0f} seconds"
    return f"exit code {child.returncode}"
