"""refvit: the golden model of a quantized Vision Transformer in NumPy.

model = refvit.load("nano_vit")                       a float model, callable on pixels
quantized = refvit.quantize(model, pixels, "w8a8")    the same, simulated on integer grids
engine = refvit.compile(quantized)                    the same, in integers alone, proved
report = refvit.simulate(model.config, "edge32")      its cycles, traffic and energy by layer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import refvit.stopping as _stopping  # noqa: F401  (first: an interrupt while NumPy loads)
from refvit import accel, data
from refvit.accel import Report, roofline
from refvit.checkpoints import file_format, find_model, load_model, save_model, shipped
from refvit.course import check
from refvit.evaluate import Evaluation, evaluate
from refvit.integer import IntegerModel, compile, load_engine
from refvit.integer.artefact import FORMAT as _INTEGER
from refvit.lockstep import lockstep
from refvit.model import Model, random
from refvit.quant import QuantizedModel
from refvit.quant import quantize_model as quantize
from refvit.site_bits import simulate

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "IntegerModel",
    "Model",
    "QuantizedModel",
    "Report",
    "accel",
    "check",
    "compile",
    "data",
    "evaluate",
    "load",
    "lockstep",
    "quantize",
    "random",
    "roofline",
    "save_model",
    "shipped",
    "simulate",
]


def load(where: str | Path, **known: Any) -> Model | IntegerModel:
    """Return the model at `where`: a shipped name, a directory, a `.safetensors` file, or
    `hf:org/name` (`hf:org/name@revision`) in the local cache of Hugging Face.

    A directory holds a ViT, DeiT or Swin of Hugging Face or timm (config.json, model.safetensors or
    its shards). A file is a refvit model, the artefact of an engine, which comes back as
    `IntegerModel`, or a peer's weights alone, whose architecture is inferred: `Model.notes` say
    what was. `known` are fields of the configuration that hold whatever a peer's checkpoint says,
    as in `load("weights.safetensors", heads=4)`. Nothing is downloaded; `refvit pull` does that.
    Raises FileNotFoundError or ValueError with one line that says what was found.

    >>> load("nano_vit").config.width
    48
    """
    path = find_model(where)
    if path.is_file() and file_format(path) == _INTEGER:
        return load_engine(path)
    return load_model(path, known)
