"""Laws of the exercises: every solution passes, every named wrong answer is refused by its name."""

import functools
from collections import Counter

import numpy as np
import pytest

from refvit.course.cases import drawn
from refvit.course.catalogue import NOTEBOOKS, exercises, exercises_of
from refvit.course.judge import judge
from refvit.course.source import BEGIN, END, solution, stub

ALL = exercises()
MISTAKES = [(exercise, wrong) for exercise in ALL for wrong in exercise.wrong]


def named(pair):
    return f"{pair[0].id}-{pair[1].name}"


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_the_solution_passes(exercise):
    verdict = judge(exercise, exercise.answer)
    assert verdict.passed, str(verdict)
    assert len(exercise.wrong) in range(4, 9)
    assert exercise.hints
    assert exercise.id.split(".")[1].isidentifier()


@pytest.mark.parametrize("pair", MISTAKES, ids=named)
def test_a_wrong_answer_is_refused_by_its_name_or_is_none(pair):
    exercise, wrong = pair
    verdict = judge(exercise, wrong.fn)
    assert verdict.passed == bool(wrong.equivalent), str(verdict)
    if not wrong.equivalent:
        assert verdict.diagnosis == wrong.says, str(verdict)


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_a_property_accepts_what_is_right_and_every_faulty_function_fails_the_solution(exercise):
    if exercise.tried is None:
        pytest.skip("the answer is no property")
    assert len(exercise.tried.right) >= 2
    assert len(exercise.tried.faulty) >= 3


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_a_stub_is_told_that_it_is_not_written(exercise):
    space = {}
    exec(stub(exercise), space)
    verdict = judge(exercise, space[exercise.answer.__name__])
    assert "not written yet" in verdict.fault
    assert not verdict.passed
    assert BEGIN in solution(exercise)
    assert END in solution(exercise)


def test_a_property_may_answer_with_a_boolean_of_numpy():
    exercise = next(e for e in ALL if e.tried is not None)

    @functools.wraps(exercise.answer)
    def answer(*arguments):
        return np.bool_(exercise.answer(*arguments))

    assert judge(exercise, answer).passed


def test_the_course_is_whole():
    assert [n.number for n in NOTEBOOKS] == list(range(13))
    names = Counter(exercise.answer.__name__ for exercise in ALL)
    assert max(names.values()) == 1, names.most_common(3)  # a file of answers tells them apart
    assert all(e.id.startswith(n.id + ".") for n in NOTEBOOKS for e in exercises_of(n))


def test_cases_are_the_same_every_time():
    exercise = ALL[0]
    first = drawn(exercise)
    drawn.__globals__["_drawn"].cache_clear()
    assert repr(first) == repr(drawn(exercise))
