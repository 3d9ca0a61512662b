"""The state of a training on disk: what a run that was stopped goes on from, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from refvit.files import read_tensors, write_tensors
from refvit.optim import TrainState, fresh
from refvit.train_recipe import TrainRecipe

Arrays = dict[str, NDArray[Any]]
PARTS = ("param", "first", "second", "average")  # of a stored state, by the start of its names


def restored(recipe: TrainRecipe, tensors: Arrays, path: Path | None, begins: str) -> TrainState:
    """Return the state in `path`, or without such a file that of `tensors` before the first step.

    Raises ValueError if the file is of another recipe, began with others than `begins` says, or is
    no whole state.
    """
    start = fresh(tensors, recipe.ema > 0)
    if path is None or not path.exists():
        return start
    stored, meta = _read(path)
    other = _difference(recipe, meta.get("recipe", ""))
    if other is not None:
        raise ValueError(f"{path} belongs to another run: {other}; name a new --out, or delete it")
    if meta.get("begins", begins) != begins:
        raise ValueError(
            f"{path} belongs to another run: its images, its teacher, its model or the recipe of "
            "its grids were others; name a new --out, or delete it"
        )
    kinds = PARTS if recipe.ema else PARTS[:3]
    wanted = {f"{kind}/{name}" for kind in kinds for name in start.params}
    if set(stored) != wanted or not meta.get("step", "").isdigit():
        raise ValueError(f"{path} is not a whole training state; delete it to begin anew")
    parts = [{name: stored[f"{kind}/{name}"] for name in start.params} for kind in kinds]
    return TrainState(int(meta["step"]), *parts, *([] if recipe.ema else [{}]))


def _difference(recipe: TrainRecipe, said: str) -> str | None:
    """Return how the recipe `said` by a state differs from `recipe`, None if it does not; what it
    does not say is what a run does that asks for nothing else."""
    asked = asdict(recipe)
    try:
        held = asdict(TrainRecipe()) | json.loads(said)
    except (json.JSONDecodeError, TypeError):
        return "its recipe cannot be read"
    if unknown := sorted(held.keys() - asked.keys()):
        return f"its recipe has {', '.join(unknown)}, which recipes do not have here"
    parts = [f"{k} {held[k]!r}, asked is {v!r}" for k, v in asked.items() if held[k] != v]
    return "its " + ", ".join(parts) if parts else None


def _read(path: Path, only: Sequence[str] | None = None) -> tuple[Arrays, dict[str, str]]:
    """Return what `read_tensors` does of a state; ValueError, with the cure, if it is not whole."""
    try:
        return read_tensors(path, only)
    except ValueError as error:
        raise ValueError(f"{error}; delete it to begin anew") from None


def seconds_in(path: Path | None) -> float:
    """Return how long the training in a state has taken, 0 where there is none."""
    if path is None or not path.exists():
        return 0.0
    said = _read(path, only=())[1].get("seconds", "0")
    return float(said) if said.replace(".", "", 1).isdigit() else 0.0


def save(
    recipe: TrainRecipe, state: TrainState, path: Path | None, begins: str, seconds: float = 0.0
) -> None:
    """Write a state whole or not at all: tensors by part and name, whose they are, and how many
    seconds of training led to it."""
    if path is None:
        return
    kept = (state.params, state.first, state.second, state.average)
    parts = zip(PARTS, kept, strict=True)
    flat = {f"{kind}/{name}": tensor for kind, part in parts for name, tensor in part.items()}
    said = {"recipe": json.dumps(asdict(recipe)), "step": str(state.step), "begins": begins}
    said["seconds"] = f"{seconds:.1f}"
    write_tensors(path, flat, said)
