"""The same grid on a cluster: workers of Dask, each a process, behind `client.get_executor()`.

The last bits of a float product depend on how many BLAS threads share it, and Dask gives a worker
one; so what a grid is without an executor is asked of a worker, not of the process that tests.
"""

import json
from dataclasses import replace

import pytest

import refvit
from refvit.compare import Cell, compare
from refvit.files import write_text
from refvit.quant import PRESETS
from refvit.sources import Shapes10

distributed = pytest.importorskip("distributed", reason="workers come with the cluster extra")

GRID = (("minmax", "per-tensor"), ("w8a8", "w4a4"), 30)


@pytest.fixture(scope="module")
def model():
    return refvit.load("nano_vit")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two workers on this machine, with one thread each."""
    own = {"dashboard_address": ":0", "local_directory": tmp_path_factory.mktemp("workers")}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **own) as cluster:
        with distributed.Client(cluster) as client:
            yield client


@pytest.fixture(scope="module")
def alone(client, model):
    """The cells of the grid without an executor."""
    return client.submit(compare, model, Shapes10(), *GRID).result()


@pytest.fixture
def executor(client):
    """The cluster as an executor that computes a call anew though it had the same one before."""
    return client.get_executor(pure=False)


def saved(kept):
    """The cells in a file, none if there is no file."""
    found = json.loads(kept.read_text())["cells"] if kept.exists() else []
    return [Cell(**cell) for cell in found]


def test_a_grid_has_the_same_cells_on_a_cluster(executor, model, alone, tmp_path):
    cells = compare(model, Shapes10(), *GRID, executor, tmp_path / "grid.json")
    assert cells == alone
    assert [(c.method, c.recipe) for c in cells] == [(m, r) for m in GRID[0] for r in GRID[1]]
    assert set(saved(tmp_path / "grid.json")) == set(alone)


def test_an_evaluation_has_the_same_figures_on_a_cluster(client, executor, model):
    asked = (model, Shapes10(), 120, "integer", "w8a8")
    alone = client.submit(refvit.evaluate, *asked).result()
    found = refvit.evaluate(*asked, executor)
    assert found.as_json() == alone.as_json()
    assert found.count == 120


def test_a_grid_that_is_stopped_on_a_cluster_keeps_its_cells_and_goes_on(
    executor, model, alone, tmp_path, monkeypatch
):
    def stopped(path, text):
        write_text(path, text)
        raise KeyboardInterrupt

    asked = (model, Shapes10(), ["minmax"], *GRID[1:], executor, tmp_path / "grid.json")
    with monkeypatch.context() as patch:
        patch.setattr("refvit.cells.write_text", stopped)
        with pytest.raises(KeyboardInterrupt):
            compare(*asked)
    (first,) = saved(tmp_path / "grid.json")
    assert first in alone[:2]
    assert compare(*asked) == alone[:2]
    assert saved(tmp_path / "grid.json")[0] == first


def test_a_cell_that_fails_on_a_cluster_says_why_and_is_asked_again(
    executor, model, alone, tmp_path
):
    kept, mine = tmp_path / "grid.json", tmp_path / "mine.toml"
    asked = (model, Shapes10(), ["minmax"], ["w8a8", str(mine)], GRID[2], executor, kept)
    mine.write_text(PRESETS["w8a8"].to_toml() + '"nowhere" = {bits = 8}\n')
    with pytest.raises(ValueError, match="no site matches 'nowhere'"):
        compare(*asked)
    assert set(saved(kept)) <= {alone[0]}
    mine.write_text(PRESETS["w8a8"].to_toml())
    assert compare(*asked) == [alone[0], replace(alone[0], recipe=str(mine))]
