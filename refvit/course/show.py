"""How the course speaks: rich in a notebook, plain text elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from refvit.course.verdict import Verdict


class WrongAnswer(AssertionError):
    """An answer that is not right; `verdict` says why, and so does the message.

    In a notebook the verdict is shown as a table in place of a traceback.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict
        self._displayed = False

    def _render_traceback_(self) -> list[str]:
        display = displayed()
        if display is None:
            return [str(self)]
        if not self._displayed:  # a kernel asks more than once
            self._displayed = True
            display(self.verdict)
        return [f"{self.verdict.exercise} is not solved yet."]


def displayed() -> Any:
    """Return IPython's `display` inside a notebook, else None."""
    python = sys.modules.get("IPython")
    shell = None if python is None else python.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return sys.modules["IPython.display"].display
