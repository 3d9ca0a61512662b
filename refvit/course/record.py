"""Progress: a line for every exercise that was solved, appended and never rewritten.

What is on a line stays as it is whatever happens later: two notebooks may write at once, a process
may die half way through a line, somebody may edit the file; a line that is not one is passed over.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

VARIABLE = "REFVIT_PROGRESS"


def place() -> Path:
    """Return the file of progress: $REFVIT_PROGRESS, or `refvit/progress.jsonl` where this system
    keeps the data of a user's programs. OSError for a user without a home."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    windows = sys.platform == "win32"
    try:
        base = os.environ.get("LOCALAPPDATA" if windows else "XDG_DATA_HOME") or (
            Path.home() / ("AppData/Local" if windows else ".local/share")
        )
    except RuntimeError:
        raise OSError("there is no home to keep it in") from None
    return Path(base) / "refvit" / "progress.jsonl"


def record(exercise: str) -> str:
    """Note that an exercise is solved; return "", or one clause that says why that failed."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"exercise": exercise, "solved": when})
    try:
        if exercise in solved():
            return ""
        where = place()
        where.parent.mkdir(parents=True, exist_ok=True)
        with where.open("ab") as file:  # one write of a short line is not torn apart
            file.write(b"\n" + line.encode() + b"\n")
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        return f"progress is not kept: {error.strerror or error}{at}; set ${VARIABLE}"
    return ""


def solved() -> dict[str, str]:
    """Return when each exercise was first solved, by its id."""
    found: dict[str, str] = {}
    try:
        lines = place().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            about = json.loads(line)
            found.setdefault(str(about["exercise"]), str(about["solved"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found
