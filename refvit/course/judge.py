"""The judge: an answer on every case, the smallest case it fails, and the mistake it looks like.

Cases are drawn once for an exercise, a hundred of them, the same every time. An answer that fails
one is run again under Hypothesis, which shrinks the case as long as it fails; then the named wrong
answers are run on what was drawn, and the first that gives the learner's answers names the mistake.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refvit.course.cases import Case, drawn, explored, on_faulty
from refvit.course.compare import equal
from refvit.course.exercise import Answer, Exercise
from refvit.course.guard import NOT_WRITTEN, Guard, TooLong, Trouble, within_time
from refvit.course.verdict import Verdict, describe
from refvit.testing.extra import hypothesis

COMPARED = 40  # of them, with each named wrong answer
SHRINKING = 0.6  # seconds of processor time, or PATIENCE times as many
PATIENCE = 5  # on a machine that does other work too
NOTHING = object()  # where there is no answer to show

Fault = tuple[str, Any, Any]  # what is wrong, what was found, what was expected


class Refused(Exception):
    """A case that fails, for Hypothesis to shrink."""


class Enough(BaseException):
    """Ends the shrinking: its time is over, or an answer does not end."""


def judge(exercise: Exercise, answer: Any, shrinking: float = SHRINKING) -> Verdict:
    """Return what is to be said about an answer; never raises for anything that the answer does.

    A case that fails is made smaller for `shrinking` seconds of processor time at most.
    """
    if not callable(answer) and not exercise.arguments():
        answer = functools.partial(_value, answer)
    misfit = _misfit(exercise, answer)
    if misfit:
        return Verdict(exercise.id, False, 0, misfit, exercise.returns, hints=len(exercise.hints))
    guard = Guard()
    work = Work(exercise, answer, guard, shrinking)
    return within_time(guard, work.verdict, work.late)


def _value(value: Any) -> Any:
    if value is None or value is Ellipsis:
        raise NotImplementedError
    return value


def _misfit(exercise: Exercise, answer: Any) -> str:
    """Return why an answer cannot be called as the exercise calls it, or ""."""
    asked = f"{exercise.name}({', '.join(exercise.arguments())})"
    if not callable(answer):
        kind = type(answer).__name__
        return f"it is no function but of type {kind}; check takes the function itself, {asked}"
    try:
        takes = inspect.signature(answer)
    except Exception:  # some built-in functions have no signature
        return ""
    try:
        takes.bind(*exercise.arguments())
    except TypeError:
        return f"it takes {takes}; asked for is {asked}"
    return ""


class Work:
    """One answer to one exercise, under judgement."""

    def __init__(
        self, exercise: Exercise, answer: Answer, guard: Guard, shrinking: float = SHRINKING
    ) -> None:
        self.exercise, self.answer, self.guard = exercise, answer, guard
        self.shrinking = shrinking
        self.smallest: tuple[Case, Fault, str] | None = None
        self.ran = 0

    def verdict(self) -> Verdict:
        """Return the verdict on every case that is drawn."""
        cases = drawn(self.exercise)
        for case in cases:
            self.ran += 1
            if self.fails(case):
                self.shrink()
                return self.refusal(cases)
        if self.exercise.tried is not None:
            return self.gullible(cases)
        return Verdict(self.exercise.id, True, len(cases), returns=self.exercise.returns)

    def fails(self, case: Case) -> bool:
        """Whether the answer fails a case, which is then the smallest known."""
        fault = fault_of(self.exercise, self.answer, case, self.guard)
        if fault is not None:
            self.smallest = case, fault, self.guard.printed
        return fault is not None

    def shrink(self) -> None:
        """Look for a smaller case that fails, for a while."""
        ends = time.thread_time() + self.shrinking
        late = time.monotonic() + self.shrinking * PATIENCE

        def law(case: Case) -> None:
            if time.thread_time() > ends or time.monotonic() > late:
                raise Enough
            if self.fails(case):
                raise Refused

        try:
            explored(self.exercise, law, (hypothesis.Phase.generate, hypothesis.Phase.shrink))
        except (Refused, Enough, hypothesis.errors.HypothesisException):
            pass

    def refusal(self, cases: Sequence[Case]) -> Verdict:
        """Return the verdict on an answer that fails the smallest case."""
        assert self.smallest is not None
        case, (fault, found, expected), printed = self.smallest
        names = dict(zip(self.exercise.arguments(), case, strict=True))
        if fault == NOT_WRITTEN:  # in any case
            names = {}
        return self._refused(
            fault, names, found, expected, printed, self.likeness([case, *cases[:COMPARED]])
        )

    def _refused(
        self,
        fault: str,
        case: Mapping[str, Any],
        found: Any,
        expected: Any,
        printed: str,
        like: str,
    ) -> Verdict:
        shown = ["" if answer is NOTHING else describe(answer) for answer in (found, expected)]
        return Verdict(
            self.exercise.id, False, self.ran, fault, self.exercise.returns, case, shown[0],
            shown[1], like, printed, len(self.exercise.hints),
        )  # fmt: skip

    def likeness(self, compared: Sequence[Case]) -> str:
        """Return what the first named wrong answer says that answers alike in every case of
        `compared`, or ""."""
        mine = [outcome(self.answer, case, self.guard) for case in compared]
        for wrong in self.exercise.wrong:
            if not wrong.equivalent and alike(self.exercise, mine, wrong.fn, compared, self.guard):
                return wrong.says
        return ""

    def gullible(self, cases: Sequence[Case]) -> Verdict:
        """Return the verdict on a property that holds for what is right: what faulty function does
        it accept?"""
        tried = self.exercise.tried
        assert tried is not None
        drawn_for = [case[1:] for case in cases]
        for faulty in tried.faulty:
            if not any(refuses(self.answer, faulty.fn, rest, self.guard) for rest in drawn_for):
                like = self.likeness([cases[0], *on_faulty(self.exercise, cases)])
                case = self.telling(faulty.fn, drawn_for)
                ends = "; it should not" if case else ""
                fault = f"it holds for {faulty.name}, a function with {faulty.says}{ends}"
                return self._refused(fault, case, NOTHING, NOTHING, "", like)
        note = f"{len(tried.faulty)} faulty functions are refused"
        return Verdict(self.exercise.id, True, len(cases), returns="property", note=note)

    def telling(self, faulty: Answer, cases: Sequence[Case]) -> dict[str, Any]:
        """Return, by name, the arguments of a short case in which a faulty function breaks the
        property; none where the solution sees no such case."""
        broken = [c for c in cases if refuses(self.exercise.answer, faulty, c, self.guard)]
        if not broken:
            return {}
        shortest = min(broken, key=lambda case: len(describe(case)))
        return dict(zip(self.exercise.arguments()[1:], shortest, strict=True))

    def late(self) -> Verdict:
        """Return the verdict on an answer that does not end."""
        case = dict(zip(self.exercise.arguments(), self.guard.arguments, strict=False))
        fault = "it does not end, or takes too long: it was stopped after some seconds"
        if self.guard.abandoned:
            fault = "it does not end and cannot be stopped: restart the kernel"
        return self._refused(fault, case, NOTHING, NOTHING, self.guard.printed, "")


def fault_of(exercise: Exercise, answer: Answer, case: Case, guard: Guard) -> Fault | None:
    """Return what is wrong with an answer in one case, or None."""
    try:
        found = guard.call(answer, case)
    except Trouble as trouble:
        return str(trouble), NOTHING, NOTHING
    expected = True if exercise.tried is not None else exercise.expected(*case)
    if not case and isinstance(expected, int) and isinstance(found, float) and found.is_integer():
        found = int(found)  # a prediction, made with a division
    try:
        fault = exercise.judge(found, expected, *case)
    except TooLong:
        raise
    except BaseException:  # of an object whose comparison raises
        fault = f"it is of type {type(found).__name__}, expected {describe(expected)}"
    return (fault, found, expected) if fault else None


def outcome(answer: Answer, case: Case, guard: Guard) -> Any:
    """Return an answer, or the `Trouble` instead of one."""
    try:
        return guard.call(answer, case)
    except Trouble as trouble:
        return trouble


def alike(
    exercise: Exercise, mine: Sequence[Any], other: Answer, cases: Sequence[Case], guard: Guard
) -> bool:
    """Whether another answer gives the same on every case: equal, or troubled in the same way."""
    for one, case in zip(mine, cases, strict=True):
        its = outcome(other, case, guard)
        if isinstance(one, Trouble) or isinstance(its, Trouble):
            if str(one).split(" in the line")[0] != str(its).split(" in the line")[0]:
                return False
        elif equal(one, its, within=1e-9):
            return False
    return True


def refuses(check: Answer, faulty: Answer, case: Case, guard: Guard) -> bool:
    """Whether a property is false of a faulty function in one case; an assertion counts."""
    found = outcome(check, (faulty, *case), guard)
    if isinstance(found, Trouble):
        return "AssertionError" in str(found)
    return isinstance(found, bool | np.bool_) and not found
