"""A file of answers: what it defines, run in a process of its own, and judged line by line there.

`grade` starts this, once for each file, with the arguments FILE OUT ID ...

A file is Python or a notebook, whose cells may raise: those of exercises do until they are solved.
An answer is a function of the file that has an exercise's name, or a number of that name where a
prediction is asked for. What is judged is appended to OUT at once, so that a process that dies
takes nothing with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import refvit
from refvit.course.catalogue import exercises
from refvit.course.exercise import Exercise
from refvit.course.judge import judge

MODULE = "answers"
MAGIC = re.compile(r"^([ \t]*)([%!?]|\w+ *= *[%!]|[\w.]+\?+ *$).*", re.MULTILINE)  # of IPython


def namespace(path: Path) -> dict[str, Any]:
    """Return what a file of answers defines; its own calls of `refvit.check` do nothing.

    Raises ValueError with the line for a Python file that does not run.
    """
    module = sys.modules[MODULE] = ModuleType(MODULE)
    module.__file__ = str(path)
    refvit.check = refvit.course.check = lambda *_, **__: None  # type: ignore[assignment]
    sys.path.append(str(path.parent.resolve()))  # last: a copy.py beside the file is not Python's
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8: {error.reason}") from None
    with contextlib.redirect_stdout(io.StringIO()):
        if path.suffix == ".ipynb":
            _run_cells(text, path, module.__dict__)
        else:
            _run(text, str(path), module.__dict__)
    return module.__dict__


def _run(text: str, name: str, space: dict[str, Any]) -> None:
    try:
        exec(compile(text, name, "exec", dont_inherit=True), space)
    except SyntaxError as error:
        raise ValueError(f"{name!r}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        trace, line = error.__traceback__, 0
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == name else line
            trace = trace.tb_next
        raise ValueError(f"{name!r}, line {line}: {type(error).__name__}: {error}") from None


def _run_cells(text: str, path: Path, space: dict[str, Any]) -> None:
    """Run the code cells of a notebook; one that raises is passed over, as are `%` and `!`."""
    try:
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is no notebook") from None
    for source in sources:
        with contextlib.suppress(ValueError):
            _run(_plain(source), f"cell of {path.name}", space)


def _plain(source: str) -> str:
    """Return a cell without the lines that are IPython's, if it is no Python as it is.

    >>> _plain("x = 7\\n%time y = 1"), _plain("x = (7\\n% 4)")
    ('x = 7\\npass', 'x = (7\\n% 4)')
    """
    try:
        compile(source, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return MAGIC.sub(r"\1pass", source)
    return source


def answers_in(space: dict[str, Any], known: Sequence[Exercise]) -> dict[str, Any]:
    """Return the answers of a namespace by the id of their exercise, in the order of the course.

    A function counts where it is defined, not where it is imported.
    """
    found = {}
    for exercise in known:
        answer = space.get(exercise.name)
        number = isinstance(answer, int | float | np.number) and not exercise.arguments()
        if number or getattr(answer, "__module__", None) == MODULE:
            found[exercise.id] = answer
    return found


def main(path: Path, out: Path, wanted: Sequence[str]) -> None:
    """Judge the answers of a file, or `wanted` of them, a line of JSON for each."""
    known = exercises()
    with out.open("a", encoding="utf-8") as lines:

        def say(about: dict[str, Any]) -> None:
            lines.write(json.dumps(about) + "\n")
            lines.flush()

        try:
            answers = answers_in(namespace(path), known)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return say({"error": " ".join(str(error).split())})
        mine = [e for e in known if e.id in answers and (not wanted or e.id in wanted)]
        say({"judged": [exercise.id for exercise in mine]})
        for exercise in mine:
            say({"begun": exercise.id})
            say(judge(exercise, answers[exercise.id]).to_json())
    return None
