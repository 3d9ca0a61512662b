"""The exercises as a table: what there is, and what is solved."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from refvit.course.catalogue import NOTEBOOKS, exercises_of
from refvit.course.record import solved


def listing(wanted: Collection[str] = ()) -> str:
    """Return the exercises of every notebook, or `wanted` ones by id, a mark before those that are
    solved."""
    done, lines = solved(), []
    total = count = 0
    for notebook in NOTEBOOKS:
        found = [e for e in exercises_of(notebook) if not wanted or e.id in wanted]
        if not found:
            continue
        mine = [exercise.id in done for exercise in found]
        total, count = total + len(mine), count + sum(mine)
        head = f"{notebook.number:02} {notebook.title}"
        lines.append(f"{head:<52}{sum(mine)} of {len(mine)}, {notebook.minutes} minutes")
        for exercise, is_done in zip(found, mine, strict=True):
            lines.append(f"   {'x' if is_done else '.'} {exercise.id:<28} {exercise.title}")
    return "\n".join([*lines, "", f"{count} of {total} solved"])


def listed(wanted: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the same as data for JSON."""
    done = solved()
    return [
        {
            "exercise": exercise.id, "notebook": notebook.file, "title": exercise.title,
            "function": exercise.name, "arguments": exercise.arguments(),
            "task": exercise.task(), "solved": done.get(exercise.id),
        }
        for notebook in NOTEBOOKS
        for exercise in exercises_of(notebook)
        if not wanted or exercise.id in wanted
    ]  # fmt: skip
