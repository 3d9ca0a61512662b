"""`refvit train`: options, the run, and the card that a finished model carries."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from refvit.checkpoints import find_model, save_model
from refvit.evaluate import Evaluation, evaluate
from refvit.files import writable, write_text
from refvit.model import Model
from refvit.train import preprocess_of, train
from refvit.train_from import run_from
from refvit.train_inputs import source_of, state_of, teacher_of
from refvit.train_recipe import TrainRecipe, read_recipe, recipe_names

EVALUATION = 10_000


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, one option per field of it, and where to read and write."""
    parser.epilog = (
        "What stands in brackets is so unless RECIPE says otherwise; an option here decides. "
        f"The recipe qat says {'; '.join(f'{k} {v}' for k, v in read_recipe('qat').items())}. "
        "With --qat and --from MODEL the file is an engine; what is learned besides is the step of "
        "every grid (LSQ), and the zero point where the recipe says symmetric = false (LSQ+)."
    )
    names = ", ".join(recipe_names())
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?",
        help=f"a TOML file, or {names} (nano_vit; qat with --qat)",
    )  # fmt: skip
    add_fields(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the IDX files")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", required=True,
        help="model file to write; FILE.state holds what a stopped run resumes from",
    )  # fmt: skip
    parser.add_argument(
        "--test", type=int, default=EVALUATION, metavar="N",
        help=f"fresh test images for the card, FILE with .json ({EVALUATION})",
    )  # fmt: skip


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of a recipe but `data`, which says --data."""
    for field in fields(TrainRecipe):
        if field.name != "data":
            about = f"{field.metadata['help']} ({'none' if field.default == '' else field.default})"
            parser.add_argument(
                f"--{option(field.name)}", dest=f"train_{field.name}", type=type(field.default),
                default=argparse.SUPPRESS, help=about.replace("%", "%%"), metavar=kind_of(field),
            )  # fmt: skip


def kind_of(field: Any) -> str:
    """Return what the help calls the value of a field."""
    named = {"start": "MODEL", "teacher": "MODEL", "qat": "RECIPE", "model": "VARIANT"}
    return named.get(field.name) or {int: "N", float: "X"}.get(type(field.default), "TEXT")


def run_train(args: argparse.Namespace) -> tuple[str, Any]:
    """Train, evaluate on test images, write the model with its card and its JSON beside it."""
    names = [field.name for field in fields(TrainRecipe)]
    given = {n: getattr(args, f"train_{n}") for n in names if hasattr(args, f"train_{n}")}
    name = args.recipe or ("qat" if given.get("qat") else "nano_vit")
    recipe = TrainRecipe(**(read_recipe(name) | given))
    check_out(args.out, recipe)
    if args.test < 1:
        raise ValueError(f"--test is at least 1 image, got {args.test}")
    with resumable_training(state_of(args.out)), warnings.catch_warnings():
        # What overflows ends in a loss that is not finite, which the run refuses in one line.
        warnings.simplefilter("ignore", RuntimeWarning)
        if not recipe.start:
            return run_new(recipe, args, name, given)
        recipe = replace(recipe, data="idx" if args.data else recipe.data)
        data = " --data DIR" if args.data else ""
        test = "" if args.test == EVALUATION else f" --test {args.test}"
        return run_from(recipe, args, {
            "name": recipe.start, "recipe": asdict(recipe), "numpy": np.__version__,
            "command": f"{spoken(name, given)}{data}{test} --out {args.out.name}",
        })  # fmt: skip


@contextmanager
def resumable_training(state: Path) -> Iterator[None]:
    """Add to a KeyboardInterrupt of the block from which file the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if not state.exists():
            raise
        raise KeyboardInterrupt(
            f"{str(state)!r} keeps the training, and the same command goes on from there"
        ) from None


def check_out(out: Path, recipe: TrainRecipe) -> None:
    """Make the folder of `out`; raise ValueError or OSError if the model, its card or its state
    cannot be written, or would overwrite a model that is read."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out names a .safetensors file, got {str(out)!r}")
    for name in filter(None, (recipe.start, recipe.teacher)):
        read = find_model(name).resolve()
        if read == out.resolve() or read == out.resolve().parent:
            where = "is" if read.is_file() else "lies in the directory of"
            raise ValueError(f"--out {str(out)!r} {where} the model that is read; name a new file")
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in (out, out.with_suffix(".json"), state_of(out)):
        writable(path)


def run_new(
    recipe: TrainRecipe, args: argparse.Namespace, name: str, given: dict[str, Any]
) -> tuple[str, Any]:
    """Train from random weights, test in floats and in integers, write the model and its card."""
    config, out = recipe.config, args.out
    source = source_of(recipe, args.data, config, recipe.class_names)
    teacher, taught_by = teacher_of(recipe, config)
    params = train(recipe, state_of(out), source, teacher)
    model = Model(config, params, preprocess_of(config), recipe.class_names, str(out))
    exact, coded = (evaluate(model, source, args.test, engine) for engine in ("float", "integer"))
    card = make_card(name, recipe, given, exact, coded) | taught_by
    save_model(out, model, card)
    card["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    write_text(out.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    shown = f"{exact.top1:.2%} of {exact.count:,} test images, {coded.top1:.2%} in integers"
    return f"{out}: {shown}", card


def spoken(name: str, given: dict[str, Any]) -> str:
    """Return the command of a recipe with options, without its data and output."""
    options = "".join(f" --{option(key)} {shlex.quote(str(value))}" for key, value in given.items())
    return f"refvit train {name}{options}"


def option(field: str) -> str:
    """Return how the command line calls a field of a recipe."""
    return {"start": "from", "calibration": "calibration-images"}.get(field, field)


def make_card(
    name: str, recipe: TrainRecipe, given: dict[str, Any], exact: Evaluation, coded: Evaluation
) -> dict[str, Any]:
    """Return the provenance of a trained model: recipe, data, results and the command."""
    data = "" if recipe.data == "shapes10" else " --data DIR"
    return {
        "name": recipe.model,
        "data": recipe.data,
        "recipe": asdict(recipe),
        "test_images": exact.count,
        "test_top1": exact.top1,
        "integer_w8a8_top1": coded.top1,
        "integer_w8a8_same_class": coded.agreement,
        "numpy": np.__version__,
        "command": f"{spoken(name, given)}{data} --out weights/{recipe.model}.safetensors",
    }
