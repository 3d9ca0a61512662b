"""A file of answers: what it defines, run in a process of its own, and judged line by line there.

    python -m refvit.course.answers FILE OUT ID ...     what `grade` starts, once for each file

A file is Python or a notebook, whose cells may raise: those of exercises do until they are solved.
An answer is a function of the file that has an exercise's name, or a number of that name where a
prediction is asked for. What is judged is appended to OUT at once, so that a process that dies
takes nothing with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import refvit
from refvit.course.catalogue import exercises
from refvit.course.exercise import Exercise
from refvit.course.judge import judge

MODULE = "answers"


def namespace(path: Path) -> dict[str, Any]:
    """Return what a file of answers defines; its own calls of `refvit.check` do nothing.

    Raises ValueError with the line for a Python file that does not run.
    """
    space: dict[str, Any] = {"__name__": MODULE, "__file__": str(path)}
    refvit.check = refvit.course.check = lambda *arguments: None  # type: ignore[assignment]
    sys.path.insert(0, str(path.parent.resolve()))
    with contextlib.redirect_stdout(io.StringIO()):
        if path.suffix == ".ipynb":
            _run_cells(path, space)
        else:
            _run(path.read_text(encoding="utf-8"), str(path), space)
    return space


def _run(text: str, name: str, space: dict[str, Any]) -> None:
    try:
        exec(compile(text, name, "exec"), space)
    except SyntaxError as error:
        raise ValueError(f"{name!r}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        trace, line = error.__traceback__, 0
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == name else line
            trace = trace.tb_next
        raise ValueError(f"{name!r}, line {line}: {type(error).__name__}: {error}") from None


def _run_cells(path: Path, space: dict[str, Any]) -> None:
    """Run the code cells of a notebook; one that raises is passed over, as are `%` and `!`."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell["source"])
        lines = [line for line in text.splitlines() if line.lstrip()[:1] not in ("%", "!")]
        with contextlib.suppress(ValueError):
            _run("\n".join(lines), f"cell of {path.name}", space)


def answers_in(space: dict[str, Any], known: Sequence[Exercise]) -> dict[str, Any]:
    """Return the answers of a namespace by the id of their exercise, in the order of the course.

    A function counts where it is defined, not where it is imported.
    """
    found = {}
    for exercise in known:
        answer = space.get(exercise.name)
        number = isinstance(answer, int | float) and not exercise.arguments()
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
