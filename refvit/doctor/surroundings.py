"""What refvit runs on: versions of Python and its libraries, the BLAS at work, the processor."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("safetensors", "Pillow", "einops")


def versions() -> dict[str, str]:
    """Return, by name, what decides how this process computes."""
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    found = " ".join(simd.get("found", ())) or "nothing more"
    return {
        "refvit": installed("refvit"),
        "Python": f"{platform.python_version()}, {platform.python_implementation()}",
        "NumPy": np.__version__,
        "BLAS": blas(config.get("Build Dependencies", {}).get("blas", {})),
        "SIMD": f"{' '.join(simd.get('baseline', ())) or 'nothing'}, dispatched: {found}",
        **{name: installed(name) for name in LIBRARIES},
        "OS": platform.platform(),
        "cores": str(cores()),
    }


def installed(name: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "from a checkout" if name == "refvit" else "not installed"


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def blas(built: dict[str, Any]) -> str:
    """Return name and version of the BLAS that NumPy was built with, its kernels and threads."""
    name = f"{built.get('name', 'none')} {built.get('version', '')}".strip()
    running = openblas()
    if running is None:
        return f"{name}, threads unknown"
    core, threads = running
    return f"{name}, {core} kernels, {threads} thread{'' if threads == 1 else 's'}"


def openblas() -> tuple[str, int] | None:
    """Return the core type and the threads of the OpenBLAS inside NumPy's wheel, None without one.

    OpenBLAS picks its kernels by processor when it is loaded; only the library itself can tell.
    """
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))  # the one already loaded
            for name in ("scipy_openblas_get_{}64_", "scipy_openblas_get_{}", "openblas_get_{}"):
                core = getattr(library, name.format("corename"), None)
                threads = getattr(library, name.format("num_threads"), None)
                if core is not None and threads is not None:
                    core.restype = ctypes.c_char_p
                    return (core() or b"unknown").decode(), int(threads())
    return None
