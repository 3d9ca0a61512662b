"""`shapes10`: ten shapes at 32x32 RGB, drawn on demand and the same to the byte everywhere.

Every image is a pure function of (split, seed, index, difficulty). Randomness is SplitMix64
(Steele, Lea and Flood 2014) used as a counter: draw k of image i hashes (seed, split, i, k), so
images may be made in any order and any number. The pictures use only + - * / sqrt, comparisons
and floor, which IEEE 754 rounds alike on every machine, and rotations by rational cosines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = tuple("disk square triangle star ring cross crescent hexagon heart L".split())
SIZE = 32
DIFFICULTY = 0.25
SPLITS = ("train", "test", "calibration")
CHUNK = 256  # images drawn at a time: bounds the memory

F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, the step of SplitMix64
PARAMETERS = 64  # draws reserved for the parameters of an image; its noise starts behind them


def shapes10(
    split: str = "test",
    count: int = 1000,
    seed: int = 0,
    *,
    start: int = 0,
    difficulty: float = DIFFICULTY,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [count, 32, 32, 3] uint8 and labels [count] int64 (indices into `LABELS`).

    Images `start` to `start + count` of the endless sequence of `split` and `seed`; a shorter
    request is a prefix of a longer one. `difficulty` in [0, 1] scales clutter, occlusion, noise
    and loss of contrast. Raises ValueError for an unknown split or a value out of range.

    >>> images, labels = shapes10(count=3)
    >>> images.shape, images.dtype, [LABELS[k] for k in labels]
    ((3, 32, 32, 3), dtype('uint8'), ['cross', 'cross', 'cross'])
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} of shapes10; there are {', '.join(SPLITS)}")
    if count < 0 or start < 0 or seed < 0:
        raise ValueError(f"count, start and seed are at least 0; got {count}, {start}, {seed}")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty lies in [0, 1]; got {difficulty}")
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    labels = np.empty(count, np.int64)
    for at in range(0, count, CHUNK):
        part = slice(at, min(at + CHUNK, count))
        streams = _streams(seed, SPLITS.index(split), start + at, start + part.stop)
        images[part], labels[part] = _draw(streams, np.float32(difficulty))
    return images, labels


def _mix(z: U64) -> U64:
    """The output function of SplitMix64: a bijection of 64-bit words that scatters every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _streams(seed: int, split: int, first: int, last: int) -> U64:
    """Return one 64-bit stream name per image."""
    root = _mix(np.array([seed * len(SPLITS) + split + 1], np.uint64) * GOLDEN)
    return _mix(root + np.arange(first, last, dtype=np.uint64) * GOLDEN)


def _uniforms(streams: U64, first: int, count: int) -> F32:
    """Return draws [n, count] in [0, 1): the top 24 bits of word `first + k` of each stream."""
    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64) * GOLDEN
    words = _mix(streams[:, None] + steps)
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _draw(streams: U64, hard: np.float32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    u = _uniforms(streams, 0, PARAMETERS)
    labels = np.floor(u[:, 0] * len(LABELS)).astype(np.int64)
    grid = ((np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1).astype(np.float32)
    x, y = np.broadcast_arrays(grid[None, None, :], grid[None, :, None])
    back, front = _colours(u[:, 1:7], hard)
    image = _background(u[:, 7:31], x, y, back, hard)
    inside = _coverage(u[:, 31:40], x, y, labels, hard)[..., None]
    wave = _stripes(u[:, 40:43], x, y)[..., None] * u[:, 43, None, None, None]
    image += inside * (front[:, None, None] * (1 - 0.35 * wave) - image)
    bar = _bar(u[:, 44:49], x, y, hard)[..., None]
    image += bar * (u[:, 49:52][:, None, None] - image)
    noise = _uniforms(streams, PARAMETERS, SIZE * SIZE * 3).reshape(image.shape)
    image += (noise - np.float32(0.5)) * (0.6 * hard)
    return np.floor(np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(
        np.uint8
    ), labels


def _colours(u: F32, hard: np.float32) -> tuple[F32, F32]:
    """Background and foreground [n, 3]: each channel of the latter at least a contrast away."""
    back, away = u[:, :3], u[:, 3:]
    contrast = 0.55 - 0.35 * hard
    up = back < 0.5
    reach = np.where(up, 1 - back, back) - contrast
    step = contrast + np.maximum(reach, 0) * away
    return back, np.where(up, back + step, back - step).astype(np.float32)


def _background(u: F32, x: F32, y: F32, colour: F32, hard: np.float32) -> F32:
    """A gradient and four soft discs of other colours: [n, 32, 32, 3]."""
    at = u[:, :, None, None]
    slope = (at[:, 0] - 0.5) * x + (at[:, 1] - 0.5) * y
    image = colour[:, None, None] + (slope * (0.8 * hard))[..., None]
    for k in range(4):
        cx, cy, r = 2 * at[:, 2 + 5 * k] - 1, 2 * at[:, 3 + 5 * k] - 1, 0.1 + 0.3 * at[:, 4 + 5 * k]
        away = np.sqrt(np.square(x - cx) + np.square(y - cy))
        soft = np.clip((r - away) * 8 + 0.5, 0, 1)
        shift = (u[:, [2 + 5 * k, 5 + 5 * k, 6 + 5 * k]] - 0.5) * (1.6 * hard)
        image += soft[..., None] * shift[:, None, None]
    return np.asarray(image, np.float32)


def _turn(u: F32) -> tuple[F32, F32]:
    """A rational point (cosine, sine) of the circle: (1 - t^2, 2t) / (1 + t^2), by quarters."""
    quarter = np.floor(u * 4)
    t = 2 * (u * 4 - quarter) - 1
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    flip = np.where(quarter >= 2, np.float32(-1), np.float32(1))
    swap = (quarter == 1) | (quarter == 3)
    return np.where(swap, s, c) * flip, np.where(swap, -c, s) * flip


def _coverage(u: F32, x: F32, y: F32, labels: NDArray[np.int64], hard: np.float32) -> F32:
    """How much of each pixel the shape covers, by signed distance: [n, 32, 32] in [0, 1]."""
    v = u[:, :, None, None]
    size = 0.92 - 0.30 * hard - 0.20 * v[:, 0]
    room = 0.95 - size
    cx, cy = (2 * v[:, 1] - 1) * room, (2 * v[:, 2] - 1) * room
    c, s = _turn(v[:, 3])
    stretch = 1 + 0.35 * (v[:, 4] - 0.5)
    px, py = (x - cx) / size, (y - cy) / size
    px, py = (c * px + s * py) * stretch, (c * py - s * px) / stretch
    cover = np.empty(px.shape, np.float32)
    for label, distance in enumerate(DISTANCES):
        mine = labels == label
        d = distance(px[mine], py[mine])
        cover[mine] = np.clip(np.float32(0.5) - d * size[mine] * np.float32(SIZE / 2), 0, 1)
    return cover


def _stripes(u: F32, x: F32, y: F32) -> F32:
    """A triangle wave along a random direction: [n, 32, 32] in [0, 1]."""
    c, s = _turn(u[:, 0, None, None])
    phase = (c * x + s * y) * (2 + 2 * u[:, 1, None, None]) + u[:, 2, None, None]
    wave: F32 = np.abs(2 * (phase - np.floor(phase)) - 1)
    return wave


def _bar(u: F32, x: F32, y: F32, hard: np.float32) -> F32:
    """A bar that hides part of some images: [n, 32, 32] in [0, 1]."""
    v = u[:, :, None, None]
    c, s = _turn(v[:, 0])
    thick = np.where(v[:, 1] < hard * 1.5, 0.06 + 0.16 * hard * v[:, 2], np.float32(-1))
    away = np.abs(c * x + s * y - (v[:, 3] - 0.5))
    cover: F32 = np.clip(0.5 + (thick - away) * (SIZE / 2), 0, 1).astype(np.float32)
    return cover


# Signed distances (or a like function, negative inside) of the ten shapes in a unit frame.
# The constants are cosines and sines of fifths, sixths and eighths of a turn.
Distance = Callable[[Any, Any], Any]


def _disk(x: Any, y: Any) -> Any:
    return np.sqrt(x * x + y * y) - 0.8


def _square(x: Any, y: Any) -> Any:
    return np.maximum(np.abs(x), np.abs(y)) - 0.72


def _triangle(x: Any, y: Any) -> Any:
    return np.maximum(0.8660254 * np.abs(x) + 0.5 * y, -y) - 0.5


def _star(x: Any, y: Any) -> Any:
    """Inside at least four of five half-planes: the second greatest of five distances."""
    first = np.full_like(x, -9)
    second = first.copy()
    normals = (
        (0, 1),
        (0.9510565, 0.309017),
        (0.5877853, -0.809017),
        (-0.5877853, -0.809017),
        (-0.9510565, 0.309017),
    )
    for nx, ny in normals:
        d = nx * x + ny * y - 0.36
        second = np.maximum(second, np.minimum(first, d))
        first = np.maximum(first, d)
    return second


def _ring(x: Any, y: Any) -> Any:
    return np.abs(np.sqrt(x * x + y * y) - 0.62) - 0.2


def _cross(x: Any, y: Any) -> Any:
    across, down = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(across, down) - 0.85, np.minimum(across, down) - 0.26)


def _crescent(x: Any, y: Any) -> Any:
    bite = x - 0.45
    return np.maximum(np.sqrt(x * x + y * y) - 0.85, 0.65 - np.sqrt(bite * bite + y * y))


def _hexagon(x: Any, y: Any) -> Any:
    return np.maximum(np.abs(y), 0.8660254 * np.abs(x) + 0.5 * np.abs(y)) - 0.72


def _heart(x: Any, y: Any) -> Any:
    side, up = np.abs(x), y + 0.1
    lobe = np.sqrt(np.square(side - 0.35) + np.square(up + 0.3)) - 0.42
    point = np.maximum(0.7071068 * (side + up) - 0.425, -0.9 * side - up - 0.1)
    return np.minimum(lobe, np.maximum(point, -up - 0.3))


def _ell(x: Any, y: Any) -> Any:
    tall = np.maximum(np.abs(x + 0.35) - 0.28, np.abs(y) - 0.85)
    foot = np.maximum(np.abs(x) - 0.63, np.abs(y - 0.57) - 0.28)
    return np.minimum(tall, foot)


DISTANCES: tuple[Distance, ...] = (
    _disk,
    _square,
    _triangle,
    _star,
    _ring,
    _cross,
    _crescent,
    _hexagon,
    _heart,
    _ell,
)
