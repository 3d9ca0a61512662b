"""`refvit train`: options, the run, and the card that a finished model carries."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from refvit import data
from refvit.checkpoints import save_model
from refvit.files import writable, write_text
from refvit.images import Preprocess
from refvit.model import Model, top_classes
from refvit.models import variant
from refvit.train import TrainRecipe, train

EVALUATION = 2000
HELP = {
    "model": "variant to train",
    "images": "fresh images seen in all",
    "batch": "images a step",
    "shards": "threads that share a batch",
    "rate": "peak learning rate",
    "warmup": "steps of linear warm-up",
    "decay": "weight decay of matrices",
    "smoothing": "label smoothing",
    "clip": "largest global gradient norm",
    "difficulty": "of shapes10, 0 to 1",
    "seed": "of weights and images",
}


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add one option per field of `TrainRecipe`, and where to write."""
    for field in fields(TrainRecipe):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name}",
            type=kind,
            default=field.default,
            help=f"{HELP[field.name]} ({field.default})",
        )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        required=True,
        help="model file to write; FILE.state holds what a stopped run resumes from",
    )


def run_train(args: argparse.Namespace) -> tuple[str, Any]:
    """Train, evaluate on fresh images, write the model with its card and its JSON beside it."""
    recipe = TrainRecipe(**{field.name: getattr(args, field.name) for field in fields(TrainRecipe)})
    out: Path = args.out
    if out.suffix != ".safetensors":
        raise ValueError(f"--out names a .safetensors file, got {str(out)!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    writable(out)
    params = train(recipe, out.with_name(out.name + ".state"))
    config = variant(recipe.model)
    model = Model(config, params, Preprocess(config.image), data.LABELS, str(out))
    card = make_card(recipe, evaluate(model, recipe.difficulty))
    save_model(out, model, card)
    card["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    write_text(out.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    return f"{out}: {card['test_top1']:.2%} of {EVALUATION:,} fresh test images", card


def evaluate(model: Model, difficulty: float, count: int = EVALUATION) -> float:
    """Return top-1 on the first `count` test images of seed 0."""
    images, labels = data.shapes10("test", count, difficulty=difficulty)
    found = top_classes(model, model.preprocess.normalise(images), 100, "evaluate")
    return float(np.mean(found == labels))


def make_card(recipe: TrainRecipe, top1: float) -> dict[str, Any]:
    """Return the provenance of a trained model: recipe, data, result and the command."""
    changed = {
        f.name: getattr(recipe, f.name)
        for f in fields(recipe)
        if getattr(recipe, f.name) != f.default
    }
    options = "".join(f" --{name} {value}" for name, value in changed.items())
    return {
        "name": recipe.model,
        "data": "shapes10, split train, every image seen once",
        "epochs": 1,
        "recipe": asdict(recipe),
        "test_images": EVALUATION,
        "test_top1": top1,
        "numpy": np.__version__,
        "command": f"refvit train{options} --out weights/{recipe.model}.safetensors",
    }
