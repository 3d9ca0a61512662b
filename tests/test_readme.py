"""What the README shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import refvit
from refvit.course.catalogue import find
from refvit.course.judge import judge

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def test_the_ten_lines_run_and_print_what_is_shown():
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.S).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert NUMBER.sub("#", out.getvalue()) == NUMBER.sub("#", shown)
    for got, wanted in zip(NUMBER.findall(out.getvalue()), NUMBER.findall(shown), strict=True):
        assert float(got.replace(",", "")) == pytest.approx(
            float(wanted.replace(",", "")), rel=0.01
        )


def test_every_file_named_exists():
    root = Path(__file__).parents[1]
    for name in re.findall(r"`(refvit/[\w/]+\.py|notebooks/[\w.]+)`", README):
        assert (root / name).exists(), name


def test_the_methods_compose_as_shown():
    code = re.search(r"```python\n(from refvit\.quant import .*?)```", README, re.S)[1]
    found = {"refvit": refvit}
    exec(code, found)
    pixels, engine = found["pixels"], found["engine"]
    same = engine(pixels).argmax(1) == found["model"](pixels).argmax(1)
    assert same.mean() > 0.9


def test_the_wrong_answer_is_met_as_shown():
    code, shown = re.search(
        r"```python\n(def symmetric.*?)```\n\n```text\n(.*?)```", README, re.S
    ).groups()
    space = {"refvit": refvit}
    with pytest.raises(refvit.course.WrongAnswer):
        exec(code, space)
    met = judge(find("nb02.symmetric"), space["symmetric"], shrinking=20.0)  # on a busy machine too
    assert str(met) == shown.rstrip("\n")
