"""A digest of the code that makes figures, so that a kept file knows which equations it is of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from refvit.files import digest

PACKAGE = Path(__file__).parent
# What decides the costs of a model on a machine: cycles, bytes and energies, the shapes they are
# of, the widths that a recipe says, and how points are made of them.
COSTS = ("accel", "models", "ops", "params.py", "quant/recipe.py", "site_bits.py", "explore.py")
# What decides besides how often a model is right in integers: all that runs from an image to a
# class. How weights are read is not in it, as a file knows the model by its weights.
ACCURACY = (
    *COSTS, "integer", "quant", "autodiff", "ahead.py", "data.py", "evaluate.py", "idx.py",
    "images.py", "losses.py", "methods.py", "model.py", "optim.py", "resize.py", "sources.py",
)  # fmt: skip


@lru_cache(maxsize=8)
def code_digest(parts: tuple[str, ...], package: Path = PACKAGE) -> str:
    """Return 16 digits of the sha256 of the sources of `parts`, files or folders of the package.

    It is of their names and texts, line ends aside, so it is the same on every system. Raises
    FileNotFoundError for a part that is not there.

    >>> code_digest(COSTS) == code_digest(COSTS), code_digest(COSTS) == code_digest(ACCURACY)
    (True, False)
    """
    found: list[bytes] = []
    for path in sources(parts, package):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        found += [path.relative_to(package).as_posix().encode(), b"\0", text, b"\0"]
    return digest(*found)


def sources(parts: Sequence[str], package: Path = PACKAGE) -> list[Path]:
    """Return every Python file of `parts`, in order."""
    found: list[Path] = []
    for part in parts:
        at = package / part
        if not at.exists():
            raise FileNotFoundError(f"no sources {str(at)!r} to know results by")
        found += [at] if at.is_file() else sorted(at.rglob("*.py"))
    return sorted(set(found))
