"""`IntegerModel`, which classifies with integers alone, and `compile`, which makes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.images import Preprocess
from refvit.integer import grids
from refvit.integer.arithmetic import FAST, Arithmetic
from refvit.integer.artefact import SPECIFICATION, read_engine, save_engine
from refvit.integer.bounds import Proof
from refvit.integer.compiler import CompileOps
from refvit.integer.integer_ops import IntegerOps
from refvit.integer.prover import prove_engine
from refvit.integer.zero_points import affine
from refvit.model import check_pixels
from refvit.models import Config, describe_config, forward, logits_site
from refvit.ops import Shape
from refvit.params import Params
from refvit.quant import Grid, QuantizedModel, quantize

IntArray = NDArray[Any]
RESIZE = "an engine has one size: quantize and compile model.at({}, {})"


@dataclass(frozen=True)
class IntegerModel:
    """An integer-only model: `engine(pixels)` are int32 logits at one common scale.

    `constants` are all the integers it computes with. `scales` are labels by site: that of the
    input is read when pixels are coded, the others never. `proofs` are the ranges, `kernels` is
    the profile, `widths` the bits of the codes of every learned tensor, `provenance` says what was
    compiled, when it is known.
    """

    config: Config
    constants: Params
    scales: Mapping[str, float]
    proofs: tuple[Proof, ...]
    preprocess: Preprocess
    labels: tuple[str, ...]
    recipe: str
    kernels: str = "refvit"
    widths: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, pixels: NDArray[Any], arithmetic: Arithmetic = FAST) -> NDArray[np.int32]:
        """Return logits [B, classes] int32 of normalised pixels [B, C, H, W] float32.

        Coding the pixels is the one step with floats; what follows is `run`. Raises as a float
        model does for pixels of another shape or dtype, or not finite.
        """
        return self.run(self.encode(pixels), arithmetic)

    def encode(self, pixels: NDArray[Any]) -> IntArray:
        """Return the codes [B, C, H, W] of float pixels, as a front end would send them: int8, or
        what the recipe says."""
        return quantize(check_pixels(pixels, self.config, RESIZE), self.grid("input"))

    def run(
        self,
        codes: IntArray,
        arithmetic: Arithmetic = FAST,
        tap: Callable[[str, IntArray], Any] = lambda site, codes: None,
    ) -> NDArray[np.int32]:
        """Return logits [B, classes] int32 of image codes [B, C, H, W], with integers only: what
        the codes of the head stand for.

        Raises TypeError for codes that are not integers, ValueError for another shape or for a
        code outside the grid of the input, for which nothing was proved.
        """
        self.check_codes(codes)
        out = forward(self.ops(arithmetic, tap), codes, self.constants, self.config).codes
        return np.asarray(grids.meant(self._head, out).astype(np.int32))

    def ops(
        self,
        arithmetic: Arithmetic = FAST,
        tap: Callable[[str, IntArray], Any] = lambda site, codes: None,
    ) -> IntegerOps:
        """Return the interpreter that `run` gives the model's forward to."""
        return IntegerOps(self.constants, self.scales, arithmetic, tap, self.kernels)

    def check_codes(self, codes: IntArray) -> None:
        """Raise TypeError or ValueError unless `codes` are what `run` takes."""
        shape = (self.config.channels, *self.config.image)
        lo, hi = self.constants.input.clamp.tolist()
        if not np.issubdtype(codes.dtype, np.integer):
            raise TypeError(f"codes are integers, got {codes.dtype}; call the engine on pixels")
        if codes.ndim != 4 or codes.shape[1:] != shape or len(codes) == 0:
            raise ValueError(f"codes have shape [B, {shape}] with B above 0, got {codes.shape}")
        if codes.min() < lo or codes.max() > hi:
            raise ValueError(f"codes lie in [{lo}, {hi}]; there is one outside")

    def grid(self, site: str) -> Grid:
        """Return the grid that the codes of activation `site` stand for."""
        c, scale = self.constants[site], self.scales[site]
        return grids.form(c, scale) or affine(tuple(c.clamp.tolist()), scale)

    @cached_property
    def scale(self) -> float:
        """The label of the logits: `logits * scale` are their reals."""
        return self.scales[logits_site(self.config)]

    @cached_property
    def _head(self) -> grids.Form | None:
        """What the codes of the logits stand for."""
        return grids.form(self.constants[logits_site(self.config)])

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the codes, as hexadecimal: the specification and
        profile, the configuration, the scale by which pixels are coded, every integer constant."""
        config = json.dumps(describe_config(self.config), sort_keys=True)
        head = f"{SPECIFICATION} {self.kernels} {config} {self.scales['input']!r}"
        state = hashlib.sha256(head.encode())
        for name, tensor in sorted(self.constants.items()):
            state.update(f"{name} {tensor.dtype.newbyteorder('<').str} {tensor.shape}".encode())
            state.update(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
        return state.hexdigest()

    def __repr__(self) -> str:
        about = f"{self.recipe}, {self.kernels}, {len(self.proofs)} ranges proved"
        return f"IntegerModel({about}, {self.digest[:16]})"

    def save(self, path: str | Path) -> None:
        """Write the artefact: one safetensors file that `refvit.load` replays bit for bit."""
        save_engine(Path(path), self)


def compile(quantized: QuantizedModel, kernels: str = "refvit") -> IntegerModel:
    """Compile a quantized model to integers, proving every range on the way.

    `kernels` names the profile of softmax, GELU and LayerNorm: refvit, ivit, log2 or table. Every
    profile runs the grids of the recipe: linear ones, of activations with any zero point, log2,
    shift_log2, log_sqrt2 of up to 5 bits and twin for probabilities, twin for GELU, ptf with zero
    point 0 for additions; log2 makes powers of two of linear probabilities, and no others. Raises
    OverflowError naming the site, the range and the recipe change that would mend it; ValueError
    for an unknown profile, and for a grid that has no integer form, with the site and the cure.
    """
    if not isinstance(quantized, QuantizedModel):
        raise TypeError(f"compile takes what refvit.quantize gives; got {quantized!r:.60}")
    ops, model = CompileOps(quantized.qparams, kernels), quantized.model
    image = Shape((1, model.config.channels, *model.config.image))
    forward(ops, image, model.params, model.config)
    scales = {site: float(q.scale) for site, q in ops.qparams.items() if q.scale.ndim == 0}
    constants = Params(ops.constants)
    return IntegerModel(
        model.config,
        constants,
        scales,
        prove_engine(model.config, constants, ops.widths, kernels),
        model.preprocess,
        model.labels,
        quantized.recipe,
        kernels,
        ops.widths,
        {"source": Path(model.source).name, "numpy": np.__version__},
    )


def load_engine(path: Path) -> IntegerModel:
    """Return the engine written by `save`, proved anew; ValueError if it is not what was written,
    or not what an engine can be."""
    fields = read_engine(path)
    written = fields.pop("digest")
    try:
        proofs = prove_engine(
            fields["config"], fields["constants"], fields["widths"], fields["kernels"]
        )
    except (ValueError, OverflowError, AttributeError) as error:  # the last: a site lacks all
        raise ValueError(f"{str(path)!r} is not consistent: {error}") from None
    engine = IntegerModel(proofs=proofs, **fields)
    if engine.digest != written:
        found = f"its digest is {engine.digest[:12]}..., written as {written[:12]}..."
        raise ValueError(f"{str(path)!r} was changed: {found}")
    return engine
