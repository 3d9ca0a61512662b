"""The instructor's page: its example runs, its tables are the course's, its commands exist."""

import argparse
import importlib.util
import re
import shlex
from itertools import pairwise
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings

from refvit.check_command import add_check
from refvit.course.catalogue import NOTEBOOKS, exercises
from refvit.course.judge import judge
from refvit.course.source import BEGIN, END, solution, stub

SAMPLE = exercises()[:: 1 if settings().max_examples > 1000 else 7]
FOLDER = Path(__file__).parents[1] / "notebooks"
PAGE = (FOLDER / "INSTRUCTOR.md").read_text(encoding="utf-8")


def loaded(path):
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


seen = loaded(FOLDER / "seen.py")
TABLE = seen.generated(PAGE)
SAME = seen.VERSION.search(TABLE)[1] == hypothesis.__version__


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def example(tmp_path):
    """The exercise that the page adds, from its own code."""
    path = tmp_path / "example.py"
    path.write_text(blocks("python")[0], encoding="utf-8")
    return loaded(path).SPREAD


def test_the_example_is_an_exercise_with_its_mutants_in_ten_lines(example):
    assert judge(example, example.answer).passed
    assert len(example.wrong) == 4
    for wrong in example.wrong:
        verdict = judge(example, wrong.fn)
        assert not verdict.passed
        assert verdict.diagnosis == wrong.says, str(verdict)
    lines = blocks("python")[0].splitlines()
    assert lines[-1] == ")  # fmt: skip"
    assert len(lines) - lines.index("SPREAD = Exercise(") == 10
    assert max(map(len, lines)) <= 100


def test_the_example_has_its_cells(example):
    assert "raise NotImplementedError" in stub(example)
    assert solution(example).splitlines()[-3:] == [
        f"    {BEGIN}", "    return float(x.max() - x.min())", f"    {END}"
    ]  # fmt: skip


def test_the_sessions_are_the_notebooks():
    rows = re.findall(r"^\| (\d+) \| \[(\w+)\]\((\w+)\.ipynb\) \| (\d+) \|", PAGE, re.MULTILINE)
    expected = [(str(n.number + 1), n.file, n.file, str(n.minutes)) for n in NOTEBOOKS]
    assert rows == expected


def test_half_a_day_has_no_gaps():
    rows = re.findall(r"^\| (\d):(\d\d) \| (\d):(\d\d) \|", PAGE, re.MULTILINE)
    times = [(60 * int(a) + int(b), 60 * int(c) + int(d)) for a, b, c, d in rows]
    assert times[0][0] == 0
    assert all(end == begin for (_, end), (begin, _) in pairwise(times))
    assert times[-1][1] <= 240


def test_the_commands_are_those_of_the_command_line():
    parser = argparse.ArgumentParser()
    add_check(parser)
    parser.add_argument("--json", action="store_true")
    found = re.findall(r"refvit check (answers[^#\n]*)", "".join(blocks("sh")))
    assert len(found) == 3
    for line in found:
        parser.parse_args(shlex.split(line))


def test_cells_of_exercises_are_marked_for_nbgrader():
    pytest.importorskip("nbformat", reason="notebooks come with the extra of that name")
    build = loaded(FOLDER / "build.py")
    text, answer, check = build.cells(
        "# %% [markdown]\n# x\n\n# %% exercise nb02.symmetric\n", stub
    )
    assert "nbgrader" not in text.metadata
    assert answer.metadata["nbgrader"]["solution"]
    assert check.metadata["nbgrader"]["grade"]
    assert check.metadata["nbgrader"]["points"] == 1
    names = {each.metadata["nbgrader"]["grade_id"] for each in (answer, check)}
    assert names == {"nb02-symmetric", "nb02-symmetric-check"}


def test_the_table_has_every_exercise_and_no_other():
    named = re.findall(r"^\| `(\w+\.\w+)`:", TABLE, re.MULTILINE)
    assert named == [exercise.id for exercise in exercises()], "run python notebooks/seen.py"


def test_the_table_names_every_wrong_answer_and_what_it_looks_like():
    for exercise in exercises():
        for wrong in exercise.wrong:
            cells = f"| {wrong.name} | " + wrong.says.replace("|", "\\|") + " |"
            assert cells in TABLE, "run python notebooks/seen.py"


@pytest.mark.parametrize("exercise", SAMPLE, ids=lambda e: e.id)
def test_the_table_is_what_the_script_makes(exercise):
    """Under another version of Hypothesis, whose cases are others, all but the counterexamples."""
    for row in seen.rows(exercise):
        head = row.rpartition(" | ")[0]
        assert (row if SAME else head) in TABLE, "run python notebooks/seen.py"
    assert "PASSED" not in TABLE
