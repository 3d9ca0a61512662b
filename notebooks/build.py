"""Build the notebooks from their `py:percent` sources, and the solved ones, which are run.

    python notebooks/build.py                 build every notebook; the solved ones with outputs
    python notebooks/build.py 02 03           only those
    python notebooks/build.py --check         write nothing; fail if a committed notebook differs
                                              from its source, a solved one does not run, one for
                                              learners fails elsewhere than at its exercises, a
                                              link leads nowhere, or a rule of the house is broken

A source has cells `# %%` (code), `# %% [markdown]` (text, commented) and `# %% exercise ID`, which
is empty: the stub or the solution comes from `refvit.course`, and a cell that checks it follows.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from refvit.course.catalogue import find
from refvit.course.source import checked, solution, stub

HERE = Path(__file__).parent
MOST_BYTES = 100_000  # of a picture
MOST_WORDS = 2_000
CELLS = range(30, 51)


def cells(source, write):
    """Return the cells of a `py:percent` text; `write` (stub or solution) fills its exercises."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            text = re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
            found.append(nbformat.v4.new_markdown_cell(text))
        elif head.split()[:1] == ["exercise"]:
            exercise = find(head.split()[1])
            found.append(nbformat.v4.new_code_cell(write(exercise)))
            found.append(nbformat.v4.new_code_cell(checked(exercise)))
            found[-1]["metadata"]["tags"] = ["exercise"]
            grading(exercise.id.replace(".", "-"), *found[-2:])
        else:
            found.append(nbformat.v4.new_code_cell(body.strip()))
    for number, cell in enumerate(found):
        cell["id"] = f"cell-{number}"
    return found


def grading(name, answer, check):
    """Tell nbgrader which cell is the answer, and that the one that checks it is worth a point."""
    about = {"schema_version": 3, "task": False}
    answer["metadata"]["nbgrader"] = about | {
        "grade_id": name, "grade": False, "solution": True, "locked": False
    }  # fmt: skip
    check["metadata"]["nbgrader"] = about | {
        "grade_id": f"{name}-check", "grade": True, "solution": False, "locked": True, "points": 1
    }  # fmt: skip


def notebook(source, write):
    """Return the notebook of a source, not executed."""
    made = nbformat.v4.new_notebook(cells=cells(source.read_text(encoding="utf-8"), write))
    made.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return made


def run(made, allow_errors=False):
    """Execute a notebook, in the folder of the notebooks, without timestamps."""
    NotebookClient(
        made, timeout=300, kernel_name="python3", record_timing=False, allow_errors=allow_errors,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()  # fmt: skip
    made.metadata.pop("language_info", None)
    for cell in made.cells:  # what a progress line left behind is of no interest
        kept = [out for out in cell.get("outputs", []) if out.get("name") != "stderr"]
        if cell.cell_type == "code":
            cell["outputs"] = joined(kept)
    return made


def joined(outputs):
    """Return outputs with consecutive pieces of printed text in one: where they part is chance."""
    found = []
    for out in outputs:
        if found and out.get("name") == found[-1].get("name") == "stdout":
            found[-1]["text"] += out["text"]
        else:
            found.append(out)
    return found


def sources_of(made):
    return [(cell.cell_type, cell.source, cell.metadata.get("nbgrader")) for cell in made.cells]


def compared(target, made):
    """Yield what is wrong with a committed notebook."""
    if not target.is_file() or sources_of(nbformat.read(target, 4)) != sources_of(made):
        yield f"{target.name} differs from its source: run python notebooks/build.py"


def failures(made):
    """Yield where a notebook of a learner fails though there is no exercise, or does not fail."""
    for number, cell in enumerate(made.cells):
        asked = "exercise" in cell.metadata.get("tags", [])
        failed = any(out["output_type"] == "error" for out in cell.get("outputs", []))
        if asked != failed:
            yield f"cell {number} {'fails' if failed else 'accepts a stub'}: {cell.source[:60]!r}"


def rules(made):
    """Yield which rules of the house a solved notebook breaks."""
    if len(made.cells) not in CELLS:
        yield f"{len(made.cells)} cells, wanted {CELLS.start} to {CELLS.stop - 1}"
    words = sum(len(cell.source.split()) for cell in made.cells if cell.cell_type == "markdown")
    if words > MOST_WORDS:
        yield f"{words} words of text, wanted at most {MOST_WORDS}"
    pictures = [out for cell in made.cells for out in cell.get("outputs", [])]
    pictures = [out for out in pictures if "image/png" in out.get("data", {})]
    for out in pictures:
        if len(out["data"]["image/png"]) * 3 // 4 > MOST_BYTES:
            yield "a picture has more than 100 KB"
        if not out["metadata"].get("image/png", {}).get("alt"):
            yield "a picture has no alt text: end its cell with plot.picture(fig, alt)"
    if not pictures:
        yield "no picture"


def links(path, text):
    """Yield the relative links of a Markdown text that lead nowhere."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            if not (path.parent / target).exists():
                yield f"{path.name}: no {target}"


def check(source):
    """Return everything that is wrong with the notebooks of one source."""
    learner, solved = notebook(source, stub), notebook(source, solution)
    target, answers = HERE / f"{source.stem}.ipynb", HERE / "solutions" / f"{source.stem}.ipynb"
    troubles = [*compared(target, learner), *compared(answers, solved)]
    for path, made in ((target, learner), (answers, solved)):
        for cell in made.cells:
            if cell.cell_type == "markdown":
                troubles += links(path, cell.source)
    return [*troubles, *failures(run(learner, allow_errors=True)), *rules(run(solved))]


def write(source):
    """Write both notebooks of a source; return which rules the solved one breaks."""
    solved = run(notebook(source, solution))
    (HERE / "solutions").mkdir(exist_ok=True)
    nbformat.write(notebook(source, stub), HERE / f"{source.stem}.ipynb")
    nbformat.write(solved, HERE / "solutions" / f"{source.stem}.ipynb")
    return list(rules(solved))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="numbers of notebooks, as in 02 (all)")
    parser.add_argument("--check", action="store_true", help="compare and run, write nothing")
    args = parser.parse_args()
    os.environ["REFVIT_PROGRESS"] = os.devnull  # what is solved here was solved by nobody
    troubles = []
    for page in (HERE / "README.md", HERE / "INSTRUCTOR.md"):
        troubles += links(page, page.read_text(encoding="utf-8"))
    for source in sorted((HERE / "source").glob("*.py")):
        if args.only and source.stem[:2] not in args.only:
            continue
        began = time.monotonic()
        found = check(source) if args.check else write(source)
        print(f"{source.stem}: {time.monotonic() - began:.0f} s", flush=True)
        troubles += [f"{source.stem}: {trouble}" for trouble in found]
    print("\n".join(troubles) or "nothing is wrong")
    return min(len(troubles), 1)


if __name__ == "__main__":
    sys.exit(main())
