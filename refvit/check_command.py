"""`refvit check`: the exercises of the course, or a file of answers judged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the file, which exercises have to be in it, and whether progress is noted."""
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="answers to judge, .py or .ipynb"
    )
    parser.add_argument(
        "--exercises", nargs="+", default=[], metavar="ID",
        help="that have to be answered, as in nb02 nb03.pack (those that FILE answers)",
    )  # fmt: skip
    parser.add_argument("--record", action="store_true", help="note what is right as solved")


def run_check(args: argparse.Namespace) -> tuple[str, Any]:
    """List the exercises, or judge a file; `ok` says whether every answer is right."""
    from refvit.course.grade import graded
    from refvit.course.listing import listed, listing
    from refvit.course.record import record

    wanted = wanted_of(args.exercises)
    if args.file is None:
        if args.record:
            raise ValueError("--record notes what is right in a FILE; name one")
        return listing(wanted), {"exercises": listed(wanted)}
    found = graded(args.file, wanted)
    right = [verdict["exercise"] for verdict in found if verdict["passed"]]
    notes = [note for note in map(record, right) if note] if args.record else []
    data = {
        "file": str(args.file), "ok": len(right) == len(found), "right": len(right),
        "of": len(found), "verdicts": found,
    }  # fmt: skip
    lines = [
        f"{'right' if verdict['passed'] else 'wrong':<7}{verdict['text']}" for verdict in found
    ]
    return "\n".join([*lines, "", f"{len(right)} of {len(found)} right", *notes[:1]]), data


def wanted_of(names: list[str]) -> list[str]:
    """Return the ids of exercises that are named alone or by their notebook; ValueError for others.

    >>> wanted_of(["nb02.symmetric"])
    ['nb02.symmetric']
    """
    from refvit.course.catalogue import exercises, find

    found = []
    for name in names:
        mine = [exercise.id for exercise in exercises() if exercise.id.split(".")[0] == name]
        found += mine or [find(name).id]
    return list(dict.fromkeys(found))
