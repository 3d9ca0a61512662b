"""From an image to the pixels a model reads: resize, crop, normalise, with Pillow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.float32]
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's codes


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its images.

    `size` is (height, width) of the result. With `crop` None the image is squashed to that size;
    otherwise its short side is resized to `floor(size / crop)` and the middle is cut out.
    Pixels are then `(value / 255 - mean) / std` by channel.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: str = "bilinear"
    crop: float | None = None

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

    def _open(self, image: Any) -> Image.Image:
        mode = "L" if len(self.mean) == 1 else "RGB"
        if isinstance(image, Image.Image):
            return image.convert(mode)
        if isinstance(image, str | Path):
            return _read(Path(image)).convert(mode)
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"an image is a uint8 array [H, W(, C)]; got {array.dtype} {array.shape}"
            )
        if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
            raise ValueError(f"an image has 1, 3 or 4 channels last; got shape {array.shape}")
        return Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array).convert(mode)

    def _resize(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        code = Image.Resampling(FILTERS[self.resample])
        if self.crop is None:
            return image.resize((width, height), code)
        short = math.floor(min(height, width) / self.crop)
        scale = short / min(image.size)
        across, down = (short if s == min(image.size) else int(s * scale) for s in image.size)
        image = image.resize((across, down), code)
        left, top = round((across - width) / 2), round((down - height) / 2)
        return image.crop((left, top, left + width, top + height))


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
