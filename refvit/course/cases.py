"""The cases of an exercise: drawn by Hypothesis, the same ones in the same order every time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refvit.course.exercise import Exercise
from refvit.testing.extra import hypothesis, st

CASES = 100

Case = tuple[Any, ...]


def drawn(exercise: Exercise) -> list[Case]:
    """Return the cases of an exercise: its edges, then a hundred that are drawn; for a prediction,
    which has no arguments, one. A property meets every function that is right on each edge
    that names none."""
    return list(_drawn(exercise))


@functools.cache
def _drawn(exercise: Exercise) -> tuple[Case, ...]:
    if not exercise.arguments():
        return ((),)
    found: list[Case] = []
    explored(exercise, found.append, (hypothesis.Phase.generate,))
    return (*_edges(exercise), *found)


def _edges(exercise: Exercise) -> Iterator[Case]:
    """Yield the edges as whole cases: one of a property without its function, with every right
    one."""
    for edge in exercise.edges:
        if exercise.tried is None or len(edge) == len(exercise.arguments()):
            yield edge
        else:
            yield from ((fn, *edge) for fn in exercise.tried.right)


def explored(exercise: Exercise, law: Callable[[Case], Any], phases: Sequence[Any]) -> None:
    """Run a law on drawn cases, by the same seed for every law.

    Nothing is read from or written to the disk, and no time is measured.
    """

    def on(case: Case) -> None:
        law(case)

    given: Any = hypothesis.given(_whole(exercise))  # which is not typed
    run: Any = hypothesis.seed(0)(given(on))
    settings = hypothesis.settings(
        max_examples=CASES, database=None, deadline=None, phases=phases, print_blob=False,
        report_multiple_bugs=False, suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet, derandomize=False,
    )  # fmt: skip
    settings(run)()


def _whole(exercise: Exercise) -> Any:
    """Return the strategy of whole cases; a property meets functions that are right first."""
    if exercise.tried is None:
        return exercise.cases
    right = st.sampled_from(exercise.tried.right)
    return st.builds(lambda fn, rest: (fn, *rest), right, exercise.cases)


def on_faulty(exercise: Exercise, cases: Sequence[Case]) -> list[Case]:
    """Return the cases of a property with its faulty functions, each in turn, as the first
    argument."""
    assert exercise.tried is not None
    functions = [faulty.fn for faulty in exercise.tried.faulty]
    return [
        (functions[k % len(functions)], *cases[k % len(cases)][1:])
        for k in range(max(len(functions), len(cases)))
    ]
