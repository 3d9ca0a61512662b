"""`refvit train --from MODEL`: training that goes on from a model, in floats or, with --qat, on the
grids of a recipe. The second ends in an engine: integers, proved, that replay."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from refvit.checkpoints import find_model, load_model, save_model
from refvit.evaluate import evaluate
from refvit.files import write_text
from refvit.integer import compile
from refvit.methods import method
from refvit.model import Model
from refvit.quant import Learnable, QuantizedModel
from refvit.quant.recipe import recipe as find_recipe
from refvit.sources import Idx, Shapes10, Source, pixels_of
from refvit.train import Student, Teacher, train
from refvit.train_recipe import TrainRecipe


def run_from(
    recipe: TrainRecipe, args: argparse.Namespace, about: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Train on from `recipe.start`, test, and write what came of it, its card beside it; return a
    line and the card, which begins with `about`."""
    model = load_model(find_model(recipe.start))
    source, out = source_for(model, args.data, recipe), args.out
    state, began = out.with_name(out.name + ".state"), time.monotonic()
    if recipe.qat:
        learned = learn(model, source, recipe, state)
        minutes = (time.monotonic() - began) / 60
        engine = compile(learned)
        card = about | tested(model, learned, source, args.test) | {
            "integer_top1": evaluate(engine, source, args.test).top1, "digest": engine.digest,
        }  # fmt: skip
        engine.save(out)
        shown = f"in integers {card['integer_top1']:.2%}"
    else:
        params = train(
            recipe, state, source, teacher_from(model, recipe), student=student_of(model)
        )
        minutes = (time.monotonic() - began) / 60
        tuned = Model(model.config, params, model.preprocess, model.labels, str(out))
        card = about | tested(model, tuned, source, args.test)
        save_model(out, tuned, card)
        shown = "in floats"
    card |= {"minutes": round(minutes, 1), "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    write_text(out.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    line = f"{card['top1']:.2%} of {card['test_images']:,} test images, {shown}"
    return f"{out}: {line}; it came from {card['start_top1']:.2%}", card


def learn(
    model: Model, source: Source, recipe: TrainRecipe, state: Path | None = None
) -> QuantizedModel:
    """Return `model` after quantization-aware training; what a stopped run resumes from lies in
    `state`.

    Grids begin where `recipe.method` finds them. The teacher is the float model itself unless the
    recipe names one.
    """
    pixels = pixels_of(model.preprocess, source.calibration(recipe.calibration))
    start = Learnable(method(recipe.method)(model, pixels, find_recipe(recipe.qat)))
    penalty = (lambda leaves: start.damping(leaves) * recipe.damping) if recipe.damping else None
    student = Student(model.config, start.tensors, start.tap, model.preprocess, penalty)
    teacher = teacher_from(model, recipe)
    return start.settled(dict(train(recipe, state, source, teacher, student=student).items()))


def student_of(model: Model) -> Student:
    """Return the float model as what learns."""
    return Student(model.config, dict(model.params.items()), preprocess=model.preprocess)


def teacher_from(model: Model, recipe: TrainRecipe) -> Teacher | None:
    """Return the teacher that a recipe names; for `qat` without one, `model` itself."""
    if not recipe.teacher and not recipe.qat:
        return None
    known = load_model(find_model(recipe.teacher)) if recipe.teacher else model
    if known.labels != model.labels or known.config.image != model.config.image:
        raise ValueError(f"teacher {recipe.teacher!r} reads other images or classes than the model")
    return lambda images: known(known.preprocess.normalise(images))


def source_for(model: Model, folder: Path | None, recipe: TrainRecipe) -> Source:
    """Return IDX files of `folder`, shapes10 without one; ValueError if the model reads other."""
    source = Shapes10(recipe.difficulty, recipe.pool) if folder is None else Idx(
        folder, model.labels, recipe.pool
    )  # fmt: skip
    images, _ = source.train(0, 1, 0)
    wanted, found = (*model.config.image, model.config.channels), tuple(images.shape[1:])
    if found != wanted or len(source.labels) != len(model.labels):
        raise ValueError(
            f"{recipe.start!r} reads {len(model.labels)} classes of {list(wanted)} images, "
            f"{source.name} has {len(source.labels)} of {list(found)}; name IDX files with --data"
        )
    return source


def tested(
    model: Model, found: Model | QuantizedModel, source: Source, count: int
) -> dict[str, Any]:
    """Return the top-1 of the model that was started from and of what was found."""
    first = evaluate(model, source, count)
    return {
        "test_images": first.count, "start_top1": first.top1,
        "top1": evaluate(found, source, count).top1,
    }  # fmt: skip
