"""Augmentation of a training batch: flips, shifts, erasing and CutMix, from a seed.

A recipe names what is done, as in "flip shift=2 erase=8 cutmix=0.5"; each is drawn for every image
by itself, CutMix for the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
KNOWN = {
    "flip": "mirror left and right, every other image",
    "shift": "move by up to so many pixels, the border black",
    "erase": "grey out a square of up to so many pixels, every other image",
    "cutmix": "share of batches in which a rectangle is exchanged between images (Yun et al. 2019)",
}


def parse(text: str) -> dict[str, float]:
    """Return what an augmentation asks for; ValueError for an unknown name or number.

    >>> parse("flip shift=2")
    {'flip': 1.0, 'shift': 2.0}
    """
    asked: dict[str, float] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if name not in KNOWN:
            raise ValueError(f"no augmentation {name!r}; there are {', '.join(KNOWN)}")
        try:
            asked[name] = float(value or 1)
        except ValueError:
            raise ValueError(f"augmentation {word!r} wants a number, as in {name}=2") from None
        if not 0 <= asked[name] < 1e6:
            raise ValueError(f"augmentation {word!r} wants a number of at least 0")
    return asked


def augment(
    images: Images, labels: NDArray[np.int64], classes: int, asked: dict[str, float], seed: Any
) -> tuple[Images, NDArray[np.float32]]:
    """Return images [n, H, W, C] changed as `asked`, and targets [n, classes] that sum to 1."""
    rng = np.random.default_rng(seed)
    images, targets = images.copy(), np.eye(classes, dtype=np.float32)[labels]
    if "flip" in asked:
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if asked.get("shift"):
        images = shifted(images, int(asked["shift"]), rng)
    if asked.get("erase"):
        erase(images, int(asked["erase"]), rng)
    if rng.random() < asked.get("cutmix", 0.0):
        images, targets = cutmix(images, targets, rng)
    return images, targets


def shifted(images: Images, most: int, rng: np.random.Generator) -> Images:
    """Move each image by up to `most` pixels down and across; what comes in is black."""
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    moves = rng.integers(0, 2 * most + 1, (len(images), 2))
    rows, cols = np.arange(images.shape[1]), np.arange(images.shape[2])
    down, across = moves[:, 0, None] + rows, moves[:, 1, None] + cols
    picked: Images = padded[
        np.arange(len(images))[:, None, None], down[:, :, None], across[:, None]
    ]
    return picked


def erase(images: Images, most: int, rng: np.random.Generator) -> None:
    """Grey out, in place, a square of 2 to `most` pixels in every other image."""
    n, height, width = images.shape[:3]
    drawn = rng.integers(2, max(3, most + 1), n)
    side: NDArray[np.int64] = np.where(rng.random(n) < 0.5, drawn, 0)
    top: NDArray[np.int64] = rng.integers(0, height, size=(n,))
    left: NDArray[np.int64] = rng.integers(0, width, size=(n,))
    y, x = np.arange(height), np.arange(width)
    rows = (y >= top[:, None]) & (y < (top + side)[:, None])
    cols = (x >= left[:, None]) & (x < (left + side)[:, None])
    images[rows[:, :, None] & cols[:, None]] = 128


def cutmix(
    images: Images, targets: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Images, NDArray[np.float32]]:
    """Put a rectangle of the batch in reverse order into the batch; targets mix by area."""
    height, width = images.shape[1:3]
    side = np.sqrt(1 - rng.random())
    high, wide = max(1, int(height * side)), max(1, int(width * side))
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    box = (slice(None), slice(top, top + high), slice(left, left + wide))
    mixed, share = images.copy(), np.float32(high * wide / (height * width))
    mixed[box] = images[::-1][box]
    return mixed, targets * (1 - share) + targets[::-1] * share
