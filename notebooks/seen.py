"""What every exercise was seen to catch: the table at the end of the instructor's page.

    python notebooks/seen.py            write it into INSTRUCTOR.md, and the minutes of sessions
    python notebooks/seen.py --check    write nothing; fail if the page has another

Every named wrong answer is judged, as a learner's would be, but its case is made smaller for as
long as it gets smaller. What is drawn depends on the version of Hypothesis, which the page names:
under another one the counterexamples may be others, and are not compared.
"""

import argparse
import re
import sys
from pathlib import Path

import hypothesis

from refvit.course.catalogue import NOTEBOOKS, exercises_of
from refvit.course.judge import judge

PAGE = Path(__file__).parent / "INSTRUCTOR.md"
BEGIN, END = "<!-- seen: begin -->", "<!-- seen: end -->"
VERSION = re.compile(r"Hypothesis (\d[\w.]*)")
LONGEST = 180  # characters of a counterexample
SECONDS = 20.0  # for making it smaller


def table(exercises):
    """Return the lines of a table: a row for every wrong answer of the exercises."""
    head = ("exercise", "wrong answer", "this looks like", "the smallest case it was refused with")
    lines = [_row(head), _row(["---"] * 4)]
    return lines + [line for exercise in exercises for line in rows(exercise)]


def rows(exercise):
    """Return a row for every wrong answer of an exercise; its own name is in the first alone."""
    found = []
    for wrong in exercise.wrong:
        refused = f"accepted: {wrong.equivalent}" if wrong.equivalent else case_of(exercise, wrong)
        name = "" if found else f"`{exercise.id}`: {exercise.title}"
        found.append(_row((name, wrong.name, wrong.says, refused)))
    return found


def case_of(exercise, wrong):
    """Return what `check` says of a wrong answer: the two answers and the arguments, on one line.

    An answer that passes is told so in capitals: the page is no place to hide it.
    """
    verdict = judge(exercise, wrong.fn, SECONDS)
    if verdict.passed:
        return "PASSED"
    text = str(verdict).splitlines()[0].removeprefix(f"{exercise.id}: ")
    return short(re.sub(r"-?\d+\.\d{12,}(e-?\d+)?", lambda m: f"{float(m[0]):.12g}", text))


def short(text):
    """Return a text of at most `LONGEST` characters.

    >>> short("x" * 200)[-5:], short("ab")
    ('x ...', 'ab')
    """
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _row(cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def written():
    """Return the generated part of the page."""
    parts = [f"Made by `python notebooks/seen.py` with Hypothesis {hypothesis.__version__}."]
    for notebook in NOTEBOOKS:
        found = exercises_of(notebook)
        if found:
            parts += ["", f"### {notebook.number:02} {notebook.title}", "", *table(found)]
    return "\n".join(parts)


def generated(page):
    """Return the generated part of a page's text, between its marks."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def timed(text):
    """Return the table of sessions with the minutes that the catalogue has."""
    for notebook in NOTEBOOKS:
        link = re.escape(f"[{notebook.file}]({notebook.file}.ipynb) | ")
        text = re.sub(rf"({link})\d+", rf"\g<1>{notebook.minutes}", text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    page, made = PAGE.read_text(encoding="utf-8"), written()
    if args.check:
        same = generated(page) == made
        print("the table is as made" if same else f"{PAGE.name} is old: run notebooks/seen.py")
        return int(not same)
    before, after = timed(page.partition(BEGIN)[0]), page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
