"""Laws of the judge: what an answer does is told in a sentence, and the case is the smallest."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

import refvit
from refvit.course import WrongAnswer, draw, grade, guard, verdict
from refvit.course.catalogue import find
from refvit.course.compare import closely, equal
from refvit.course.exercise import Exercise, Wrong
from refvit.course.judge import Work, judge
from refvit.course.record import record, solved
from refvit.course.source import solution, stub
from refvit.course.verdict import describe


def doubled(x):
    """Return 2 x, for x int64 [n]."""
    return 2 * x


DOUBLED = Exercise(
    id="nb99.doubled",
    title="twice",
    answer=doubled,
    cases=st.tuples(draw.vectors(elements=st.integers(-9, 9), dtype=np.int64)),
    wrong=(Wrong("squares", "a square", lambda x: x * x),),
    hints=("add it to itself",),
    returns="doubles",
)


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("REFVIT_PROGRESS", str(tmp_path / "here" / "progress.jsonl"))
    return tmp_path / "here" / "progress.jsonl"


def said(answer, exercise=DOUBLED):
    found = judge(exercise, answer)
    assert not found.passed
    return str(found)


def forever(x):
    while True:
        pass


RELEASED = threading.Event()  # lets the stubborn go at last, or their threads slow all other tests


def stubborn(x):
    while not RELEASED.is_set():
        try:
            while not RELEASED.is_set():
                pass
        except BaseException:
            pass


@pytest.fixture(autouse=True, scope="module")
def release():
    yield
    RELEASED.set()


def stub_of_doubled(x):
    raise NotImplementedError


def printing(x):
    print("x is", x)
    return x


def mutating(x):
    x *= 2
    return x


def test_the_right_answer_passes_on_a_hundred_cases():
    found = judge(DOUBLED, doubled)
    assert found.passed
    assert found.cases == 100
    assert str(found) == "nb99.doubled: 100 cases pass"


def test_the_counterexample_is_the_smallest():
    assert "doubles [3], expected [2] for x = [1]" in said(lambda x: 2 * x + (x == 1))
    two = said(lambda x: 2 * x + (len(x) > 1))
    assert "doubles [1, 1], expected [0, 0] for x = [0, 0]" in two


def test_a_stub_is_met_without_a_case():
    assert said(stub_of_doubled).startswith("nb99.doubled: it is not written yet\n")


def test_a_prediction_may_be_made_with_a_division():
    half = replace(DOUBLED, answer=lambda: 12, cases=st.just(()), returns="bytes")
    assert str(judge(half, lambda: 24 / 2)) == "nb99.doubled: bytes as expected"
    assert "it is a float (12.5)" in said(lambda: 25 / 2, half)


def test_a_named_mistake_is_named_and_another_is_not():
    assert "This looks like a square." in said(lambda x: x**2)
    assert "This looks like" not in said(lambda x: 3 * x)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (3, "it is no function but of type int; check takes the function itself, doubled(x)"),
        (lambda: 1, "it takes (); asked for is doubled(x)"),
        (lambda x: None, "it returns None: is a return missing?"),
        (lambda x: [2 * v for v in x], "it is a list, expected an array: np.array(...) makes one"),
        (lambda x: 2.0 * x, "its dtype is float64, expected integers: .astype(np.int64)"),
        (lambda x: np.append(x, x), "its shape is (2,), expected (1,)"),
        (lambda x: 1 // 0, "it raises ZeroDivisionError"),
        (lambda x: sys.exit(), "it calls exit()"),
        (mutating, "it writes to its argument: change a copy, made with x.copy()"),
        (printing, "It printed: x is [1]"),
        (lambda x: np.int64(3), "it is an int64 (np.int64(3)), expected an array"),
    ],
)
def test_what_goes_wrong_is_told(answer, says):
    assert says in said(answer)


def test_an_error_names_the_line_of_the_learner():
    space = {}
    exec("def f(x):\n    y = x + 1\n    return y.nothing\n", space)
    assert "AttributeError" in said(space["f"])


def sleeping(x):
    time.sleep(1e6)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(guard, "CALL_SECONDS", 1.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", [forever, stubborn, sleeping])
def test_an_answer_without_an_end_is_left(answer):
    began = time.monotonic()
    assert "it does not end" in said(answer)
    assert time.monotonic() - began < 40
    RELEASED.set()
    time.sleep(0.01)
    RELEASED.clear()


@pytest.mark.usefixtures("impatient")
def test_prints_are_seen_again_after_an_answer_that_was_left(capsys):
    mine = sys.stdout
    assert "cannot be stopped" in said(sleeping)
    assert sys.stdout is mine


def test_a_loop_is_stopped_by_the_time_that_it_worked(monkeypatch):
    monkeypatch.setattr("refvit.course.guard.CALL_SECONDS", 1e6)
    began = time.monotonic()
    assert "it does not end" in said(forever)
    assert time.monotonic() - began < 40


def test_a_case_is_made_smaller_for_a_while_by_the_clock(monkeypatch):
    ran = []

    def explored(exercise, law, phases):
        for _ in range(500):
            ran.append(law((np.array([1]),)))

    monkeypatch.setattr("refvit.course.judge.explored", explored)
    monkeypatch.setattr("refvit.course.judge.PATIENCE", 0.05 / 1e6)
    Work(DOUBLED, lambda x: time.sleep(0.001) or 2 * x, guard.Guard(), 1e6).shrink()
    assert 0 < len(ran) < 500


def test_a_property_that_raises_what_is_no_assertion_refuses_nothing():
    def answer(quantize, x, bits):
        return bool(1 / int(np.all(quantize(x, bits)[x == 0] == 0)))

    found = judge(find("nb02.zero_is_exact"), answer)
    assert "it holds for" in found.fault


def test_a_grader_waits_longer_than_the_judge():
    assert grade.SILENT_SECONDS > guard.ALL_SECONDS + 10


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ([1, 2], lambda x: x.append(3)),
        ([np.zeros(2000)], lambda x: x[0].fill(1e-9)),
        ((np.zeros(2), 1), lambda x: x[0].fill(1)),
        ({"a": np.zeros(2)}, lambda x: x["a"].fill(1)),
        ([1, 2], lambda x: x.sort(reverse=True)),
    ],
)
def test_what_is_changed_in_lists_tuples_and_dicts_is_told(given, change):
    with pytest.raises(guard.Trouble, match="changes its argument"):
        guard.Guard().call(lambda x: change(x) or 1, (given,))
    assert guard.Guard().call(lambda x: 1, (given,)) == 1


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError

    def __repr__(self):
        raise RuntimeError

    __str__ = __eq__ = __array__ = __repr__


class HostileError(Exception):
    def __str__(self):
        raise RuntimeError


class Interrupting:
    def __repr__(self):
        raise KeyboardInterrupt

    __str__ = __eq__ = __array__ = __repr__


class InterruptingError(Exception):
    def __str__(self):
        raise KeyboardInterrupt


class Agreeing(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        return np.ones(1, bool)


class Unsigned:
    """A callable that has no signature and no attributes."""

    def __getattribute__(self, name):
        raise RuntimeError

    def __call__(self, x):
        return x


def closing(x):
    sys.stdout.close()
    return x


def raising(error):
    raise error


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: Hostile(),
        lambda x: np.array([Hostile()]),
        lambda x: raising(HostileError()),
        lambda x: raising(KeyboardInterrupt()),
        lambda x: np.zeros(10**15),
        lambda x: iter(x),
        lambda x: answer_of_itself(x),
        lambda x: Interrupting(),
        lambda x: raising(InterruptingError()),
        lambda x: (3 * x).view(Agreeing),
        lambda x: np.ma.masked_array(3 * x, mask=True),
        closing,
    ],
    ids=[
        "object",
        "objects",
        "error",
        "interrupt",
        "memory",
        "iterator",
        "recursion",
        "interrupting",
        "interrupting error",
        "agreeing",
        "masked",
        "closing",
    ],
)
def test_nothing_that_an_answer_does_is_an_error_of_the_judge(answer):
    assert said(answer)
    assert judge(DOUBLED, answer)._repr_html_()


def test_an_answer_without_a_signature_is_called():
    assert "doubles [1], expected [2]" in said(Unsigned())


def answer_of_itself(x):
    return answer_of_itself(x)


def test_no_answer_can_reach_into_the_cases():
    def greedy(x):
        x[...] = 0
        return x

    said(greedy)
    assert judge(DOUBLED, doubled).passed


def test_check_raises_and_notes_only_what_is_right(own_progress):
    right = verdict("nb02.symmetric", find("nb02.symmetric").answer)
    assert right.passed
    assert not own_progress.exists()
    with pytest.raises(WrongAnswer, match=r"nb02.symmetric: codes .* for x = "):
        refvit.check("nb02.symmetric", lambda x, bits: x.astype(np.int64))
    assert not own_progress.exists()
    assert refvit.check("nb02.symmetric", find("nb02.symmetric").answer).passed
    assert list(solved()) == ["nb02.symmetric"]


def test_an_unknown_exercise_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean nb02\.symmetric"):
        refvit.check("nb02.symetric", doubled)


def test_progress_survives_what_happens_to_its_file(own_progress):
    assert record("nb02.a") == ""
    own_progress.write_bytes(own_progress.read_bytes() + b'{"exercise": "nb02.b", "sol')
    assert record("nb02.c") == ""
    with own_progress.open("ab") as file:
        file.write(b"\xff\x00 nonsense\n[1]\n3\n")
    assert record("nb02.d") == ""
    assert list(solved()) == ["nb02.a", "nb02.c", "nb02.d"]


def test_progress_that_cannot_be_kept_is_said_and_the_answer_still_right(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFVIT_PROGRESS", str(tmp_path / "file" / "progress"))
    answer = find("nb02.symmetric").answer
    assert "progress is not kept" in str(refvit.check("nb02.symmetric", answer))


def test_who_has_no_home_is_told_so(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("REFVIT_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("LOCALAPPDATA", "")
    monkeypatch.setattr("refvit.course.record.Path.home", nowhere)
    assert "progress is not kept: there is no home" in record("nb02.a")
    assert solved() == {}


def test_the_stub_and_the_solution_are_cut_from_one_function():
    assert stub(DOUBLED).endswith('"""\n    raise NotImplementedError')
    body = "    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    assert solution(DOUBLED).endswith(body)


def test_a_verdict_is_a_table_in_a_notebook():
    found = judge(DOUBLED, lambda x: x * x)
    html = found._repr_html_()
    assert "your doubles" in html
    assert "<b>a square</b>" in html
    assert "<script" not in judge(DOUBLED, lambda x: "<script>")._repr_html_()
    assert json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("found", "expected", "fault"),
    [
        (True, 1, "it is a bool (True), expected a whole number: int(...) makes one"),
        (1.0, 1, "it is a float (1.0), expected a whole number: int(...) makes one"),
        (1, True, "it is an int (1), expected True or False"),
        ((1, 2), (1, 3), "item 1 of the tuple: it is 2, expected 3"),
        (1, (1, 3), "it is an int (1), expected a tuple of 2"),
        (np.int8([1]), np.int16([1]), "its dtype is int8, expected int16: .astype(np.int16)"),
        (np.array([np.nan]), np.array([np.nan]), ""),
        (np.array([0.0]), np.array([1e-12]), "at [0] it is 0, expected 1e-12"),
        (np.float32(1), 1.0, ""),
        ("a", "b", "it is 'a', expected 'b'"),
    ],
)
def test_answers_are_compared_by_kind_and_exactly(found, expected, fault):
    assert equal(found, expected).startswith(fault) if fault else not equal(found, expected)


def test_a_fraction_is_a_number_and_what_is_nearly_right_is_told_its_cure():
    assert equal(Fraction(1, 2), 0.5, within=1e-9) == ""
    assert equal(np.array([1]), np.array([1.0])).endswith(".astype(np.float64) makes them")
    assert equal(np.array([1.0, 2.0]), (1.0, 2.0)) == (
        "it is an array, expected a tuple of 2: tuple(...) makes one"
    )


def test_a_property_that_holds_for_a_faulty_function_is_shown_a_case():
    exercise = find("nb02.zero_is_exact")
    said = judge(exercise, lambda quantize, x, bits: True)
    assert said.fault.startswith("it holds for mid_rise, a function with codes that")
    assert str(said).splitlines()[0].endswith("; it should not for x = [0.0], bits = 2")
    faulty = next(wrong.fn for wrong in exercise.tried.faulty if wrong.name == "mid_rise")
    assert exercise.answer(faulty, *said.case.values()) is False


def test_a_prediction_says_what_was_as_expected():
    assert str(judge(find("nb03.grouped_bytes"), 6912)).endswith("bytes as expected")
    assert str(judge(find("nb02.gelu_codes_used"), 8)).endswith("count as expected")


def test_near_is_a_share_of_the_largest_and_not_of_one():
    expected = np.array([1e-9, 2e-9])
    assert closely(1e-3)(expected * (1 + 1e-4), expected) == ""
    assert closely(1e-3)(expected * 1.1, expected) != ""
    assert closely(1e-3)(np.array([1.0, np.inf]), np.array([1.0, np.inf])) == ""


def test_long_arrays_are_described_by_their_head():
    assert "shape (4, 9)" in describe(np.zeros((4, 9)))


def test_what_is_huge_is_described_shortly_and_soon():
    ring = []
    ring += [ring, ring]
    far = np.broadcast_to(np.int8(1), (10**6, 10**6))
    for value in ("a" * 10**7, [1] * 10**6, ring, far, 1 << 10**6):
        began = time.monotonic()
        assert len(describe(value)) <= 1000
        assert time.monotonic() - began < 1
    assert len(str(judge(DOUBLED, lambda x: print("z" * 10**6) or x))) < 1000


def test_import_of_refvit_does_not_meet_hypothesis():
    code = "import sys, refvit; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kernel_shows_the_table_once_and_no_traceback(monkeypatch):
    displayed = []
    space = WrongAnswer._render_traceback_.__globals__  # doctests may have the module twice
    monkeypatch.setitem(space, "displayed", lambda: displayed.append)
    refused = WrongAnswer(judge(DOUBLED, lambda x: x))
    assert refused._render_traceback_() == ["nb99.doubled is not solved yet."]
    refused._render_traceback_()
    assert displayed == [refused.verdict]
