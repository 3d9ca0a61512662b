"""What a training run reads besides its recipe: images, and a teacher."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refvit
from refvit.cells import model_digest
from refvit.checkpoints import find_model, load_model
from refvit.model import Model
from refvit.models import Config
from refvit.sources import Idx, Shapes10, Source
from refvit.train import Teacher
from refvit.train_recipe import TrainRecipe


def state_of(out: Path) -> Path:
    """Return where a run that writes `out` keeps what it resumes from."""
    return out.with_name(out.name + ".state")


def start_of(recipe: TrainRecipe) -> Model:
    """Return the float model that training goes on from; ValueError if it is compiled already."""
    model = refvit.load(recipe.start)
    if not isinstance(model, Model):
        raise ValueError(f"training goes on from a float model; {recipe.start} is compiled")
    return model


def source_of(
    recipe: TrainRecipe, folder: Path | None, config: Config, labels: tuple[str, ...]
) -> Source:
    """Return IDX files of `folder`, shapes10 without one, for a model of `config` and `labels`.

    Raises ValueError for a recipe of IDX files without a folder, and for images or a number of
    classes that the model does not read.
    """
    name = recipe.start or recipe.model
    if folder is None and recipe.data == "idx":
        raise ValueError("this recipe reads IDX files; name their folder with --data DIR")
    source = Shapes10(recipe.difficulty, recipe.pool) if folder is None else Idx(
        folder, labels, recipe.pool
    )  # fmt: skip
    images, _ = source.train(0, 1, 0)
    wanted, found = (*config.image, config.channels), tuple(images.shape[1:])
    if found != wanted or len(source.labels) != len(labels):
        other = "name IDX files with --data" if folder is None else "another folder or model"
        raise ValueError(
            f"{name!r} reads {len(labels)} classes of {list(wanted)} images, {source.name} has "
            f"{len(source.labels)} of {list(found)}; {other} goes with it"
        )
    return source


def teacher_of(
    recipe: TrainRecipe, student: Config, start: Model | None = None
) -> tuple[Teacher | None, dict[str, Any]]:
    """Return the teacher, and what the card says of it.

    It is the one that the recipe names; of quantization-aware training without one, the float model
    `start`. ValueError if it reads other images or classes than the student.
    """
    if recipe.teacher:
        path = find_model(recipe.teacher)
        model, file = load_model(path), path if path.is_file() else path / "model.safetensors"
        about = {"teacher_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    elif recipe.qat and start is not None:
        model, about = start, {}
    else:
        return None, {}
    if _reads(model.config) != _reads(student):
        raise ValueError(
            f"teacher {recipe.teacher!r} reads other images or classes than the student"
        )

    def teach(images: NDArray[np.uint8]) -> NDArray[Any]:
        return model(model.preprocess.normalise(images))

    return Teacher(teach, model_digest(model)), about


def teacher_digest(recipe: TrainRecipe) -> str:
    """Return a digest of the teacher that a recipe names, none if it names none."""
    return model_digest(load_model(find_model(recipe.teacher))) if recipe.teacher else ""


def _reads(config: Config) -> tuple[Any, ...]:
    return config.image, config.channels, config.classes
