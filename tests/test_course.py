"""Laws of the exercises: every solution passes, every named wrong answer is refused by its name."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from refvit.course.cases import drawn
from refvit.course.catalogue import NOTEBOOKS, exercises, exercises_of
from refvit.course.judge import judge
from refvit.course.source import BEGIN, END, solution, stub

NOTEBOOK_FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
ALL = exercises()
PROPERTIES = [exercise for exercise in ALL if exercise.tried is not None]
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
    verdict = judge(exercise, wrong.fn, shrinking=0.0)  # the instructor's table has the smallest
    assert verdict.passed == bool(wrong.equivalent), str(verdict)
    if not wrong.equivalent:
        assert verdict.diagnosis == wrong.says, str(verdict)


@pytest.mark.parametrize("exercise", PROPERTIES, ids=lambda e: e.id)
def test_a_property_meets_two_right_functions_and_three_faulty_ones(exercise):
    assert len(exercise.tried.right) >= 2
    assert len(exercise.tried.faulty) >= 3


def test_a_property_may_answer_with_a_bool_of_numpy():
    exercise = next(e for e in ALL if e.tried is not None)

    def answer(*arguments):
        return np.bool_(exercise.answer(*arguments))

    assert judge(exercise, answer).passed


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_a_stub_is_told_that_it_is_not_written(exercise):
    space = {}
    exec(stub(exercise), space)
    verdict = judge(exercise, space[exercise.answer.__name__])
    assert "not written yet" in verdict.fault
    assert not verdict.passed
    assert BEGIN in solution(exercise)
    assert END in solution(exercise)


def test_the_course_is_whole():
    assert [n.number for n in NOTEBOOKS] == list(range(13))
    assert len(ALL) >= 40
    assert len(PROPERTIES) >= 13
    assert sum(not exercise.arguments() for exercise in ALL) >= 10
    assert all(len(exercises_of(notebook)) >= 3 for notebook in NOTEBOOKS)
    names = Counter(exercise.answer.__name__ for exercise in ALL)
    assert max(names.values()) == 1, names.most_common(3)  # a file of answers tells them apart
    assert all(e.id.startswith(n.id + ".") for n in NOTEBOOKS for e in exercises_of(n))


def test_the_readme_lists_every_notebook_with_its_minutes():
    text = (NOTEBOOK_FOLDER / "README.md").read_text(encoding="utf-8")
    for notebook in NOTEBOOKS:
        row = rf"^\| \[{notebook.file}\]\({notebook.file}\.ipynb\) .*\| {notebook.minutes} \|$"
        assert re.search(row, text, re.MULTILINE), notebook.file


def test_cases_are_the_same_every_time():
    exercise = ALL[0]
    first = drawn(exercise)
    drawn.__globals__["_drawn"].cache_clear()
    assert repr(first) == repr(drawn(exercise))


def test_edges_come_first_and_those_of_a_property_meet_what_is_right():
    for exercise in (e for e in ALL if e.edges):
        right = () if exercise.tried is None else exercise.tried.right
        whole = len(exercise.arguments())
        edges = [
            case
            for edge in exercise.edges
            for case in ([edge] if len(edge) == whole else [(fn, *edge) for fn in right])
        ]
        assert repr(drawn(exercise)[: len(edges)]) == repr(edges)
        assert not right or all(case[0] in right for case in edges)
