"""Recipes: a table of site patterns to specifications, read from the top, the first match deciding.

The presets follow the integer-only systems of the survey: per-channel weights, per-tensor
activations, unsigned attention weights, and a residual stream of 16 bits (I-ViT, table of
section 4), because the sums of many layers outgrow eight. A recipe is a TOML file as well.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from refvit.matching import one_of, perhaps
from refvit.quant.observers import OBSERVERS

QUANTIZERS = ("linear", "log2", "log_sqrt2", "shift_log2", "twin", "ptf")
SEARCHED = ("mse", "percentile", "entropy")  # observers that keep a histogram
WATCHED = {
    "log_sqrt2": SEARCHED,
    "shift_log2": SEARCHED,
    "twin": SEARCHED,
    "ptf": ("channels",),
}
WIDTHS = {"log2": (2, 4), "log_sqrt2": (2, 6), "shift_log2": (2, 4), "twin": (2, 8)}
DYNAMIC = ("", "tensor", "token")
KINDS = {"int": "a whole number", "bool": "true or false", "str": "a word"}


@dataclass(frozen=True)
class Spec:
    """How one value is quantized.

    `bits` of a code, `signed` or not; `axis=0` gives every output channel of a weight its own
    scale, `group` besides every so many inputs. `symmetric` grids have zero point 0; `restricted`
    ones lack the least code. `observer` finds the range in calibration, unless it is `dynamic`:
    of each "tensor" or "token" when it comes. `quantizer` names the grid: linear, log2, log_sqrt2,
    shift_log2, twin (the signed one is for GELU, the unsigned for softmax), or ptf for LayerNorm's
    input.

    Raises ValueError for a field of another type, a width that the quantizer has no codes for, and
    fields that contradict each other: groups are symmetric and min-max, a dynamic grid is linear
    and of the full range, and so is an asymmetric one.
    """

    bits: int
    signed: bool = True
    axis: int | None = None
    group: int = 0
    symmetric: bool = True
    restricted: bool = False
    observer: str = "minmax"
    quantizer: str = "linear"
    dynamic: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_kind(field.name, str(field.type), getattr(self, field.name))
        one_of(self.observer, OBSERVERS, "observer")
        one_of(self.quantizer, QUANTIZERS, "quantizer")
        if self.observer not in WATCHED.get(self.quantizer, OBSERVERS):
            known = " or ".join(WATCHED[self.quantizer])
            raise ValueError(f"the quantizer {self.quantizer!r} searches: its observer is {known}")
        if self.observer == "channels" and self.quantizer != "ptf":
            raise ValueError(f"the observer 'channels' is that of 'ptf'; got {self.quantizer!r}")
        if self.dynamic not in DYNAMIC:
            raise ValueError(f'dynamic is "tensor" or "token", or empty; got {self.dynamic!r}')
        least, most = WIDTHS.get(self.quantizer, (2, 16))
        if not least <= self.bits <= most:
            of = "" if self.quantizer == "linear" else f" to {self.quantizer!r}"
            raise ValueError(f"a recipe gives {least} to {most} bits{of}; got {self.bits!r}")
        self._check_together()

    def _check_together(self) -> None:
        """Raise ValueError for fields of which one would have to be ignored."""
        if self.axis not in (None, 0) or self.group < 0:
            raise ValueError(
                "axis is 0, the output channels of a weight, or none, and a group is of at least 1 "
                f"input, or 0 for none; got axis {self.axis} and group {self.group}"
            )
        plain = self.symmetric and self.signed and self.observer == "minmax"
        if self.group and not (plain and self.quantizer == "linear" and not self.dynamic):
            raise ValueError(
                "groups are symmetric, signed, linear and minmax; write group = 0 or those"
            )
        if self.restricted and (self.dynamic or not self.symmetric or self.quantizer != "linear"):
            raise ValueError(
                "only symmetric, linear, static grids lack their least code; write restricted = "
                "false"
            )
        if self.dynamic and (self.quantizer != "linear" or self.axis is not None):
            raise ValueError(
                'a dynamic grid is linear, of activations; write dynamic = "" of others'
            )


@dataclass(frozen=True)
class Recipe:
    """A name and a table `{site pattern: Spec}`; patterns are those of `fnmatch`.

    >>> w8a8 = PRESETS["w8a8"]
    >>> w8a8.spec("blocks.0.attn.q.weight").axis
    0
    >>> w8a8.spec("blocks.0.add1").bits, w8a8.spec("blocks.0.attn.softmax").signed
    (16, False)
    """

    name: str
    table: Mapping[str, Spec]

    def __post_init__(self) -> None:
        for pattern, spec in self.table.items():
            if not isinstance(spec, Spec):
                raise TypeError(f"a recipe maps patterns to Spec; {pattern!r} has {spec!r:.60}")

    def spec(self, site: str) -> Spec:
        """Return the first spec whose pattern matches `site`; ValueError if none does."""
        for pattern, spec in self.table.items():
            if fnmatchcase(site, pattern):
                return spec
        raise ValueError(f"recipe {self.name!r} has no line for site {site!r}; end it with '*'")

    def check(self, sites: Iterable[str]) -> None:
        """Raise ValueError if a pattern matches none of `sites`, unless it is one of the presets,
        which serve every family; or if it comes behind a line that matches all of them."""
        known, above = set(sites), ""
        for pattern in self.table:
            matched = {site for site in known if fnmatchcase(site, pattern)}
            if not matched and pattern not in COMMON:
                near = perhaps(pattern, sorted(known)) or perhaps(pattern, sorted(endings(known)))
                near = near or "; refvit info MODEL --all lists them"
                raise ValueError(f"recipe {self.name!r}: no site matches {pattern!r}{near}")
            if above:
                late = f"{pattern!r} comes too late: {above!r} above it decides every site"
                raise ValueError(f"recipe {self.name!r}: {late}")
            above = pattern if matched == known else ""

    def to_toml(self) -> str:
        """Return the recipe as TOML, which `read_recipe` reads: only what is not the default."""
        lines = [f"name = {json.dumps(self.name)}", "", "[sites]"]
        default = {field.name: field.default for field in fields(Spec)}
        for pattern, spec in self.table.items():
            said = {k: v for k, v in asdict(spec).items() if v != default[k] or k == "bits"}
            inner = ", ".join(f"{key} = {json.dumps(value)}" for key, value in said.items())
            lines.append(f"{json.dumps(pattern)} = {{ {inner} }}")
        return "\n".join(lines) + "\n"


def _check_kind(name: str, kind: str, value: Any) -> None:
    """Raise ValueError unless `value` is of the type that a field of Spec is annotated with."""
    allowed = {"int": int, "bool": bool, "str": str}[kind.removesuffix(" | None")]
    fits = isinstance(value, allowed) and (allowed is bool or not isinstance(value, bool))
    if not fits and not (value is None and kind.endswith("None")):
        what = KINDS[kind.removesuffix(" | None")]
        raise ValueError(f"{name} is {what}; got {value!r}")


def endings(sites: Iterable[str]) -> set[str]:
    """Return `*.` and the last one and two parts of every site that has more."""
    parts = [site.split(".") for site in sites]
    return {"*." + ".".join(p[-k:]) for p in parts for k in (1, 2) if len(p) > k}


STREAM = (
    "patch_embed",
    "cls_token",
    "pos_embed",
    "tokens",
    "embed",
    "*.attn.proj",
    "*.mlp.fc2",
    "*.add?",
    "norm_pre",
    "patch_norm",
    "*.merge.reduction",
    "fc_pool",
    "head",
    "head_dist",
    "heads",
    "heads_mean",
)
BEFORE = ("*.attn.scores", "*.attn.biased", "*.mlp.fc1")  # what softmax and GELU read
COMMON = frozenset((*STREAM, *BEFORE, "*.weight", "input", "*.softmax", "*"))


def uniform(name: str, weight_bits: int, activation_bits: int) -> Recipe:
    """Return weights and operands of products at one width each, the residual stream and logits
    at 16.

    As in the papers, `a4` says what a product reads. What softmax and GELU read, float in PTQ4ViT
    and RepQ-ViT, keeps 8 bits, as in FQ-ViT, and so does the image, as in RepQ-ViT and I-ViT.
    """
    table = {"*.weight": Spec(weight_bits, axis=0), "input": Spec(8)}
    table |= dict.fromkeys(STREAM, Spec(16))
    table |= dict.fromkeys(BEFORE, Spec(max(8, activation_bits)))
    table |= {"*.softmax": Spec(activation_bits, signed=False), "*": Spec(activation_bits)}
    return Recipe(name, table)


PRESETS = {
    f"w{w}a{a}": uniform(f"w{w}a{a}", w, a)
    for w, a in ((8, 8), (6, 6), (4, 8), (4, 4), (3, 8), (3, 3))
}


def recipe(name: str | Recipe | Path) -> Recipe:
    """Return the preset called `name`, or the recipe in a TOML file; a `Recipe` passes through.

    Raises ValueError that lists the presets, or says what is wrong with the file.
    """
    if isinstance(name, Recipe):
        return name
    if str(name) in PRESETS:
        return PRESETS[str(name)]
    if not Path(name).is_file():
        raise ValueError(
            f"no recipe {str(name)!r}; there are {', '.join(PRESETS)}, or TOML files that exist"
        )
    return read_recipe(Path(name))


def read_recipe(path: str | Path) -> Recipe:
    """Return the recipe in a TOML file: `[sites]` with a table for each pattern, and `name`, which
    is that of the file if none is given."""
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not TOML: {error}") from None
    sites: Any = about.pop("sites", None)
    name = about.pop("name", path.stem)
    if about or not isinstance(name, str) or not isinstance(sites, dict) or not sites:
        raise ValueError(f"{str(path)!r} needs a table [sites] and may have a name, nothing else")
    known = [field.name for field in fields(Spec)]
    for pattern, said in sites.items():
        wrong = [key for key in said if key not in known] if isinstance(said, dict) else [said]
        if wrong or "bits" not in said:
            which = f"{wrong[0]!r}{perhaps(str(wrong[0]), known)}" if wrong else "no bits"
            raise ValueError(
                f"{str(path)!r}: {pattern!r} says {which}; there are {', '.join(known)}"
            )
    return Recipe(name, {pattern: _spec(path, pattern, said) for pattern, said in sites.items()})


def _spec(path: Path, pattern: str, said: Mapping[str, Any]) -> Spec:
    """Return what a line of a file says; ValueError with its pattern for what no line can say."""
    try:
        return Spec(**said)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {pattern!r}: {error}") from None
