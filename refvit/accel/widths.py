"""Widths: how many bits the codes of every site have, as a machine stores them.

A site is the name of a result, of the `input`, or of a parameter. Without a recipe all codes have
the width asked for, but the residual stream, and what feeds LayerNorm, have 16, as in the engine's
recipes. A recipe is a plain mapping from sites to bits, which may differ from layer to layer.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Integral

from refvit.accel.hardware import Machine
from refvit.accel.steps import Bits
from refvit.accel.workload import Layer

WIDTHS = (4, 8, 16)
STREAM_BITS = 16
STREAM_PARAMS = ("pos_embed", "cls_token", "dist_token")
STARTS = ("proj", "fc2", "patch_embed", "patch_norm", "norm_pre", "reduction", "fc_pool")


def writes_stream(layer: Layer) -> bool:
    """Say whether a layer's result belongs to the residual stream: sums, but not those of scores
    and their bias, and what is added to the stream or starts it."""
    if layer.op == "add":
        return not layer.name.endswith("biased")
    return layer.name.endswith(STARTS)


def sites(layers: Sequence[Layer]) -> list[str]:
    """Return every site whose width counts: the input, parameters, weights and results, in order.

    >>> from refvit.accel.workload import workload
    >>> from refvit.models import VARIANTS
    >>> sites(workload(VARIANTS["nano_vit"]))[:4]
    ['input', 'patch_embed.weight', 'patch_embed', 'cls_token']
    """
    found: dict[str, None] = {}
    for layer in layers:
        weights = [f"{site}.weight" for site, _ in layer.writes] if layer.weights else []
        found |= dict.fromkeys([*layer.reads, *weights, *(site for site, _ in layer.writes)])
    return list(found)


def site_widths(
    layers: Sequence[Layer], bits: int, recipe: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the bits of every site: those of `recipe` where it names the site, else `bits`, but 16
    for the residual stream: sums but those of scores with their bias, what starts the stream or is
    added to it (the embedding, `proj`, `fc2`), positions and tokens.

    Raises ValueError for a width that is not modelled, or a site that the model does not have.
    """
    if not isinstance(bits, Integral) or bits not in WIDTHS:
        raise ValueError(f"codes of {bits} bits are not modelled; there are {WIDTHS}")
    known = dict(_defaults(tuple(layers), bits))
    for site, width in (recipe or {}).items():
        _check(site, width, known)
        known[site] = int(width)
    return known


@lru_cache(maxsize=64)
def _defaults(layers: tuple[Layer, ...], bits: int) -> dict[str, int]:
    """Return the bits of every site without a recipe."""
    known = dict.fromkeys(sites(layers), bits)
    for layer in layers:
        if writes_stream(layer):
            known |= dict.fromkeys([site for site, _ in layer.writes], STREAM_BITS)
    return known | {site: STREAM_BITS for site in STREAM_PARAMS if site in known}


def _check(site: str, width: object, known: Mapping[str, int]) -> None:
    if site not in known:
        near = difflib.get_close_matches(site, known, n=1)
        hint = f", perhaps {near[0]}" if near else ""
        raise ValueError(f"recipe: no site {site!r}{hint}")
    whole = isinstance(width, Integral) and not isinstance(width, bool)
    if not whole or not 1 <= int(str(width)) <= 16:
        raise ValueError(f"recipe: codes of {site} have 1 to 16 bits; got {width!r}")


def stored_at(widths: Mapping[str, int], hw: Machine) -> Bits:
    """Return the function from a site to the width that the machine stores its codes at.

    Raises ValueError for codes wider than the machine has, with how to give it narrower ones.
    """
    most = max(hw.widths)
    wide = [site for site, bits in widths.items() if bits > most]
    if wide:
        _refuse_wide(widths, wide, most, hw)
    stored = {bits: hw.stored_bits(bits) for bits in set(widths.values())}
    return {site: stored[bits] for site, bits in widths.items()}.__getitem__


def _refuse_wide(widths: Mapping[str, int], wide: Sequence[str], most: int, hw: Machine) -> None:
    """Say which codes a machine does not store, and both cures."""
    try:
        hw.stored_bits(max(widths[site] for site in wide))
    except ValueError as error:
        why = "; the residual stream has 16 bits where no recipe says otherwise"
        stream = why if any(widths[site] == STREAM_BITS for site in wide) else ""
        cure = (
            f'give every site at most {most}, in Python recipe={{"*": {most}}}, on the command '
            f'line --recipe FILE of TOML with [sites] and "*" = {{ bits = {most} }}; or give the '
            "machine such widths"
        )
        few = f"{len(wide)} of {len(widths)} sites have more than {most}, as {wide[0]}"
        raise ValueError(f"{error}; {few}{stream}: {cure}") from None
