"""The architecture as tests: who may import whom, and what a stranger finds."""

import ast
import sys
from pathlib import Path

import pytest

import refvit

PACKAGE = Path(refvit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
RUN_TIME = {"numpy", "safetensors", "PIL", "einops", "refvit"}


def imported(path: Path) -> set[str]:
    """Every module named by an import statement of `path`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path):
    inner = {"quant", "integer", "accel"}
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "refvit" or len(parts) < 2:
            continue
        deep = len(parts) > 2 and (PACKAGE / parts[1] / f"{parts[2]}.py").exists()
        if package_of(path) in inner and parts[1] in inner - {package_of(path)}:
            assert not deep, f"{path.name} reaches inside {name}"
        if package_of(path) == "accel":
            assert parts[1] in {"accel", "models", "ops", "params"}, name
        if package_of(path) in {"ops", "models"}:
            assert parts[1] in {"ops", "models", "params"}, name
        assert parts[1] != "cli" or path.name in {"__main__.py", "cli.py"}, name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_run_time_needs_four_libraries_and_no_pickle(path):
    tops = {name.split(".")[0] for name in imported(path) if name}
    lazy = {
        "base.py": {"matplotlib", "IPython"},
        "hub.py": {"huggingface_hub"},
        "extra.py": {"hypothesis"},
    }.get(path.name, set())
    assert tops <= RUN_TIME | lazy | set(sys.stdlib_module_names)
    assert not tops & {"pickle", "urllib", "http", "socket", "torch"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            doc = ast.get_docstring(node)
            start = first.end_lineno + 1 if doc else first.lineno
            assert node.end_lineno - start < 40, f"{node.name} is too long"


def test_public_names_exist():
    for name in refvit.__all__:
        assert getattr(refvit, name) is not None
    assert callable(refvit.accel.gemm_cycles)
    assert callable(refvit.data.shapes10)
