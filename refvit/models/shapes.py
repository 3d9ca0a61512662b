"""The parameters of the layers that models share: names and shapes, and checks of sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refvit.ops.protocol import GELU_FORMS

Shapes = dict[str, tuple[int, ...]]
MAX_SIZE = 1 << 20  # of a configuration that is meant, not damaged


def linear_shapes(at: str, ins: int, outs: int, bias: bool = True, gain: bool = False) -> Shapes:
    """Return weight [outs, ins], and bias and gain [outs] where the layer has them."""
    shapes: Shapes = {f"{at}.weight": (outs, ins)}
    shapes |= {f"{at}.bias": (outs,)} if bias else {}
    return shapes | ({f"{at}.gain": (outs,)} if gain else {})


def norm_shapes(at: str, width: int) -> Shapes:
    """Return weight and bias [width] of a LayerNorm."""
    return {f"{at}.weight": (width,), f"{at}.bias": (width,)}


def block_shapes(
    at: str,
    width: int,
    inner: int,
    hidden: int,
    qkv_bias: bool,
    *,
    proj_bias: bool = True,
    layer_scale: bool = False,
    qk_norm: int = 0,
) -> Shapes:
    """Return the parameters of one encoder block whose path is `at`.

    `inner` is the width of q, k and v together of all heads; `qk_norm` the width of the norms of
    q and k, 0 for none.
    """
    shapes = norm_shapes(f"{at}.norm1", width)
    for name in "qkv":
        shapes |= linear_shapes(f"{at}.attn.{name}", width, inner, qkv_bias)
    for name in ("q_norm", "k_norm") if qk_norm else ():
        shapes |= norm_shapes(f"{at}.attn.{name}", qk_norm)
    shapes |= linear_shapes(f"{at}.attn.proj", inner, width, proj_bias, layer_scale)
    shapes |= norm_shapes(f"{at}.norm2", width)
    shapes |= linear_shapes(f"{at}.mlp.fc1", width, hidden, proj_bias)
    return shapes | linear_shapes(f"{at}.mlp.fc2", hidden, width, proj_bias, layer_scale)


def check_sizes(kind: str, sizes: Mapping[str, int | tuple[int, ...]], config: Any) -> None:
    """Raise ValueError unless every size, or every member of one, is a whole number from 1."""
    for name, size in sizes.items():
        for number in size if isinstance(size, tuple) else (size,):
            if isinstance(number, bool) or not isinstance(number, int):
                raise ValueError(
                    f"the sizes of a {kind} are whole numbers; {name} is {size!r} in {config}"
                )
            if number < 1:
                raise ValueError(
                    f"every size of a {kind} is at least 1; {name} is {size!r} in {config}"
                )
            if number > MAX_SIZE:
                raise ValueError(f"no size of a {kind} is above {MAX_SIZE:,}; {name} is {size!r}")


def check_form(eps: Any, gelu: Any, classes: Any) -> None:
    """Raise ValueError unless eps is a small float, the GELU known, and classes a count."""
    if not (isinstance(eps, float) and 0 <= eps < 1e6):
        raise ValueError(f"eps is a float of at least 0, got {eps!r}")
    if gelu not in GELU_FORMS:
        raise ValueError(f"the GELU is one of {', '.join(GELU_FORMS)}, got {gelu!r}")
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= MAX_SIZE:
        raise ValueError(f"classes are a whole number of at least 0 (features), got {classes!r}")
