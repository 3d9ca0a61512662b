"""Where labelled images come from: `shapes10` drawn on demand, IDX files, folders of images.

A source is asked for a part of its test images, or for the batch of a training step; both are pure
functions of their arguments, so a run can be resumed and an evaluation be split among workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refvit import data, idx

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Source(Protocol):
    """Images [n, H, W, C] uint8 and labels [n] int64 in 0..classes-1, whose names are `labels`."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def train(self, first: int, count: int, seed: int) -> tuple[Images, Labels]:
        """Return images `first` to `first + count` of the endless sequence of `seed`."""

    def test(self, first: int, count: int) -> tuple[Any, Labels]:
        """Return test images from `first` on, at most `count`; none behind the last."""


@dataclass(frozen=True)
class Shapes10:
    """`refvit.data.shapes10`: every training image is new, and there is no last test image."""

    difficulty: float = data.DIFFICULTY

    name = "shapes10"
    labels = data.LABELS

    def train(self, first: int, count: int, seed: int) -> tuple[Images, Labels]:
        return data.shapes10("train", count, seed, start=first, difficulty=self.difficulty)

    def test(self, first: int, count: int) -> tuple[Images, Labels]:
        return data.shapes10("test", count, start=first, difficulty=self.difficulty)


@dataclass(frozen=True)
class Idx:
    """IDX files in `folder`; an epoch shows every training image once, in an order of its own."""

    folder: Path
    labels: tuple[str, ...] = tuple(str(k) for k in range(10))

    @property
    def name(self) -> str:
        return f"idx:{self.folder}"

    @cached_property
    def _train(self) -> tuple[Images, Labels]:
        return idx.read_split(self.folder, "train", len(self.labels))

    @cached_property
    def _test(self) -> tuple[Images, Labels]:
        return idx.read_split(self.folder, "test", len(self.labels))

    def train(self, first: int, count: int, seed: int) -> tuple[Images, Labels]:
        images, labels = self._train
        place = np.arange(first, first + count)
        epochs, within = np.divmod(place, len(labels))
        chosen = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([seed, int(epoch)]).permutation(len(labels))
            chosen[epochs == epoch] = order[within[epochs == epoch]]
        return images[chosen], labels[chosen]

    def test(self, first: int, count: int) -> tuple[Images, Labels]:
        images, labels = self._test
        return images[first : first + count], labels[first : first + count]
