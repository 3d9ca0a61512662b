"""From an image to the pixels a model reads: resize, crop, normalise, with Pillow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.float32]
CENTRES = ("floor", "round", "exact")
FITS = ("squash", "cover")
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's codes


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its images.

    `size` is (height, width) of the result. An image is first resized: to `resize` if that is
    (height, width), squashed or, with `fit="cover"`, with its shape kept so that it covers both
    sides; so that its short side is `resize` if that is one number; not at all if that is 0; or to
    `size` if it is None. Then its middle of `size` is cut out, from an offset that is floored (as
    Hugging Face does), rounded half to even (`centre="round"`, as torchvision and timm do), or not
    at all (`centre="exact"`: it has to have that size). Pixels are `(value / 255 - mean) / std` by
    channel. Raises ValueError for an unknown filter, centre or fit.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: str = "bilinear"
    resize: tuple[int, int] | int | None = None
    centre: str = "floor"
    fit: str = "squash"

    def __post_init__(self) -> None:
        if self.resample not in FILTERS or self.centre not in CENTRES or self.fit not in FITS:
            raise ValueError(
                f"resample is one of {', '.join(FILTERS)}, centre one of {', '.join(CENTRES)} and "
                f"fit one of {', '.join(FITS)}; got {self.resample!r}, {self.centre!r} and "
                f"{self.fit!r}"
            )
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(f"mean and std go by channel, std > 0; got {self.mean}, {self.std}")

    def at(self, size: tuple[int, int]) -> Preprocess:
        """Return the same for images of another size: what is cut off keeps its share."""
        if isinstance(self.resize, int):
            short = self.resize * min(size) // min(self.size)
            return replace(self, size=size, resize=short)
        if self.resize is None:
            return replace(self, size=size)
        down, across = (r * n // s for r, n, s in zip(self.resize, size, self.size, strict=True))
        return replace(self, size=size, resize=(down, across))

    def __call__(self, image: str | Path | Image.Image | NDArray[np.uint8]) -> Pixels:
        """Return [C, H, W] float32 pixels of a path, a PIL image or a uint8 array [H, W(, C)].

        Raises FileNotFoundError, or ValueError where the file or array is not an image.
        """
        pixels: Pixels = self.normalise(np.asarray(self._resize(self._open(image)))[None])[0]
        return pixels

    def normalise(self, images: NDArray[np.uint8]) -> Pixels:
        """Return [n, C, H, W] float32 from uint8 images [n, H, W, C] that already have `size`."""
        images = images[..., None] if images.ndim == 3 else images
        wanted = (*self.size, len(self.mean))
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise ValueError(
                f"wanted uint8 images [n, {wanted}], got {images.dtype} {images.shape}"
            )
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels: Pixels = (images.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def images(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Return the uint8 images [n, H, W, C] that are nearest to pixels [n, C, H, W]: what
        `normalise` undoes exactly."""
        mean, std = (np.array(part)[:, None, None] for part in (self.mean, self.std))
        levels = np.rint((pixels * std + mean) * 255).clip(0, 255)
        return np.ascontiguousarray(levels.astype(np.uint8).transpose(0, 2, 3, 1))

    def framed(self, image: NDArray[np.uint8]) -> Image.Image:
        """Return uint8 [H, W, C] of `size` in the frame that this preprocessing cuts off, if any,
        its border repeated: called on that, it gives the pixels of `image`, resampling none."""
        wanted = self.resize if isinstance(self.resize, tuple) else (self.resize or 0,) * 2
        spare = [max(0, w - have) for w, have in zip(wanted, self.size, strict=True)]
        edges = [(self._offset(s), s - self._offset(s)) for s in spare]
        array = np.pad(image, (*edges, (0, 0)), mode="edge")
        return Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array)

    def _open(self, image: Any) -> Image.Image:
        mode = "L" if len(self.mean) == 1 else "RGB"
        if isinstance(image, str | Path):
            image = _read(Path(image))
        if isinstance(image, Image.Image):
            if image.mode[0] in "IF":
                raise ValueError(
                    f"an image has 8 bits a channel, this one is of Pillow's mode "
                    f"{image.mode!r}; convert it first"
                )
            return image.convert(mode)
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"an image is a uint8 array [H, W(, C)]; got {array.dtype} {array.shape}"
            )
        if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
            raise ValueError(f"an image has 1, 3 or 4 channels last; got shape {array.shape}")
        return Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array).convert(mode)

    def _resize(self, image: Image.Image) -> Image.Image:
        code = Image.Resampling(FILTERS.index(self.resample))
        if self.resize != 0:
            image = image.resize(self._resized(*image.size), code)
        height, width = self.size
        spare = image.width - width, image.height - height
        if self.centre == "exact" and spare != (0, 0):
            found = f"this one has {image.height} x {image.width}"
            raise ValueError(f"an image of {height} x {width} is wanted, not resized; {found}")
        half = [self._offset(s) for s in spare]
        return image.crop((half[0], half[1], half[0] + width, half[1] + height))

    def _offset(self, spare: int) -> int:
        """Where the middle starts; where an image is too small, how far before it."""
        if self.centre == "round":
            return round(spare / 2) if spare > 0 else -(-spare // 2)
        return spare // 2

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) to which an image of that size is resized."""
        if isinstance(self.resize, int):
            short = min(width, height)
            return int(self.resize * width / short), int(self.resize * height / short)
        down, across = self.resize or self.size
        if self.fit == "cover":
            ratio = min(height / down, width / across)
            return round(width / ratio), round(height / ratio)
        return across, down


def _read(path: Path) -> Image.Image:
    """Open and decode an image file; the error names the file and what is wrong with it."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"no image file {str(path)!r}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{str(path)!r} is not an image Pillow can read: {error}") from None
