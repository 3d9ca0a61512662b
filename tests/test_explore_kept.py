"""A kept exploration knows the code that made it, shows how far it is, and is written sparingly."""

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest

import refvit
from refvit import cells, progress
from refvit.accel import MACHINES, simulate
from refvit.accel.grid import parse_grid
from refvit.cli import main
from refvit.code_digest import ACCURACY, COSTS, code_digest, sources
from refvit.explore import CHUNK, Part, Task, code_of, explore
from refvit.models import VARIANTS
from refvit.sources import Shapes10

PACKAGE = Path(refvit.__file__).parent
NANO = VARIANTS["nano_vit"]
GRID = parse_grid(["edge16", "rows=cols=8,16"])
# What an exploration imports though no figure depends on it: how cells are kept and shown, words
# that errors say, and how weights are read, as a file knows a model by its weights.
ELSEWHERE = ("cells.py", "checkpoints.py", "code_digest.py", "exploration.py", "files.py",
             "hub.py", "matching.py", "peers", "progress.py")  # fmt: skip


def closure(starts):
    """Every file of the package that some files import, and those import, by what they say."""
    left, seen = [PACKAGE / start for start in starts], set()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [f"{name}.{a.name}" for name in names for a in node.names]
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top, *parts = name.split(".")
                at = PACKAGE.joinpath(*parts)
                if top == "refvit" and parts:
                    files = (at.with_suffix(".py"), at / "__init__.py")
                    left += [file for file in files if file.is_file()]
    return seen


def test_every_file_that_decides_a_figure_is_in_the_digest():
    costs = closure(["accel/sweep.py", "accel/grid.py"])
    assert costs <= set(sources(COSTS))
    known = {*sources(ACCURACY), *sources(ELSEWHERE)}
    assert closure(["explore.py"]) <= known
    assert set(sources(COSTS)) < set(sources(ACCURACY))


@pytest.fixture
def package(tmp_path):
    """A copy of the sources, to change."""
    copy = tmp_path / "refvit"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "weights", "*.npz"))
    return copy


@pytest.mark.parametrize("name", ["accel/vector.py", "models/vit.py", "site_bits.py"])
def test_a_changed_equation_is_other_code(package, name):
    assert code_digest(COSTS, package) == code_digest(COSTS)
    path = package / name
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    code_digest.cache_clear()
    assert code_digest(COSTS, package) == code_digest(COSTS), "line ends are no change"
    path.write_bytes(text + b"\nROW_CYCLES = 200\n")
    code_digest.cache_clear()
    assert code_digest(COSTS, package) != code_digest(COSTS)
    path.unlink()
    with pytest.raises(FileNotFoundError) if name in COSTS else pytest.MonkeyPatch.context():
        code_digest.cache_clear()
        assert code_digest(COSTS, package) != code_digest(COSTS)


def test_the_engine_decides_accuracy_but_no_cost(package):
    path = package / "integer" / "fixedpoint.py"
    path.write_bytes(path.read_bytes() + b"\n")
    assert code_digest(COSTS, package) == code_digest(COSTS)
    assert code_digest(ACCURACY, package) != code_digest(ACCURACY)
    assert code_of(None) == code_digest(COSTS)
    assert code_of(Shapes10()) == code_digest(ACCURACY)


def test_results_of_other_code_are_refused_in_one_line(tmp_path, monkeypatch, capsys):
    kept = tmp_path / "grid.json"
    argv = ["explore", "nano_vit", "--no-accuracy", "--machines", "edge16", "--out", str(kept)]
    assert main(argv) == 0
    first = json.loads(kept.read_text())
    assert (first["code"], first["version"]) == (code_digest(COSTS), refvit.__version__)
    assert main(argv) == 0
    capsys.readouterr()
    for change in ({"code": "0" * 16, "version": "0.0.9"}, {"code": None, "version": None}):
        told = {key: value for key, value in (first | change).items() if value is not None}
        kept.write_text(json.dumps(told))
        assert main(argv) == 2
        out, err = capsys.readouterr()
        version = change["version"] or "unknown"
        assert out == ""
        assert err == (
            f"refvit: error: {str(kept)!r} was made by other code, whose figures may differ "
            f"(version {version}, this is {refvit.__version__}); delete it or name a new file\n"
        )
    kept.unlink()
    assert main(argv) == 0


def test_a_worker_with_other_code_says_so():
    task = Task(NANO, GRID, 1, None, None, "minmax", 8, code_of(None))
    assert len(task("0:2", "w8a8").figures) == 2
    other = Task(NANO, GRID, 1, None, None, "minmax", 8, "0" * 16)
    with pytest.raises(ValueError, match="a worker has other code of refvit"):
        other("0:2", "w8a8")


def test_machines_without_codes_as_wide_as_a_recipe_are_left_out():
    found = explore(NANO, parse_grid(["widths=8,8+16"]), ["w8a8"])
    assert [point.machine for point in found.points] == ["edge32 widths=8+16"]
    assert found.left_out == 1
    with pytest.raises(ValueError, match="'edge32 widths=8': codes of 16 bits are not modelled"):
        explore(NANO, parse_grid(["widths=8"]))


def test_options_of_simulate_are_explored_as_if_they_were_the_machines():
    found = explore(NANO, parse_grid(["nonlinear=vector,host", "residency=true,false"]))
    assert len({point.machine for point in found.points}) == len(found.points) == 4
    for point in found.points:
        said = dict(word.split("=") for word in point.machine.split()[1:])
        options = {"nonlinear": said["nonlinear"], "residency": said["residency"] == "true"}
        whole = refvit.simulate(NANO, MACHINES["edge32"], recipe="w8a8", **options).totals
        assert (point.cycles, point.dram_bytes) == (whole["cycles"], whole["dram_bytes"])
    assert simulate(NANO).totals["cycles"] < max(point.cycles for point in found.points)


@pytest.mark.parametrize("option", ["--data=nope", "--count=50", "--calibration-images=8",
                                    "--method=mse"])  # fmt: skip
def test_options_of_what_is_not_measured_are_refused(option, capsys):
    for model, why in {"nano_vit": "--no-accuracy", "deit_tiny": "deit_tiny, which has no weights,"
                       }.items():  # fmt: skip
        bare = ["--no-accuracy"] * (model == "nano_vit")
        assert main(["explore", model, "--machines", "edge16", *bare, option]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        name = option.partition("=")[0]
        assert err == (f"refvit: error: {why} measures no accuracy: {name} changes nothing; "
                       "leave it out\n")  # fmt: skip


@pytest.mark.parametrize("out", [False, True])
def test_a_terminal_sees_machines_and_their_rate(out, tmp_path, monkeypatch, capsys):
    clock = iter(range(10**6))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    grid = parse_grid(["edge32", f"vector_lanes=1:{CHUNK + 50}"])
    explore(NANO, grid, ("w8a8", "w4a4"), kept=tmp_path / "x.json" if out else None)
    seen = [line.strip() for line in capsys.readouterr().err.split("\r")]
    shown = re.findall(r"explore  ([\d,]+)/500 machines  ([\d,]+)/s  \d+:\d\d left", " ".join(seen))
    assert shown[-1][0] == "500"
    assert len(shown) >= 3
    assert all(int(rate) > 0 for _, rate in shown)
    assert seen[-1] == "", "the line is wiped"


def test_a_file_of_many_cells_is_not_written_for_each(tmp_path, monkeypatch):
    """While there are few it is; of many, at most a fiftieth is missing from it."""
    written = []
    monkeypatch.setattr(cells, "write_text", lambda _, said: written.append(len(read(said))))
    keeper, done = cells.Keeper(tmp_path / "x.json", {"about": 1}), []
    for number in range(5000):
        done.append(Part(f"{number}:{number + 1}", "w8a8", []))
        keeper(done)
        assert number + 1 - written[-1] <= number / 50
    assert written[:99] == list(range(1, 100))
    assert len(written) < 350
    done.append(Part("5000:5001", "w8a8", []))
    keeper(done, last=True)
    keeper(done, last=True)
    assert written.count(5001) == 1


def read(said):
    return json.loads(said)["cells"]


def test_what_was_finished_is_in_the_file_though_a_cell_fails(tmp_path, monkeypatch):
    kept = tmp_path / "x.json"
    monkeypatch.setattr("refvit.explore.CHUNK", 1)
    monkeypatch.setattr(cells, "Keeper", Lazy)
    whole = Task.__call__

    def failing(task, part, recipe):
        if part == "1:2":
            raise ValueError("no")
        return whole(task, part, recipe)

    monkeypatch.setattr(Task, "__call__", failing)
    with pytest.raises(ValueError, match="no"):
        explore(NANO, GRID, kept=kept)
    assert [cell["part"] for cell in json.loads(kept.read_text())["cells"]] == ["0:1"]
    assert os.listdir(tmp_path) == ["x.json"]


class Lazy(cells.Keeper):
    """One that writes nothing but at the end."""

    def __call__(self, done, last=False):
        if last:
            super().__call__(done, last)
