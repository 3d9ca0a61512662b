"""The checks in order, how they are run, and the table that says what was found."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from refvit import data
from refvit.checkpoints import shipped, weights_folder
from refvit.doctor.exact import (
    PRODUCTS,
    check_engine,
    check_figures,
    check_products,
    check_requantize,
)
from refvit.doctor.pinned import IMAGES, KERNELS, kernel_digests
from refvit.doctor.surroundings import versions
from refvit.files import read_json
from refvit.integer import FAST, PLAIN, Arithmetic, load_engine
from refvit.integer.kernels.profiles import PROFILES
from refvit.progress import Progress


class Check(NamedTuple):
    """`run` returns what is wrong in one line, "" if nothing is."""

    name: str
    run: Callable[[], str]


class Finding(NamedTuple):
    """What a check found wrong, "" if nothing, and the seconds it took."""

    name: str
    wrong: str
    seconds: float


def all_checks(artefacts: Sequence[Path] = (), arithmetic: Arithmetic = FAST) -> list[Check]:
    """Return every check of this machine, of what is shipped, and of `artefacts`.

    `arithmetic` is on trial: what it gives must be what integers give.
    """
    kernels = [
        Check(f"kernels of {name}", partial(check_kernels, name, arithmetic)) for name in PROFILES
    ]
    weights = [Check(f"weights of {name}", partial(check_weights, name)) for name in shipped()]
    return [
        *(Check(f"{codes} products", partial(check_products, arithmetic, codes))
          for codes in PRODUCTS),
        Check("requantize near ties", partial(check_requantize, arithmetic)),
        Check("roots and bit lengths", partial(check_figures, arithmetic)),
        *kernels,
        Check("shapes10 draws its pinned images", check_images),
        Check("a random engine, PLAIN and FAST", partial(check_engine, arithmetic)),
        *weights,
        *(Check(f"artefact {path}", partial(check_artefact, path)) for path in artefacts),
    ]  # fmt: skip


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Run the checks one by one; one that raises has failed."""
    bar = Progress("doctor", len(checks), "checks")
    try:
        for check in checks:
            bar.advance(0, check.name)
            began = time.perf_counter()
            yield Finding(check.name, outcome(check), time.perf_counter() - began)
            bar.advance(1)
    finally:
        bar.close()


def outcome(check: Check) -> str:
    """Return what a check finds wrong, or the error that it ends in."""
    try:
        return check.run()
    except Exception as error:  # whatever it is, the other checks still have their say
        return " ".join(f"{type(error).__name__}: {error}".split())


def check_kernels(profile: str, arithmetic: Arithmetic) -> str:
    """Hold the constants and the codes of a profile's three kernels to their pinned digests."""
    for name, way in (("PLAIN", PLAIN), ("FAST", arithmetic)):
        for operator, digests in kernel_digests(profile, way).items():
            parts = zip(("constants", f"{name} codes"), digests, KERNELS[profile][operator],
                        strict=True)  # fmt: skip
            for what, found, pinned in parts:
                if found != pinned:
                    return f"the {what} of {operator} have digest {found}, pinned is {pinned}"
    return ""


def check_images() -> str:
    """Hold the first images of shapes10 to their pinned digest."""
    images, _ = data.shapes10("test", 50)
    found = hashlib.sha256(images.tobytes()).hexdigest()
    return "" if found == IMAGES else f"the first 50 have digest {found[:16]}, not {IMAGES[:16]}"


def check_weights(name: str) -> str:
    """Hold a shipped model to the sha256 on its card."""
    path = weights_folder() / f"{name}.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    said = read_json(path.with_suffix(".json")).get("sha256")
    return "" if found == said else f"sha256 of the file {found[:16]}, on the card {said!s:.16}"


def check_artefact(path: Path) -> str:
    """Load an artefact, which compares its stored digest with that of its integers."""
    try:
        load_engine(path)
    except ValueError as error:
        return str(error)
    return ""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the artefacts to check."""
    parser.add_argument(
        "artefacts", metavar="ARTEFACT", type=Path, nargs="*", help="engines saved as files"
    )


def run_doctor(args: argparse.Namespace) -> tuple[str, Any]:
    """Check this machine; return the table, and data whose `ok` decides the exit code."""
    for path in args.artefacts:
        if not path.is_file():
            raise FileNotFoundError(f"no file {str(path)!r}")
    about, findings = versions(), list(examine(all_checks(args.artefacts)))
    checks = [finding._asdict() | {"ok": not finding.wrong} for finding in findings]
    ok = not any(finding.wrong for finding in findings)
    return table(about, findings), {"ok": ok, "versions": about, "checks": checks}


def table(about: Mapping[str, str], findings: Sequence[Finding]) -> str:
    """Return the versions, a line for each check, and the outcome."""
    failed = sum(1 for finding in findings if finding.wrong)
    sums = f"{failed} of {len(findings)} checks FAILED" if failed else "All checks passed"
    width = 2 + max(len(finding.name) for finding in findings)
    lines = [f"{name:<{width}}{value}" for name, value in about.items()]
    lines.append("")
    for name, wrong, _ in findings:
        lines.append(f"{name:<{width}}{f'FAILED: {wrong}' if wrong else 'ok'}")
    return "\n".join([*lines, "", f"{sums}, {sum(f.seconds for f in findings):.1f} s."])
