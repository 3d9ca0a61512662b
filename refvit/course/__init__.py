"""The course: exercises whose answers are met with the smallest case they fail.

    refvit.check("nb02.symmetric", my_function)      judge an answer; raises if it is wrong
    refvit.course.hint("nb02.symmetric")             a hint; hint(..., 2) gives away more
    refvit.course.solution("nb02.symmetric")         the solution
    refvit.course.progress()                         what is solved, notebook by notebook

It needs Hypothesis, which comes with the extra `notebooks` (pip install 'refvit[notebooks]'); it is
imported when the first answer is judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refvit.course.show import WrongAnswer
from refvit.course.verdict import Verdict

__all__ = ["Verdict", "WrongAnswer", "check", "hint", "progress", "solution", "verdict"]


def verdict(exercise: str, answer: Any) -> Verdict:
    """Return what is to be said about an answer to an exercise; progress is left alone.

    Raises ValueError if there is no such exercise, and for nothing that the answer does.
    """
    from refvit.course.catalogue import find
    from refvit.course.judge import judge

    return judge(find(exercise), answer)


def check(exercise: str, answer: Any) -> Verdict:
    """Judge an answer to an exercise, `check("nb02.symmetric", my_function)`, and note it if it is
    right.

    The function is called with a hundred drawn cases, copies all of them. Raises `WrongAnswer`, an
    AssertionError, with the smallest case that it fails, and ValueError for an unknown exercise. A
    prediction, which takes no arguments, may be the number itself. In a notebook the verdict is a
    small table.
    """
    from refvit.course.record import record

    found = verdict(exercise, answer)
    if not found.passed:
        raise WrongAnswer(found)
    note = "; ".join(filter(None, (found.note, record(exercise))))
    return replace(found, note=note)


def hint(exercise: str, level: int = 1) -> None:
    """Show a hint, or the next with `level` 2 and more; ValueError where there is none."""
    from refvit.course.catalogue import find

    hints = find(exercise).hints
    if not 1 <= level <= len(hints):
        raise ValueError(f"{exercise} has {len(hints)} hints, from 1 on; asked for was {level}")
    more = f'  (more: hint("{exercise}", {level + 1}))' if level < len(hints) else ""
    print(hints[level - 1] + more)


def solution(exercise: str) -> None:
    """Show the solution of an exercise."""
    from refvit.course.catalogue import find
    from refvit.course.source import solution as source

    print(source(find(exercise)))


def progress() -> None:
    """Show which exercises are solved, notebook by notebook."""
    from refvit.course.listing import listing

    print(listing())
