"""Where labelled images come from: `shapes10` drawn on demand, IDX files, folders of images.

A source is asked for a part of its test images, or for the batch of a training step; both are pure
functions of their arguments, so a run can be resumed and an evaluation be split among workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refvit import data, idx
from refvit.files import digest
from refvit.images import Preprocess

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Source(Protocol):
    """Images [n, H, W, C] uint8 and labels [n] int64 in 0..classes-1, whose names are `labels`.

    One with a `content`, a digest of all of them, is known by it; another by its name.
    """

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def train(self, first: int, count: int, seed: int) -> tuple[Any, Labels]:
        """Return images `first` to `first + count` of the endless sequence of `seed`."""

    def test(self, first: int, count: int) -> tuple[Any, Labels]:
        """Return test images from `first` on, at most `count`; none behind the last."""

    def calibration(self, count: int) -> Any:
        """Return images to calibrate on: not the tested ones, where there are others."""


def epoch_order(first: int, count: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return which of `size` images stand at places `first` to `first + count` of an endless run.

    Every epoch shows each image once, in an order of its own.
    """
    epochs, within = np.divmod(np.arange(first, first + count), size)
    chosen = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        order = np.random.default_rng([seed, int(epoch)]).permutation(size)
        chosen[epochs == epoch] = order[within[epochs == epoch]]
    return chosen


@lru_cache(maxsize=2)
def drawn_pool(size: int, seed: int, difficulty: float) -> tuple[Images, Labels]:
    """Return the first `size` training images of `seed`, drawn once."""
    return data.shapes10("train", size, seed, difficulty=difficulty)


@dataclass(frozen=True)
class Shapes10:
    """`refvit.data.shapes10`, without a last test image. Every training image is new, unless there
    are only `pool` of them, the first of the seed, shown in epochs."""

    difficulty: float = data.DIFFICULTY
    pool: int = 0

    name = "shapes10"
    labels = data.LABELS

    def train(self, first: int, count: int, seed: int) -> tuple[Images, Labels]:
        if self.pool:
            images, labels = drawn_pool(self.pool, seed, self.difficulty)
            chosen = epoch_order(first, count, self.pool, seed)
            return images[chosen], labels[chosen]
        return data.shapes10("train", count, seed, start=first, difficulty=self.difficulty)

    def test(self, first: int, count: int) -> tuple[Images, Labels]:
        return data.shapes10("test", count, start=first, difficulty=self.difficulty)

    def calibration(self, count: int) -> Images:
        return data.shapes10("calibration", count, difficulty=self.difficulty)[0]


@dataclass(frozen=True)
class Idx:
    """IDX files in `folder`, trained on in epochs: all of them, or the first `pool`."""

    folder: Path
    labels: tuple[str, ...] = tuple(str(k) for k in range(10))
    pool: int = 0

    @property
    def name(self) -> str:
        return f"idx:{self.folder}"

    @cached_property
    def _train(self) -> tuple[Images, Labels]:
        images, labels = idx.read_split(self.folder, "train", len(self.labels))
        if self.pool > len(labels):
            raise ValueError(f"{self.name} has {len(labels)} training images, {self.pool} wanted")
        return images[: self.pool or None], labels[: self.pool or None]

    @cached_property
    def _test(self) -> tuple[Images, Labels]:
        return idx.read_split(self.folder, "test", len(self.labels))

    @cached_property
    def content(self) -> str:
        """A digest of all images and labels, the same wherever the files lie, packed or not."""
        return digest(*(np.ascontiguousarray(x).tobytes() for x in (*self._train, *self._test)))

    def train(self, first: int, count: int, seed: int) -> tuple[Images, Labels]:
        images, labels = self._train
        chosen = epoch_order(first, count, len(labels), seed)
        return images[chosen], labels[chosen]

    def test(self, first: int, count: int) -> tuple[Images, Labels]:
        images, labels = self._test
        return images[first : first + count], labels[first : first + count]

    def calibration(self, count: int) -> Images:
        return self.train(0, count, 0)[0]

    def __reduce__(self) -> Any:
        """Send the folder, not the images, to another process."""
        return Idx, (self.folder, self.labels, self.pool)


def content_of(source: Source) -> str:
    """Return the digest of what a source holds; "" of one that is known by its name alone."""
    return str(getattr(source, "content", ""))


def class_folder(label: str) -> str:
    """Return the name of the folder of a class: its own, a dash for what separates folders.

    >>> class_folder("T-shirt/top")
    'T-shirt-top'
    """
    return label.replace("/", "-").replace("\\", "-")


def check_classes(labels: tuple[str, ...]) -> None:
    """Raise ValueError for two different classes that would share a folder."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(class_folder(label), label)
        if other != label:
            raise ValueError(
                f"classes {other!r} and {label!r} would share the folder {class_folder(label)!r}; "
                "rename one"
            )


@dataclass(frozen=True)
class Folder:
    """A folder with one folder of image files for each class, which `class_folder` names; the
    classes are `labels`."""

    folder: Path
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"folder:{self.folder}"

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        """Every file and its class, one class after the other in turn, so that a part is fair."""
        each = [
            [(p, k) for p in sorted((self.folder / class_folder(label)).iterdir()) if p.is_file()]
            for k, label in enumerate(self.labels)
        ]
        deepest = max(map(len, each), default=0)
        if not deepest:
            raise ValueError(f"{self.name} has no images in its folders")
        return [files[i] for i in range(deepest) for files in each if i < len(files)]

    def train(self, first: int, count: int, seed: int) -> tuple[list[Path], Labels]:
        chosen = [self._files[i % len(self._files)] for i in range(first, first + count)]
        return [path for path, _ in chosen], np.array([k for _, k in chosen], np.int64)

    def test(self, first: int, count: int) -> tuple[list[Path], Labels]:
        chosen = self._files[first : first + count]
        return [path for path, _ in chosen], np.array([k for _, k in chosen], np.int64)

    def calibration(self, count: int) -> list[Path]:
        return self.test(0, count)[0]


def parse_source(text: str, labels: tuple[str, ...]) -> Source:
    """Return the source that `text` names: shapes10, idx:DIR or folder:DIR, for a model's labels.

    Raises ValueError for another text, FileNotFoundError for a folder that is missing or has not
    the model's classes as folders.
    """
    kind, _, where = text.partition(":")
    if text == "shapes10":
        return Shapes10()
    if kind not in ("idx", "folder") or not where:
        raise ValueError(f"no data {text!r}; there are shapes10, idx:DIR and folder:DIR")
    if not Path(where).is_dir():
        raise FileNotFoundError(f"no directory {where!r}")
    if kind == "idx":
        return Idx(Path(where), labels)
    found = sorted(path.name for path in Path(where).iterdir() if path.is_dir())
    check_classes(labels)
    missing = [label for label in map(class_folder, labels) if label not in found]
    if missing:
        raise FileNotFoundError(
            f"{where!r} has no folder for class {missing[0]!r} of the model ({len(missing)} are "
            f"missing); it has {', '.join(found[:5]) or 'no folders'}"
        )
    return Folder(Path(where), labels)


def pixels_of(preprocess: Preprocess, images: Any) -> NDArray[np.float32]:
    """Return the pixels of a source's images: an array of the model's size, or files."""
    if isinstance(images, np.ndarray):
        return preprocess.normalise(images)
    return np.stack([preprocess(path) for path in images])
