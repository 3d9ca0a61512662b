"""What `check` says: one paragraph of text, and the same as a small table in a notebook."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHOWN = 12  # elements of an array that are printed
BITS = 96  # of an array of True and False, as 1 and 0
PLURAL = frozenset(("bits", "bytes", "codes", "pairs", "parameters", "weights"))  # of a prediction


@dataclass(frozen=True, repr=False)
class Verdict:
    """The outcome for one answer.

    `fault` is "" if it passed. `case` holds the arguments of the smallest counterexample by name;
    `found` and `expected` the two answers as text, "" where there is none; `diagnosis` the named
    mistake that gives the same answers; `printed` what the answer printed in that case.
    """

    exercise: str
    passed: bool
    cases: int
    fault: str = ""
    returns: str = "answer"
    case: Mapping[str, Any] = field(default_factory=dict)
    found: str = ""
    expected: str = ""
    diagnosis: str = ""
    printed: str = ""
    hints: int = 0
    note: str = ""

    def __str__(self) -> str:
        head = f"{self.exercise}: "
        if self.passed:
            are = "are" if self.returns in PLURAL else "is"
            cases = (
                f"the {self.returns} {are} right" if self.cases == 1 else f"{self.cases} cases pass"
            )
            return f"{head}{cases}{'; ' + self.note if self.note else ''}"
        lines = [head + self._sentence()]
        if self.diagnosis:
            lines.append(f"This looks like {self.diagnosis}.")
        if self.printed:
            lines.append("It printed: " + " | ".join(self.printed.splitlines()[:5]))
        if self.hints:
            lines.append(f'{_hints(self.hints)}: refvit.course.hint("{self.exercise}")')
        return "\n  ".join(lines)

    __repr__ = __str__

    def _sentence(self) -> str:
        said = ", ".join(f"{name} = {describe(value)}" for name, value in self.case.items())
        case = f" for {said}" if said else ""
        if self.found and self.expected:
            answers = f"{self.returns} {self.found}, expected {self.expected}"
            return answers + case + ("" if self._obvious() else f" ({self.fault})")
        answer = f", {self.returns} {self.found}," if self.found else ""
        return f"{self.fault}{answer}{case}"

    def _obvious(self) -> bool:
        """Whether the two answers, as they are printed, show where they differ."""
        return bool(re.match(r"(at \[\d+\] )?it is \S+, expected \S+$", self.fault)) and not (
            "..." in self.found or "nan" in self.fault
        )

    def _repr_html_(self) -> str:
        if self.passed:
            return f'<p style="{PASSED}"><b>✓</b> {html.escape(str(self))}</p>'
        fault = "not yet" if self.found and self._obvious() else self.fault
        lines = [f"<b>✗ {html.escape(self.exercise)}</b>: {html.escape(fault)}", self._table()]
        if self.diagnosis:
            lines.append(f"This looks like <b>{html.escape(self.diagnosis)}</b>.")
        if self.printed:
            lines.append(f"It printed: <code>{html.escape(self.printed[:300])}</code>")
        if self.hints:
            asked = html.escape(f'refvit.course.hint("{self.exercise}")')
            lines.append(f"{_hints(self.hints)}: <code>{asked}</code>")
        return f'<div style="{FAILED}">{"<br>".join(filter(None, lines))}</div>'

    def _table(self) -> str:
        rows = [(name, describe(value), "") for name, value in self.case.items()]
        rows += [(f"your {self.returns}", self.found, FOUND)] if self.found else []
        rows += [("expected", self.expected, EXPECTED)] if self.expected else []
        cells = "".join(
            f'<tr><td style="text-align:left">{html.escape(name)}</td><td style="text-align:left;'
            f'{style}"><code>{html.escape(text)}</code></td></tr>'
            for name, text, style in rows
        )
        return f"<table>{cells}</table>" if cells else ""

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as data for JSON."""
        case = {name: describe(value) for name, value in self.case.items()}
        kept = ("exercise", "passed", "cases", "fault", "found", "expected", "diagnosis")
        return {name: getattr(self, name) for name in kept} | {"text": str(self), "case": case}


PASSED = "border-left:4px solid #009e73;padding:2px 8px"
FAILED = "border-left:4px solid #d55e00;padding:2px 8px"
FOUND, EXPECTED = "border-left:3px solid #d55e00", "border-left:3px solid #009e73"


def _hints(count: int) -> str:
    return "a hint" if count == 1 else f"{count} hints"


def describe(value: Any) -> str:
    """Return a short form of an argument or an answer, as it would be typed; of what cannot be
    printed, its type.

    >>> describe(np.array([1, -3], np.int8)), describe(np.float32(0.5)), describe((1, 2.0))
    ('[1, -3]', '0.5', '(1, 2.0)')
    >>> describe(np.array([], np.int64)), describe(np.zeros((0, 2)))
    ('[]', 'float64 array of shape (0, 2): []')
    >>> describe(np.zeros((4, 9)))
    'float64 array of shape (4, 9): [0.0, 0.0, 0.0, ...]'
    >>> describe(np.eye(4, dtype=bool))
    'bool array of shape (4, 4): 1000 0100 0010 0001'
    """
    try:
        return _described(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _described(value: Any) -> str:
    if isinstance(value, np.generic):
        return str(value.item())
    if isinstance(value, np.ndarray):
        if 0 < value.size <= SHOWN or value.ndim == 0 or value.shape == (0,):
            return str(value.tolist())
        if value.dtype == bool and 0 < value.size <= BITS:
            rows = value.reshape(-1, value.shape[-1]).astype(int)
            said = " ".join("".join(map(str, row)) for row in rows)
            return f"bool array of shape {value.shape}: {said}"
        head = ", ".join(str(v) for v in value.ravel()[:3].tolist())
        return (
            f"{value.dtype} array of shape {value.shape}: [{head}{', ...' if value.size else ''}]"
        )
    if isinstance(value, tuple | list):
        left, right = "()" if isinstance(value, tuple) else "[]"
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return left + ", ".join(map(describe, value)) + comma + right
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return str(getattr(value, "__name__", type(value).__name__))
    return str(value) if not isinstance(value, str) else repr(value)
