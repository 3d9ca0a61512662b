"""The main job: one shipped model in three arithmetics on fresh images, then on an accelerator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit import data
from refvit.accel import Report, simulate
from refvit.checkpoints import find_model, load_model
from refvit.integer import IntegerModel, compile, widest
from refvit.model import top_classes
from refvit.quant import quantize_model

BATCH = 50
CALIBRATION = 128
MACHINE = "edge32"


@dataclass(frozen=True)
class Outcome:
    """One arithmetic on the images: accuracy, agreement with float, milliseconds an image."""

    name: str
    top1: float
    agreement: float
    ms: float


@dataclass(frozen=True)
class Demo:
    """Everything the main job shows."""

    model: str
    parameters: int
    images: int
    seed: int
    recipe: str
    outcomes: tuple[Outcome, ...]
    engine: IntegerModel
    report: Report


def run(name: str, images: int, seed: int, recipe: str = "w8a8") -> Demo:
    """Classify `images` fresh `shapes10` pictures in float, simulated and in integers."""
    model = load_model(find_model(name))
    calibration, _ = data.shapes10("calibration", CALIBRATION, seed)
    quantized = quantize_model(model, model.preprocess.normalise(calibration), recipe)
    engine = compile(quantized)
    pictures, labels = data.shapes10("test", images, seed)
    pixels = model.preprocess.normalise(pictures)
    outcomes: list[Outcome] = []
    reference: NDArray[Any] | None = None
    for kind, forward in (("float32", model), ("simulated", quantized), ("integer-only", engine)):
        found, ms = classify(kind, forward, pixels)
        reference = found if reference is None else reference
        top1, same = float(np.mean(found == labels)), float(np.mean(found == reference))
        outcomes.append(Outcome(kind, top1, same, ms))
    count = sum(tensor.size for _, tensor in model.params.items())
    report = simulate(model.config, machine=MACHINE)
    return Demo(name, count, images, seed, recipe, tuple(outcomes), engine, report)


def classify(
    label: str, forward: Callable[[Any], Any], pixels: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Return the greatest logit's index of every image, and the milliseconds each took."""
    began = time.perf_counter()
    found = top_classes(forward, pixels, BATCH, label)
    return found, (time.perf_counter() - began) * 1e3 / len(pixels)


def percent(share: float) -> str:
    """Return a share with one decimal.

    >>> percent(0.93456)
    '93.5 %'
    """
    return f"{100 * share:.1f} %"


def text(demo: Demo) -> str:
    """Return what `refvit` prints."""
    bits = widest(list(demo.engine.proofs))
    lines = [
        f"{demo.model}: {demo.parameters:,} parameters, recipe {demo.recipe}, on {demo.images:,} "
        f"fresh shapes10 images (test split, seed {demo.seed})",
        "",
        f"{'':<14}{'top-1':>9}{'same class as float':>22}{'ms/image':>11}",
        *(
            f"{o.name:<14}{percent(o.top1):>9}{percent(o.agreement):>22}{o.ms:>11.2f}"
            for o in demo.outcomes
        ),
        "",
        f"No overflow is possible: {len(demo.engine.proofs)} ranges proved. The widest needs "
        f"{bits.bits} of {bits.width} bits: {bits.what} at {bits.site}.",
        f"Engine {demo.engine.digest[:16]}",
        "",
        demo.report.table(),
    ]
    return "\n".join(lines)


def as_json(demo: Demo) -> dict[str, Any]:
    """Return the same as data."""
    bits = widest(list(demo.engine.proofs))
    return {
        "model": demo.model,
        "parameters": demo.parameters,
        "images": demo.images,
        "seed": demo.seed,
        "recipe": demo.recipe,
        "engines": [vars(outcome) for outcome in demo.outcomes],
        "proof": {
            "ranges": len(demo.engine.proofs),
            "site": bits.site,
            "what": bits.what,
            "bits": bits.bits,
            "width": bits.width,
        },
        "digest": demo.engine.digest,
        "accelerator": {
            "machine": MACHINE,
            "rows": [vars(row) for row in demo.report.rows],
            "totals": dict(demo.report.totals),
        },
    }
