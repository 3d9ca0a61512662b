"""`refvit train --from MODEL`: training that goes on from a model, in floats or, with --qat, on the
grids of a recipe. The second ends in an engine: integers, proved, that replay."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from refvit.cells import model_digest
from refvit.checkpoints import save_model
from refvit.evaluate import evaluate
from refvit.files import write_text
from refvit.integer import compile
from refvit.methods import method
from refvit.model import Model
from refvit.quant import Learnable, QuantizedModel
from refvit.quant.qat import annealed
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Source, pixels_of
from refvit.train import Student, Teacher, train
from refvit.train_inputs import source_of, start_of, state_of, teacher_of
from refvit.train_recipe import TrainRecipe
from refvit.train_state import seconds_in


def run_from(
    recipe: TrainRecipe, args: argparse.Namespace, about: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Train on from `recipe.start`, test, and write what came of it, its card beside it; return a
    line and the card, which begins with `about`."""
    model = start_of(recipe)
    source, out = source_of(recipe, args.data, model.config, model.labels), args.out
    teacher, taught_by = teacher_of(recipe, model.config, model)
    state = state_of(out)
    began = time.monotonic() - seconds_in(state)
    run = learn if recipe.qat else tuned
    learned: Model | QuantizedModel = run(model, source, recipe, state, teacher)
    minutes = round((time.monotonic() - began) / 60, 1)
    card = about | {"data": source.name, "start_digest": model_digest(model), "minutes": minutes}
    card |= {"sites": find_recipe(recipe.qat).to_toml()} if recipe.qat else {}
    card |= taught_by | tested(model, learned, source, args.test)
    card, shown = written(out, learned, source, args.test, card)
    card["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    write_text(out.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    line = f"{card['top1']:.2%} of {card['test_images']:,} test images, {shown}"
    kept = f"{state} keeps what it could resume from, and may go"
    return f"{out}: {line}; it came from {card['start_top1']:.2%} in float\n{kept}", card


def written(
    out: Path, learned: Model | QuantizedModel, source: Source, count: int, card: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Write what was learned, an engine if it is quantized; return the card with what is known of
    that besides, and a few words."""
    if isinstance(learned, Model):
        save_model(out, learned, card)
        return card, "in floats"
    engine = compile(learned)
    top1 = evaluate(engine, source, count).top1
    engine.save(out)
    return card | {"integer_top1": top1, "digest": engine.digest}, f"in integers {top1:.2%}"


def learn(
    model: Model,
    source: Source,
    recipe: TrainRecipe,
    state: Path | None = None,
    teacher: Teacher | None = None,
) -> QuantizedModel:
    """Return `model` after quantization-aware training; what a stopped run resumes from lies in
    `state`. What the engine would refuse at the end is refused before training, ValueError or
    OverflowError.

    Grids begin where `recipe.method` finds them. Without a `teacher` it is the one that the recipe
    names, else the float model itself.
    """
    pixels = pixels_of(model.preprocess, source.calibration(recipe.calibration))
    sites = find_recipe(recipe.qat)
    start = Learnable(method(recipe.method)(model, pixels, sites))
    compile(start.start)  # what the engine refuses is refused before it is trained
    student = replace(student_of(start, model, recipe.damping), grids=sites.to_toml())
    teacher = teacher or teacher_of(recipe, model.config, model)[0]
    return start.settled(dict(train(recipe, state, source, teacher, student=student).items()))


def student_of(start: Learnable, model: Model, damping: float = 0.0) -> Student:
    """Return what learns on the grids of `start`, its weights damped as `annealed` says."""

    def penalty(leaves: Mapping[str, Any], tap: Any, done: float) -> Any:
        return start.damping(leaves, tap) * annealed(damping, done)

    return Student(
        model.config, start.tensors, start.tap, model.preprocess, penalty if damping else None
    )


def tuned(
    model: Model,
    source: Source,
    recipe: TrainRecipe,
    state: Path | None = None,
    teacher: Teacher | None = None,
) -> Model:
    """Return `model` after training in floats that begins at its weights; `state` and `teacher` as
    in `learn`, but that nobody teaches unless the recipe says so."""
    student = Student(model.config, dict(model.params.items()), preprocess=model.preprocess)
    teacher = teacher or teacher_of(recipe, model.config)[0]
    params = train(recipe, state, source, teacher, student=student)
    return Model(model.config, params, model.preprocess, model.labels, model.source)


def tested(
    model: Model, found: Model | QuantizedModel, source: Source, count: int
) -> dict[str, Any]:
    """Return the top-1 of the model that was started from and of what was found."""
    first = evaluate(model, source, count)
    return {
        "test_images": first.count, "start_top1": first.top1,
        "top1": evaluate(found, source, count).top1,
    }  # fmt: skip
