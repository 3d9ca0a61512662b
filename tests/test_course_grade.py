"""Laws of grading: every answer of a file gets a verdict, whatever the others do."""

import json

import pytest

from refvit.cli import main
from refvit.course.answers import _plain
from refvit.course.catalogue import find
from refvit.course.grade import graded
from refvit.course.record import solved
from refvit.course.source import solution

HEAD = "import numpy as np\nimport refvit\n\n"
RIGHT = HEAD + solution(find("nb02.symmetric")) + "\n"


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("REFVIT_PROGRESS", str(tmp_path / "progress.jsonl"))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "answers.py"


def test_a_right_file_is_exit_code_zero(file, capsys):
    file.write_text(RIGHT + 'refvit.check("nb02.symmetric", None)\n')
    assert main(["check", str(file), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["ok"], data["right"], data["of"]) == (True, 1, 1)
    assert data["verdicts"][0]["cases"] == 100
    assert not solved()
    assert main(["check", str(file), "--record"]) == 0
    assert list(solved()) == ["nb02.symmetric"]


def test_a_wrong_answer_is_exit_code_one_and_says_why(file, capsys):
    file.write_text("def symmetric(x, bits):\n    return x.astype(int)\n")
    assert main(["check", str(file)]) == 1
    out = capsys.readouterr().out
    assert "wrong  nb02.symmetric: codes" in out
    assert "0 of 1 right" in out


def test_what_is_asked_for_and_missing_is_not_passed(file, capsys):
    file.write_text(RIGHT)
    assert main(["check", str(file), "--exercises", "nb02.zero_is_exact"]) == 1
    assert "there is no answer" in capsys.readouterr().out
    assert main(["check", str(file), "--exercises", "nb02.symmetric"]) == 0


def test_an_answer_that_ends_the_process_takes_only_itself(file):
    text = "import os\ndef {}(quantize, x, bits):\n    os._exit(0)\n"
    names = ("zero_is_exact", "grid_is_monotone")
    file.write_text(RIGHT + "".join(map(text.format, names)) + "full_range_codes = symmetric\n")
    ids = ["nb02.zero_is_exact", "nb02.grid_is_monotone", "nb02.symmetric", "nb02.full_range_codes"]
    first, second, right, wrong = graded(file, ids)
    assert "ended the process" in first["fault"]
    assert "ended the process" in second["fault"]
    assert right["passed"]
    assert wrong["found"]


def test_an_imported_function_is_no_answer(file):
    file.write_text("from refvit.course.nb02 import symmetric\n")
    with pytest.raises(ValueError, match="answers no exercise"):
        graded(file)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + RIGHT,
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 0\n" + RIGHT,
        RIGHT + 'refvit.check(exercise="nb02.symmetric", answer=symmetric)\n',
        "import numpy as np\nweights_in_file = np.int64(56688)\n",
    ],
    ids=["bom", "dataclass", "by keyword", "number of numpy"],
)
def test_what_a_file_may_have_in_it(file, text):
    file.write_text(text, encoding="utf-8")
    assert [verdict["passed"] for verdict in graded(file)] == [True]


def test_files_beside_are_imported_and_hide_nothing_of_python(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    for name in ("copy", "random", "types", "numpy", "refvit"):
        (file.parent / f"{name}.py").write_text("x = 1\n")
    (file.parent / "mine.py").write_text("one = 1\n")
    file.write_text("from mine import one\n" + RIGHT)
    assert [verdict["passed"] for verdict in graded(file)] == [True]


@pytest.mark.parametrize("text", ["[1]", "{}", '{"cells": null}', '{"cells": [{}]}', "{", "\xe9"])
def test_what_is_no_notebook_is_told_so(tmp_path, text):
    path = tmp_path / "mine.ipynb"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"mine\.ipynb' is (no notebook|not UTF-8)"):
        graded(path)


def test_lines_of_ipython_are_passed_over_and_those_of_python_stay():
    assert _plain("x = 7\n%time y = 1\nfiles = !ls\nx?") == "x = 7\npass\npass\npass"
    assert _plain("if x:\n    !ls") == "if x:\n    pass"
    assert _plain("x = (7\n    % 4)") == "x = (7\n    % 4)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = (", "line 1: '(' was never closed"),
        ("\nx = 1 / 0", "line 2: ZeroDivisionError"),
        ("import os\nos._exit(0)", "did not run: exit code 0"),
        ("x = 1", "answers no exercise"),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_line_and_exit_code_two(file, capsys, text, says):
    file.write_text(text)
    assert main(["check", str(file)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_notebook_is_a_file_of_answers(tmp_path):
    cells = [HEAD + "%matplotlib inline", "1 / 0", solution(find("nb02.symmetric")), "!ls"]
    cells = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in cells]
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": []}, *cells]}))
    assert [verdict["passed"] for verdict in graded(path)] == [True]


def test_without_a_file_the_exercises_are_listed(capsys):
    assert main(["check"]) == 0
    assert "nb02.symmetric" in capsys.readouterr().out
    assert main(["check", "--json", "--exercises", "nb02.symmetric"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["exercises"]
    assert only["function"] == "symmetric"
    assert only["arguments"] == ["x", "bits"]


@pytest.mark.parametrize("options", [["--record"], ["--exercises", "nb77"], ["absent.py"]])
def test_bad_input_is_one_line(options, capsys):
    assert main(["check", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
