"""Machines by name, from a TOML file, or as they are."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from refvit.accel.hardware import Machine, Passes
from refvit.accel.possible import brief
from refvit.accel.presets import KB, MACHINES

__all__ = ["KB", "MACHINES", "Machine", "Passes", "machine", "machine_of", "read_machine"]


def machine(which: str | Path | Machine | Mapping[str, Any]) -> Machine:
    """Return the preset of that name, the machine in a `.toml` file, or the one that a mapping
    describes, as `machine_of`; a `Machine` passes through.

    Raises ValueError that lists the names, or says what is wrong with the file or the mapping.

    >>> machine({"base": "edge32", "cols": 64}).cols
    64
    """
    if isinstance(which, Machine):
        return which
    if isinstance(which, Mapping):
        return machine_of(which)
    if isinstance(which, Path) or str(which).endswith(".toml"):
        return read_machine(which)
    if not isinstance(which, str) or which not in MACHINES:
        raise ValueError(
            f"no machine {brief(which)}; there are {', '.join(MACHINES)}, or TOML files"
        )
    return MACHINES[which]


def read_machine(path: str | Path) -> Machine:
    """Return the machine in a TOML file: a key for each field of `Machine`, a table [passes], and
    `base`, the preset that gives what the file does not.

    `name` is that of the file if none is given. Raises FileNotFoundError, or ValueError in one
    line for what is not TOML, an unknown or missing key, and an impossible machine.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no machine file {str(path)!r}")
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{str(path)!r} is not TOML of a machine: lists too deep") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number of over 4,300 digits
        raise ValueError(f"{str(path)!r} is not TOML: {error}") from None
    try:
        return machine_of({"name": path.stem} | about)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def machine_of(described: Mapping[str, Any]) -> Machine:
    """Return the machine that a mapping describes, as a TOML file or a grid of machines does.

    Keys are fields of `Machine`, and `base`, a preset; lists stand for tuples and a mapping for
    `passes`. Raises ValueError for an unknown or missing key, or an impossible machine.

    >>> machine_of({"name": "wide", "base": "edge32", "cols": 64}).cols
    64
    """
    about = {key: tuple(v) if isinstance(v, list) else v for key, v in described.items()}
    base = about.pop("base", None)
    known = [each.name for each in fields(Machine)]
    _refuse_unknown(about, [*known, "base"], "machine")
    start = _start(base, [name for name in about if name != "name"])
    about["passes"] = _passes(start.pop("passes", Passes()), about.pop("passes", {}))
    required = [name for name in known[:11] if name not in start | about]
    if required:
        raise ValueError(f"a machine needs {', '.join(required)}; or give base, a preset")
    return Machine(**start | about)


def _start(base: Any, changed: Sequence[str]) -> dict[str, Any]:
    """Return the fields of the preset `base`, whose source says what was changed of it."""
    if base is None:
        return {}
    # a file that stood on a file might stand on itself
    if not isinstance(base, str) or base not in MACHINES:
        raise ValueError(f"base {brief(base)} is no preset; there are {', '.join(MACHINES)}")
    start = fields_of(MACHINES[base])
    if changed:
        start["source"] = f"{base} with other {', '.join(changed)}"
    return start


def _passes(start: Passes, said: Any) -> Passes:
    """Return the passes `start` with those that a mapping says."""
    said = asdict(said) if isinstance(said, Passes) else said
    if not isinstance(said, Mapping):
        raise ValueError(f"passes are a table of operators; got {brief(said)}")
    _refuse_unknown(said, [each.name for each in fields(Passes)], "passes")
    return replace(start, **said)


def fields_of(hardware: Machine) -> dict[str, Any]:
    """Return the fields of a machine by name, as they are."""
    return {each.name: getattr(hardware, each.name) for each in fields(Machine)}


def _refuse_unknown(said: Iterable[str], known: list[str], what: str) -> None:
    for name in said:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f", perhaps {near[0]}" if near else f"; there are {', '.join(known)}"
            raise ValueError(f"{what}: no key {brief(name)}{hint}")
