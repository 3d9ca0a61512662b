"""How a peer makes its images ready: preprocessor_config.json, or timm's pretrained_cfg."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from refvit.files import read_json
from refvit.images import FILTERS, Preprocess
from refvit.peers.fields import flag, pair, real, whole

FILE = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFICIAL_CROP = 224 / 256  # of the release of Swin: the short side to 256, then the middle 224
Size = tuple[int, int]


def hugging_face(path: Path, kind: str, image: Size, channels: int) -> Preprocess:
    """Read preprocessor_config.json in `path`; what it leaves out, or its absence, means the
    defaults of the processor it names, or of the processor of models of `kind`.

    Raises ValueError for sizes, filters or statistics that do not go with the model.
    """
    file = path / FILE
    about = defaults(kind, image, channels)
    if file.is_file():
        given = read_json(file)
        named = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
        processor = {"DeiT": "deit", "ViT": "vit"}.get(named.split("Image")[0].split("Feature")[0])
        about = defaults(processor or kind, image, channels) | {
            key: value for key, value in given.items() if value is not None
        }
    try:
        return _from_settings(about, image, channels)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{str(file)!r}: {error}") from None


def _from_settings(about: dict[str, Any], image: Size, channels: int) -> Preprocess:
    if flag(about, "do_pad", False):
        raise ValueError("do_pad is not supported")
    mean, std = _statistics(about, channels)
    resizes, crops = flag(about, "do_resize", True), flag(about, "do_center_crop", False)
    resize = _size(about["size"]) if resizes else 0
    made = _size(about.get("crop_size", list(image))) if crops else resize or image
    if not isinstance(made, tuple) or made != image:
        raise ValueError(f"it makes images of {made}, the model reads {image}")
    resample = whole(about, "resample", 2)
    if not 0 <= resample < len(FILTERS):
        raise ValueError(f"no Pillow filter has the code {resample}")
    centre = "floor" if resizes or crops else "exact"
    return Preprocess(image, mean, std, FILTERS[resample], resize, centre)


def defaults(kind: str, image: Size, channels: int) -> dict[str, Any]:
    """Return a processor's settings: ViT squashes, bilinear; DeiT squashes to 256 / 224 of the
    size, bicubic, and cuts the middle out; Swin squashes, bicubic, with ImageNet's statistics.
    """
    whole: dict[str, Any] = {"size": list(image), "resample": 2}
    if kind == "deit":
        wider = [round(side * 256 / 224) for side in image]
        whole = {"size": wider, "resample": 3, "do_center_crop": True, "crop_size": list(image)}
    if kind == "swin":
        whole["resample"] = 3
    mean, std = statistics(kind == "swin", channels)
    return whole | {"image_mean": mean, "image_std": std}


def statistics(imagenet: bool, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation by channel: ImageNet's, or one half each."""
    if imagenet and channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,) * channels, (0.5,) * channels


def _statistics(
    about: dict[str, Any], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of values / 255; another rescaling is folded into them."""
    unit = 255.0
    if flag(about, "do_rescale", True):
        unit *= real(about, "rescale_factor", 1 / 255)
    mean, std = (_by_channel(about, key, channels) for key in ("image_mean", "image_std"))
    if not flag(about, "do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    return tuple(float(m) / unit for m in mean), tuple(float(s) / unit for s in std)


def _by_channel(about: dict[str, Any], key: str, channels: int) -> list[float]:
    """A number for every channel: one for all, or a list."""
    value = about[key]
    values = [value] * channels if isinstance(value, int | float) else list(value)
    if len(values) != channels:
        raise ValueError(f"{key} is for {len(values)} channels, the model reads {channels}")
    return [float(v) for v in values]


def _size(size: Any) -> Size | int:
    """A size of Hugging Face: a number or {height, width} to squash to, or {shortest_edge}."""
    if isinstance(size, dict) and set(size) - {"height", "width", "shortest_edge"}:
        raise ValueError(f"size {size!r:.80} is not supported; height and width, or shortest_edge")
    if isinstance(size, dict) and "shortest_edge" in size:
        return pair(size["shortest_edge"], "shortest_edge")[0]
    return pair(size, "size")


def timm(about: dict[str, Any], naming: str, family: str, image: Size, channels: int) -> Preprocess:
    """Read `pretrained_cfg` as timm's `resolve_data_config` and `transforms_imagenet_eval` do.

    Without one, timm's defaults for a family: a crop of 0.9, bicubic, ImageNet's statistics for
    DeiT and Swin. Raises ValueError for a crop_mode that is not supported.
    """
    cfg = about.get("pretrained_cfg") or {}
    plain = family == "vit" and "deit" not in str(about.get("architecture", ""))
    mean, std = statistics(bool(cfg) or not plain, channels)
    usual = 0.875 if cfg else OFFICIAL_CROP if naming == "official" else 0.9
    share, mode = real(cfg, "crop_pct", usual), cfg.get("crop_mode") or "center"
    if mode not in ("center", "squash") or not share > 0:
        raise ValueError(f"crop_mode {mode!r} with crop_pct {share} is not supported")
    scaled = math.floor(image[0] / share), math.floor(image[1] / share)
    short = scaled[0] if mode == "center" and scaled[0] == scaled[1] else scaled
    return Preprocess(
        image,
        tuple(cfg.get("mean", mean)),
        tuple(cfg.get("std", std)),
        cfg.get("interpolation", "bicubic"),
        short,
        "round",
        fit="cover" if mode == "center" and short is scaled else "squash",
    )
