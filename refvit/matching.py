"""Tensors matched to a configuration: all that it needs, nothing else, or one line that says why.

The line names the tensor as its file does, the shapes asked and found, the likely cause, and for a
missing tensor the nearest name there is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.models import Config, parameter_shapes
from refvit.params import Params

CAUSES = (  # what a wrong tensor usually means, by refvit's name of it
    (r"attn\.[qkv]\.bias$", "qkv_bias"),
    (r"attn\.[qkv]\.weight$", "num_attention_heads or head_dim, or hidden_size or embed_dim"),
    (r"^head|^head_dist", "the number of classes (num_labels, id2label, num_classes)"),
    (r"^pos_embed$", "image_size, patch_size, or the tokens before the patches"),
    (r"bias_table$", "window_size, or num_heads"),
    (r"^dist_token$", "a distilled DeiT read as a ViT, or the reverse"),
    (r"^(?:norm|fc_norm)\.", "global_pool and fc_norm: where the last norm stands"),
    (r"gain$", "LayerScale (init_values)"),
    (r"[qk]_norm\.", "q/k norm (qk_norm), or num_heads"),
    (r"^patch_embed|^patch_norm", "patch_size, num_channels, hidden_size or embed_dim"),
    (r"mlp\.fc[12]\.", "intermediate_size or mlp_ratio"),
    (r"^(?:blocks|stages)\.\d+", "the number of layers, or hidden_size or embed_dim"),
)


def matched(
    params: Mapping[str, NDArray[Any]],
    config: Config,
    where: str,
    origin: Mapping[str, str] | None = None,
) -> Params:
    """Return `params` as float32, in the model's order, if they are exactly what `config` needs.

    `origin` has the file's names of refvit's names. Raises ValueError that names the first tensor
    that is missing, unknown, of another shape, not of floats, or not finite.
    """
    names = origin or {}
    wanted = parameter_shapes(config)
    missing = [name for name in wanted if name not in params]
    extra = [name for name in params if name not in wanted]
    if missing or extra:
        raise ValueError(f"{where}: {_strangers(missing, extra, names, wanted)}")
    for name, shape in wanted.items():
        _check(params[name], shape, f"{where}: {names.get(name, name)}", _cause(name))
    return laid_out({name: params[name] for name in wanted})


def laid_out(params: Mapping[str, NDArray[Any]]) -> Params:
    """Return `params` as float32, weights [out, in] stored by columns: a linear multiplies by the
    transpose, which is then contiguous, and BLAS is up to 15 % faster for few rows."""
    return Params(
        {
            name: np.asarray(t, np.float32, order="F" if name.endswith(".weight") else "C")
            for name, t in params.items()
        }
    )


def _strangers(
    missing: Sequence[str],
    extra: Sequence[str],
    names: Mapping[str, str],
    wanted: Mapping[str, Any],
) -> str:
    """Say what is missing and what is too much, with the nearest name and the likely cause."""
    parts = []
    if missing:
        near = difflib.get_close_matches(missing[0], extra, n=1, cutoff=0.6)
        hint = f", the nearest there is {names.get(near[0], near[0])}" if near else ""
        parts.append(_list(missing, [_foreign(name, names) for name in missing], "missing") + hint)
    if extra:
        parts.append(_list(extra, [names.get(name, name) for name in extra], "unexpected"))
    return f"{'; '.join(parts)}; likely cause: {_why(missing, extra, wanted)}"


def perhaps(name: str, names: Iterable[str]) -> str:
    """Return ", perhaps " and the nearest of `names`, or "" if none is near.

    >>> perhaps("rates", ["rate", "decay"]), perhaps("x", ["rate"])
    (', perhaps rate', '')
    """
    near = difflib.get_close_matches(name, names, n=1)
    return f", perhaps {near[0]}" if near else ""


def one_of(name: Any, names: Collection[Any], kind: str) -> Any:
    """Return `name` if it is one of `names`; ValueError lists them.

    >>> one_of("gptq", ["adaround", "gptq"], "rounding")
    'gptq'
    """
    if name not in names:
        raise ValueError(f"no {kind} {name!r}; there are {', '.join(names)}")
    return name


def _list(which: Sequence[str], shown: Sequence[str], what: str) -> str:
    are = "1 tensor is" if len(which) == 1 else f"{len(which)} tensors are"
    return f"{are} {what}: {', '.join(shown[:3])}{', ...' if len(shown) > 3 else ''}"


def _foreign(name: str, names: Mapping[str, str]) -> str:
    """Return a missing tensor's name as its file would have it, from a like one of another layer;
    refvit's own where there is none."""
    number = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer
    shape = number.sub("#", name)
    other = next((ours for ours in names if number.sub("#", ours) == shape), None)
    if other is None:
        return name
    foreign = names[other]
    for old, new in zip(number.findall(other), number.findall(name), strict=True):
        foreign = re.sub(rf"(?<=\.){old}(?=\.)", f"#{new}", foreign, count=1)
    return foreign.replace("#", "")


def _why(missing: Sequence[str], extra: Sequence[str], wanted: Mapping[str, Any]) -> str:
    """Whole layers too few or too many; or a tensor without its counterpart."""
    layer = re.compile(r"(?:blocks|stages)\.\d+(?:\.blocks\.\d+)?")

    def layers(names: Sequence[str]) -> set[str]:
        return {found[0] for found in map(layer.match, names) if found}

    if layers(extra) - layers(list(wanted)) or len(layers(missing) - layers(extra)) > 1:
        return "the number of layers (num_hidden_layers, depth, depths)"
    if len(missing) == 1 and not extra and layer.match(missing[0]) and "bias" not in missing[0]:
        return "a file that is not whole"
    return _cause((missing or extra)[0])


def _cause(name: str) -> str:
    causes = (cause for pattern, cause in CAUSES if re.search(pattern, name))
    return next(causes, "a checkpoint of another model")


def _check(tensor: NDArray[Any], shape: tuple[int, ...], what: str, cause: str) -> None:
    if tensor.shape != shape:
        raise ValueError(
            f"{what} has shape {list(tensor.shape)}, wanted {list(shape)}; likely cause: {cause}"
        )
    if tensor.dtype not in (np.float32, np.float64, np.float16):
        raise ValueError(f"{what} has dtype {tensor.dtype}, wanted floats")
    with np.errstate(over="ignore", under="ignore"):
        if not np.isfinite(tensor.astype(np.float32, copy=False)).all():
            raise ValueError(f"{what} is not finite in float32: it holds NaN, infinity or more")


KINDS = {
    "Model": "a float model, as refvit.load gives",
    "QuantizedModel": "a simulated model, as refvit.quantize gives",
}


def expects(found: Any, kind: type, who: str) -> None:
    """Raise TypeError, in one line, unless `found` is of the class `kind` that `who` works on."""
    if not isinstance(found, kind):
        wanted = KINDS[kind.__name__]
        raise TypeError(f"{who} takes {wanted}; got {type(found).__name__}")
