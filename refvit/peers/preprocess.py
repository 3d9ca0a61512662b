"""How a peer makes its images ready: preprocessor_config.json, or timm's pretrained_cfg."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from refvit.files import read_json
from refvit.images import FILTERS, Preprocess
from refvit.peers.hugging_face import pair

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
        about = defaults("deit" if named.startswith("DeiT") else kind, image, channels) | {
            key: value for key, value in given.items() if value is not None
        }
    try:
        return _from_settings(about, image, channels, file)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(file)!r}: {error}") from None


def _from_settings(about: dict[str, Any], image: Size, channels: int, file: Path) -> Preprocess:
    mean, std = _statistics(about, channels)
    resize = _size(about["size"]) if about.get("do_resize", True) else image
    crop = _size(about.get("crop_size", list(image))) if about.get("do_center_crop") else resize
    if not isinstance(crop, tuple) or crop != image:
        raise ValueError(f"it makes images of {crop}, the model reads {image}")
    resample = int(about["resample"])
    if not 0 <= resample < len(FILTERS):
        raise ValueError(f"no Pillow filter has the code {resample}")
    return Preprocess(image, mean, std, FILTERS[resample], resize)


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
    if about.get("do_rescale", True):
        unit *= float(about.get("rescale_factor", 1 / 255))
    mean, std = list(about["image_mean"]), list(about["image_std"])
    if not about.get("do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean and std are for {len(mean)} channels, not {channels}")
    return tuple(float(m) / unit for m in mean), tuple(float(s) / unit for s in std)


def _size(size: Any) -> Size | int:
    """A size of Hugging Face: a number or {height, width} to squash to, or {shortest_edge}."""
    if isinstance(size, dict) and "shortest_edge" in size:
        return pair(size["shortest_edge"])[0]
    return pair(size)


def timm(about: dict[str, Any], naming: str, family: str, image: Size, channels: int) -> Preprocess:
    """Read `pretrained_cfg`; what it leaves out means timm's defaults: the short side to
    size / 0.9, bicubic, and the middle cut out; ImageNet's statistics for DeiT and Swin."""
    cfg = about.get("pretrained_cfg", {})
    plain = family == "vit" and "deit" not in str(about.get("architecture", ""))
    mean, std = statistics(not plain, channels)
    share = float(cfg.get("crop_pct") or (OFFICIAL_CROP if naming == "official" else 0.9))
    return Preprocess(
        image,
        tuple(cfg.get("mean", mean)),
        tuple(cfg.get("std", std)),
        cfg.get("interpolation", "bicubic"),
        math.floor(min(image) / share),
        "round",
    )
