"""`TrainRecipe`: everything a training run depends on, and the TOML files that say it."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from refvit.augment import parse
from refvit.data import DIFFICULTY, LABELS, SIZE
from refvit.losses import DISTILLATIONS
from refvit.matching import perhaps
from refvit.models import Config, variant

FOLDER = Path(__file__).parent / "recipes"
DATA = ("shapes10", "idx")


def say(about: str, default: Any) -> Any:
    """Return a field with a default and a description, which the command line shows."""
    return field(default=default, metadata={"help": about})


@dataclass(frozen=True)
class TrainRecipe:
    """Everything a run depends on; `images` is how many are seen in all, augmented or fresh.

    A batch is cut into `shards`, whose gradients are computed in a thread each and added in
    order. With as many cores and one BLAS thread (OPENBLAS_NUM_THREADS=1) that is the fastest
    way for a small model.
    """

    model: str = say("variant to train", "nano_vit")
    data: str = say("shapes10, or idx for the files in --data", "shapes10")
    images: int = say("images seen in all", 900_000)
    pool: int = say("different images among them, 0 for all there are", 0)
    batch: int = say("images a step", 128)
    shards: int = say("threads that share a batch", 2)
    rate: float = say("peak learning rate", 2e-3)
    warmup: int = say("steps of linear warm-up", 300)
    decay: float = say("weight decay of matrices", 0.03)
    smoothing: float = say("label smoothing", 0.1)
    clip: float = say("largest global gradient norm", 1.0)
    ema: float = say("decay of the running average of weights, 0 for none", 0.0)
    augment: str = say('"flip shift=2 erase=8 cutmix=0.5", or some of it', "")
    teacher: str = say("model that is learned from", "")
    distill: str = say("hard or soft, what of the teacher", "hard")
    alpha: float = say("share of the teacher's loss", 0.5)
    temperature: float = say("of soft distillation", 3.0)
    labels: str = say("class names, separated by |", "")
    difficulty: float = say("of shapes10, 0 to 1", DIFFICULTY)
    seed: int = say("of weights and images", 0)
    start: str = say("model to go on from, in place of random weights", "")
    damping: float = say("pull of weights to their codes at the end of qat", 0.0)
    qat: str = say("widths of quantization-aware training: w4a4 or a TOML file of sites", "")
    method: str = say("what finds the grids that qat starts from", "fitted")
    calibration: int = say("images that the method looks at", 256)

    def __post_init__(self) -> None:
        if self.data not in DATA or self.distill not in DISTILLATIONS:
            raise ValueError(
                f"data is one of {', '.join(DATA)} and distill one of {', '.join(DISTILLATIONS)}; "
                f"got {self.data!r} and {self.distill!r}"
            )
        if self.qat and not self.start:
            raise ValueError(f"qat {self.qat!r} quantizes a trained model; name it with --from")
        self._check_model()
        self._check_sizes()
        self._check_numbers()
        self._check_uses()
        parse(self.augment)

    def _check_uses(self) -> None:
        """Refuse what would change nothing."""
        for names, used, by in (
            (("model", "labels"), not self.start, "begins anew; what --from names has its own"),
            (("damping", "method", "calibration"), self.qat, "quantizes; name a recipe with --qat"),
            (("distill", "alpha", "temperature"), self.teacher or self.qat,
             "learns from a teacher; name one with --teacher, or a recipe with --qat"),
            (("temperature",), self.distill == "soft", "distils softly; say distill soft"),
            (("labels",), self.data == "idx", "reads IDX files; shapes10 has its own"),
            (("difficulty",), self.data == "shapes10", "draws shapes10; IDX files are as they are"),
        ):  # fmt: skip
            for name in names:
                value = getattr(self, name)
                if not used and value != getattr(TrainRecipe, name):
                    raise ValueError(f"{name} {value!r} is for training that {by}")

    def _check_sizes(self) -> None:
        if self.shards < 1 or self.batch % self.shards:
            raise ValueError(f"a batch of {self.batch} cannot be cut into {self.shards} shards")
        if self.batch < 1 or self.images < self.batch:
            raise ValueError(
                f"a run sees at least one batch of at least 1 image; got {self.images} images and "
                f"a batch of {self.batch}: more images or a smaller batch"
            )
        if self.pool < 0:
            raise ValueError(f"a pool is at least 1 image, or 0 for all there are; got {self.pool}")

    def _check_numbers(self) -> None:
        if not (0 < self.rate < math.inf and 0 < self.clip < math.inf):
            raise ValueError(f"rate and clip are above 0; got {self.rate} and {self.clip}")
        if not (0 <= self.decay < 1 and 0 <= self.ema < 1):
            raise ValueError(f"decay and ema lie in [0, 1); got {self.decay} and {self.ema}")
        if self.warmup < 0 or not 0 <= self.damping < math.inf or self.calibration < 1:
            raise ValueError(
                "warmup and damping are finite and not below 0, calibration is at least 1 image; "
                f"got {self.warmup}, {self.damping} and {self.calibration}"
            )
        shares = (self.difficulty, self.smoothing, self.alpha)
        if not all(0 <= share <= 1 for share in shares) or self.smoothing == 1 or self.seed < 0:
            raise ValueError(
                "difficulty and alpha lie in [0, 1], smoothing in [0, 1); seed is not below 0; got "
                f"{self.difficulty}, {self.alpha}, {self.smoothing} and {self.seed}"
            )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"a temperature is above 0; got {self.temperature}")

    def _check_model(self) -> None:
        if self.start:  # its configuration and its labels are in its file
            return
        config, names = variant(self.model), len(self.class_names)
        if config.classes != names:
            raise ValueError(f"{self.model!r} has {config.classes} classes, the data have {names}")
        if self.data == "shapes10" and (*config.image, config.channels) != (SIZE, SIZE, 3):
            raise ValueError(
                f"shapes10 has 10 classes of 32 x 32 images, {self.model!r} reads other; "
                "nano_vit is made for them"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.data == "shapes10":
            return LABELS
        return tuple(self.labels.split("|")) if self.labels else tuple(map(str, range(10)))

    @property
    def config(self) -> Config:
        return variant(self.model)

    @property
    def steps(self) -> int:
        return self.images // self.batch


def recipe_names() -> list[str]:
    """Return the names of the recipes that travel with refvit."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(where: str) -> dict[str, Any]:
    """Return the fields of a recipe: a name that travels with refvit, or a TOML file.

    Raises FileNotFoundError that lists the names, or ValueError for TOML that is none, or a field
    that a recipe does not have, with the nearest that it has.
    """
    path = FOLDER / f"{where}.toml" if where in recipe_names() else Path(where)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        names = ", ".join(recipe_names())
        raise FileNotFoundError(f"no recipe {where!r}: not a file; by name: {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not TOML: {error}") from None
    return checked(about, str(path))


def checked(about: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a recipe if each is one and of its type."""
    kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(TrainRecipe)}
    for name, value in about.items():
        if name not in kinds:
            near, has = perhaps(name, kinds), ", ".join(kinds)
            raise ValueError(f"{where!r}: a recipe has no {name!r}{near}; it has {has}")
        whole = kinds[name] is float and type(value) is int
        if type(value) is not kinds[name] and not whole:
            raise ValueError(f"{where!r}: {name} is a {kinds[name].__name__}, got {value!r}")
    return {name: kinds[name](value) for name, value in about.items()}
