"""Build the notebooks from their `py:percent` sources and run them.

    python notebooks/build.py            build and execute every notebook, outputs included
    python notebooks/build.py --check    fail if a committed notebook differs from its source
                                         or no longer runs

Only cells marked `# %%` (code) and `# %% [markdown]` (text, commented) are understood.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def cells(source: str) -> list[nbformat.NotebookNode]:
    """Return the cells of a `py:percent` text."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            text = re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
            found.append(nbformat.v4.new_markdown_cell(text))
        else:
            found.append(nbformat.v4.new_code_cell(body.strip()))
    for number, cell in enumerate(found):
        cell["id"] = f"cell-{number}"
    return found


def build(source: Path) -> nbformat.NotebookNode:
    """Return the executed notebook of a source, without timestamps."""
    notebook = nbformat.v4.new_notebook(cells=cells(source.read_text(encoding="utf-8")))
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:  # what a progress line left behind is of no interest
        kept = [out for out in cell.get("outputs", []) if out.get("name") != "stderr"]
        if cell.cell_type == "code":
            cell["outputs"] = joined(kept)
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs with consecutive pieces of printed text in one: where they part is chance."""
    found: list[nbformat.NotebookNode] = []
    for out in outputs:
        if found and out.get("name") == found[-1].get("name") == "stdout":
            found[-1]["text"] += out["text"]
        else:
            found.append(out)
    return found


def sources_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare and run, write nothing")
    check = parser.parse_args().check
    stale = 0
    for source in sorted((HERE / "source").glob("*.py")):
        notebook, target = build(source), HERE / f"{source.stem}.ipynb"
        if not check:
            nbformat.write(notebook, target)
        elif sources_of(nbformat.read(target, 4)) != sources_of(notebook):
            stale += 1
            print(f"{target.name} differs from its source: run python notebooks/build.py")
        print(f"{source.stem}: {len(notebook.cells)} cells ran")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
