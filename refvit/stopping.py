"""Ctrl-C while the command is loading: one line, as later.

The command `refvit`, or `python -m refvit`, handles Ctrl-C once `cli.main` runs; until then NumPy
and the package are read, for a good part of a second. So this module, the first that the package
imports, says what an interrupt says. A program that imports refvit is left as it is.
"""

from __future__ import annotations

import sys
from types import TracebackType


def is_command() -> bool:
    """Say whether this process was started as the command: by its script, or by `-m refvit`."""
    script = sys.argv[0].replace("\\", "/").rpartition("/")[2] if sys.argv else ""
    return script in ("refvit", "refvit.exe") or sys.orig_argv[1:3] == ["-m", "refvit"]


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception as Python does, but of an interrupt one line."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nrefvit: stopped\n")
    else:
        sys.__excepthook__(kind, error, trace)


if is_command():
    sys.excepthook = one_line
