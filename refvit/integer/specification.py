"""The specification as text, and its clauses one by one: `refvit spec`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from refvit.matching import perhaps

FILE = Path(__file__).with_name("specification.md")


def specification() -> str:
    """Return the normative page, Markdown."""
    return FILE.read_text(encoding="utf-8")


def clauses() -> dict[str, str]:
    """Return the text of every section and clause by number.

    >>> clauses()["2.4"]
    '2.4 **Root.** `isqrt(n) = floor(sqrt(n))` for 0 <= n < 2^31.'
    >>> clauses()["2"].splitlines()[0]
    '## 2 Rounding'
    """
    found: dict[str, str] = {}
    for section in re.split(r"^(?=## )", specification(), flags=re.MULTILINE)[1:]:
        number = section.split()[1]
        found[number] = section.strip()
        parts = re.split(rf"^(?={number}\.\d+ )", section, flags=re.MULTILINE)[1:]
        found |= {part.split()[0]: part.strip() for part in parts}
    return found


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Add which clause is asked for."""
    parser.add_argument("clause", metavar="CLAUSE", nargs="?", help="one of them, as in 4.1")


def run_spec(args: argparse.Namespace) -> tuple[str, Any]:
    """Return the page or a clause of it; ValueError for a number there is not."""
    known = clauses()
    if args.clause is None:
        return specification(), known
    if args.clause not in known:
        near = perhaps(args.clause, known)
        raise ValueError(f"no clause {args.clause!r}{near}; there are {', '.join(known)}")
    return known[args.clause], {args.clause: known[args.clause]}
