"""What an exploration says: what is kept when it is stopped, its front, and its title."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import refvit
from refvit import cells
from refvit.accel import step_gemm, timeline
from refvit.accel.grid import parse_grid
from refvit.accel.sweep import NEAR, distinct, pareto
from refvit.cli import main
from refvit.explore import FEW, Part, Task, explore
from refvit.models import VARIANTS

NANO = VARIANTS["nano_vit"]
near = st.integers(-3, 3).map(lambda n: 1 + n * NEAR / 2)  # some within, some not
costs = st.sampled_from([0.0, 1.0, 2.0, -0.5, 1e6])
points = st.lists(
    st.tuples(costs, costs, near, near).map(lambda p: (p[0] * p[2], p[1] * p[3])),
    min_size=1, max_size=30,
).map(np.array)  # fmt: skip


def no_better(a, b, share):
    """Whether a is in no cost above b by more than a share of it."""
    return bool((a <= b + share * np.abs(b)).all())


@given(points)
@example(np.zeros((2, 2)))
def test_a_front_without_near_equals_loses_nothing_that_is_better_by_more(drawn):
    """Every point has one that is shown and no worse by more than 0.1 % in any cost; of two that
    are shown, and not the same, neither is so near the other."""
    front = drawn[pareto(drawn)]
    shown = front[distinct(front)]
    for point in drawn:
        assert any(no_better(a, point, NEAR) for a in shown)
    for a in shown:
        for b in shown:
            apart = np.abs(a - b) > NEAR * np.minimum(np.abs(a), np.abs(b))
            assert (a == b).all() or apart.any()
    every = distinct(front)
    for i, point in enumerate(front):
        assert all(every[j] == every[i] for j in np.flatnonzero((front == point).all(1)))


def test_of_two_that_are_nearly_equal_the_better_is_shown():
    both = np.array([[100.0, 50.0], [100.001, 49.96]])
    assert distinct(both).tolist() == [False, True]
    assert distinct(both[::-1]).tolist() == [True, False]


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def test_what_is_finished_waits_two_seconds_at_most(tmp_path, monkeypatch):
    """Of many cells one alone is not written at once, but when two seconds are over."""
    clock, written = Clock(), []
    monkeypatch.setattr(cells.time, "monotonic", clock)
    monkeypatch.setattr(cells, "write_text", lambda _, said: written.append(said.count('"part"')))
    keeper = cells.Keeper(tmp_path / "x.json", {})
    done = [Part(f"{n}:{n + 1}", "w8a8", []) for n in range(1000)]
    keeper(done[:900])
    keeper(done[:901])
    assert written == [900]
    clock.now += cells.SECONDS - 0.01
    keeper(done[:902])
    assert written == [900]
    clock.now += 0.02
    keeper(done[:903])
    assert written == [900, 903]


def stopped_after(count, monkeypatch):
    """Let the exploration be interrupted in the cell after so many."""
    whole, seen = Task.__call__, []

    def call(task, part, recipe):
        if len(seen) == count:
            raise KeyboardInterrupt
        seen.append(part)
        return whole(task, part, recipe)

    monkeypatch.setattr(Task, "__call__", call)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_interrupted_exploration_says_what_it_keeps(count, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "x.json"
    lanes = f"vector_lanes=1:{3 * FEW}"
    argv = ["explore", "deit_tiny", "--machines", "edge32", lanes]
    stopped_after(count, monkeypatch)
    assert main([*argv, "--out", str(kept)]) == 130
    said = capsys.readouterr().err
    if count:
        many = f"{count} cell{'s' * (count > 1)}"
        assert f"{str(kept)!r} keeps {many}, and the same command goes on" in said
        parts = [cell["part"] for cell in json.loads(kept.read_text())["cells"]]
        assert parts == [f"{n * FEW}:{(n + 1) * FEW}" for n in range(count)]
    else:
        assert f"nothing was finished, so {str(kept)!r} keeps none" in said
        assert not kept.exists()


def test_an_interrupted_exploration_without_a_file_says_so(monkeypatch, capsys):
    stopped_after(0, monkeypatch)
    assert main(["explore", "deit_tiny", "--machines", "edge32"]) == 130
    assert "nothing is kept: --out FILE keeps what is finished" in capsys.readouterr().err


def test_fronts_are_counted_by_recipe_and_a_dropped_objective_is_said():
    found = explore(NANO, parse_grid(["rows=cols=8,16", "vector_lanes=8,16"]), ["w8a8", "w4a8"])
    for recipe in ("w8a8", "w4a8"):
        count = sum(point.front for point in found.points if point.recipe == recipe)
        assert re.search(rf"\b{recipe} {count}\b", found.about)
    assert "top1 was not measured and counts for nothing" in found.about
    plain = explore(NANO, parse_grid(["edge16"]), objectives=["us", "uj_high"])
    assert "top1" not in plain.about


def test_pictures_and_pages_say_the_model(tmp_path):
    files = {kind: tmp_path / f"x.{kind}" for kind in ("svg", "html")}
    wanted = [f"--{kind}={path}" for kind, path in files.items()]
    assert main(["explore", "deit_tiny", "--machines", "edge32", "edge16", *wanted]) == 0
    drawn = ET.fromstring(files["svg"].read_text())
    shown = [node.text for node in drawn.iter() if node.tag.endswith("}text")]
    assert "deit_tiny: 2 points, batch 1" in shown
    assert "<title>deit_tiny: 2 points, batch 1</title>" in files["html"].read_text()
    assert explore(NANO, parse_grid(["edge16"])).model == "nano_vit"


def test_an_interrupt_while_the_command_loads_is_one_line(tmp_path):
    """NumPy is interrupted, here by itself, before `main` could hear of it."""
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    root = Path(refvit.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    for argv in (["-m", "refvit", "info", "nano_vit"],):
        done = subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True)
        assert done.stderr == "\nrefvit: stopped\n"
        assert done.returncode != 0
    done = subprocess.run([sys.executable, "-c", "import refvit"], env=env, capture_output=True,
                          text=True)  # fmt: skip
    assert "Traceback" in done.stderr, "another program's interrupts are its own"


def test_lists_are_refused_in_one_line():
    with pytest.raises(TypeError, match=r"^a is an int8 array; got a list; give np.array\(a, np"):
        step_gemm([[1]], [[1]], 2, 2)
    with pytest.raises(TypeError, match=r"^b is an int8 array; got a list"):
        step_gemm(np.ones((1, 1), np.int8), [[1]], 2, 2)


def test_a_timeline_is_one_short_line_of_text():
    said = repr(timeline(6, 4, 3, 4, 3))
    assert said == "Timeline(ws on 4 x 3 PEs, M=6 K=4 N=3, overlap=False: 15 cycles)"
