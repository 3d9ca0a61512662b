"""An exercise: an answer that is right, the cases it is tried on, and named answers that are not.

An exercise is data. `answer` is the solution, a function whose docstring is the task; `cases` is a
Hypothesis strategy that draws its arguments, one tuple a case; each `Wrong` is a mistake that
learners make, with the sentence that names it. Who adds an exercise adds its mistakes, and a test
holds that every one of them is refused, and by its own name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refvit.course.compare import equal

Answer = Callable[..., Any]
Judge = Callable[..., str]


@dataclass(frozen=True)
class Wrong:
    """A wrong answer: `name` for tests and tables, `says` what it looks like, and `fn` itself.

    `says` completes "this looks like ...". `equivalent` is the reason why it is no mistake after
    all: such an answer is accepted, and a test holds that too.
    """

    name: str
    says: str
    fn: Answer
    equivalent: str = ""


@dataclass(frozen=True)
class Tried:
    """What a property is tried on: functions it holds for, and faulty ones it has to refuse."""

    right: tuple[Answer, ...]
    faulty: tuple[Wrong, ...]


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise of the course.

    `id`        notebook and name, "nb02.symmetric"; the name is the function the learner writes
    `title`     a few words for a list
    `answer`    the solution; its docstring says what is asked, with shapes, dtypes and ranges
    `cases`     strategy of argument tuples, or of () for a prediction, which takes none
    `wrong`     4 to 8 named wrong answers
    `hints`     sentences, each giving away a little more
    `returns`   what a message calls the answer: "codes", "scale"
    `truth`     computes what is expected, where that is not `answer`: the simulator, a slow loop
    `judge`     (found, expected, *arguments) -> "" or what is wrong with `found`
    `edges`     cases tried besides those that are drawn; of a property, with a right function or
                without, for all of them
    `tried`     for an exercise whose answer is a property: its first argument is a function of
                `tried.right` or `tried.faulty`, then come the arguments that `cases` draws
    """

    id: str
    title: str
    answer: Answer
    cases: Any
    wrong: tuple[Wrong, ...]
    hints: tuple[str, ...]
    returns: str = "answer"
    truth: Answer | None = None
    judge: Judge = equal
    edges: Sequence[tuple[Any, ...]] = ()
    tried: Tried | None = None

    @property
    def name(self) -> str:
        """The function that is asked for."""
        return self.answer.__name__

    def expected(self, *arguments: Any) -> Any:
        """Return what an answer is compared with."""
        return (self.truth or self.answer)(*arguments)

    def arguments(self) -> list[str]:
        """Return the names of the arguments of an answer."""
        return list(inspect.signature(self.answer).parameters)

    def task(self) -> str:
        """Return what is asked, as the learner reads it."""
        return inspect.getdoc(self.answer) or ""
