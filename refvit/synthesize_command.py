"""`refvit synthesize`: images made by the model itself, as files to calibrate on.

    DIR/<class>/000.png    image 0, in the folder of the class it was made for; of more than 1,000
                           images 0000.png, so that names sort as they were made
    DIR/contact_sheet.png  all of them on one page, or the first 100
    DIR/card.json          of which model, with which settings, and what came out

`folder:DIR` names them to the other commands: the files are of a size and frame that the model's
own preprocessing takes back to the pixels that were made, to the bit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import refvit
from refvit.cells import model_digest
from refvit.command import float_model
from refvit.files import digest, new_directory, whole_directory
from refvit.model import Model, batched
from refvit.quant import prior_labels, synthesize
from refvit.quant.datafree import BATCH, STEPS, patch_entropy, valid
from refvit.sources import check_classes, class_folder

SHEET, CARD = "contact_sheet.png", "card.json"
SHOWN, ACROSS, LEAST, CAPTION = 100, 8, 96, 14  # of a sheet: images, in a row, and pixels
LONGEST = 200  # bytes of a folder's name that every file system takes


def add_synthesize(parser: argparse.ArgumentParser) -> None:
    """Add how many images, where to, for how long, and the seed."""
    parser.add_argument("--count", type=int, default=32, metavar="N", help="images (32)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new directory")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each batch ({STEPS})")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images at a time ({BATCH})")
    about = "what patch entropy counts beside the class, 0 for nothing (1)"
    parser.add_argument("--entropy", type=float, default=1.0, metavar="X", help=about)
    parser.add_argument("--seed", type=int, default=0, help="of noise, classes and moves (0)")


def run_synthesize(args: argparse.Namespace) -> tuple[str, Any]:
    """Make the images and write them; all are there in the end, or none."""
    model = float_model(args, "the gradients of a float model make images")
    labels = prior_labels(model, args.count, args.seed)
    check_folders(model.labels)
    new_directory(args.out)
    pixels = synthesize(model, args.count, args.seed, args.steps, args.batch, args.entropy)
    names = names_of(labels, model.labels)
    about = {
        "model": args.model, "digest": model_digest(model), "count": args.count,
        "seed": args.seed, "steps": args.steps, "batch": args.batch, "entropy_weight": args.entropy,
        "pixels": pixel_digest(pixels),
        "refvit": refvit.__version__,
        **measured(model, pixels, labels),
    }  # fmt: skip
    write(args.out, model, pixels, names, about)
    more = "" if about["as_meant"] > 0.5 else "; few are what was meant: more --steps make them so"
    said = (
        f"{args.out}: {args.count} images of {args.model}, {about['as_meant']:.0%} classified as "
        f"meant; patch entropy {about['entropy']:.2f}, of noise {about['entropy_of_noise']:.2f}"
        f"{more}\n"
        f"{args.out / SHEET} shows them; calibrate with --calibration folder:{args.out}"
    )
    return said, about | {"folder": str(args.out), "files": names}


def names_of(labels: NDArray[np.int64], classes: tuple[str, ...]) -> list[str]:
    """Return the file of each image, `<class>/<number>.png`: numbers of as many digits as the last
    of them has and at least 3, so that they sort.

    >>> names_of(np.array([1, 0]), ("a", "b/c"))
    ['b-c/000.png', 'a/001.png']
    """
    digits = max(3, len(str(len(labels) - 1)))
    return [f"{class_folder(classes[k])}/{i:0{digits}}.png" for i, k in enumerate(labels)]


def check_folders(labels: tuple[str, ...]) -> None:
    """Raise ValueError for a class whose name cannot be a folder's, or that would share one."""
    check_classes(labels)
    for label in map(class_folder, labels):
        if label in ("", ".", "..") or "\0" in label or len(label.encode()) > LONGEST:
            raise ValueError(f"every class has a folder of its name, which {label!r:.60} cannot be")


def measured(model: Model, pixels: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return what came out: the share of images that the model takes for what they were made for,
    their patch entropy, and that of noise no darker than black and no brighter than white. Images
    of a batch share the points of their densities, so an entropy is one of batches of this size."""
    noise = np.random.default_rng(0).standard_normal(pixels[:BATCH].shape, np.float32)
    parts = [patch_entropy(model, part) for part in batched(pixels, BATCH)]
    taken = np.concatenate([logits.argmax(1) for _, logits in parts])
    return {
        "as_meant": float(np.mean(taken == labels)),
        "entropy": float(np.average([e for e, _ in parts], weights=[len(y) for _, y in parts])),
        "entropy_of_noise": float(patch_entropy(model, valid(model.preprocess, noise))[0]),
    }


def pixel_digest(pixels: NDArray[Any]) -> str:
    """Return a digest of images [n, C, H, W], whatever their order."""
    return digest(*sorted(np.ascontiguousarray(image).tobytes() for image in pixels))


def write(
    out: Path, model: Model, pixels: NDArray[Any], names: list[str], about: dict[str, Any]
) -> None:
    """Write every image, a folder for each class even without one, the sheet and the card."""
    images = model.preprocess.images(pixels)
    with whole_directory(out) as folder:
        for label in model.labels:
            (folder / class_folder(label)).mkdir(exist_ok=True)  # one name, one folder
        for name, image in zip(names, images, strict=True):
            model.preprocess.framed(image).save(folder / name)
        captions = [Path(name).parent.name for name in names]
        contact_sheet(images[:SHOWN], captions[:SHOWN]).save(folder / SHEET)
        card = json.dumps(about | {"files": names}, indent=2) + "\n"
        (folder / CARD).write_text(card, encoding="utf-8")


def contact_sheet(images: NDArray[np.uint8], captions: list[str]) -> Image.Image:
    """Return one picture of images [n, H, W, C], eight in a row, small ones enlarged by a whole
    number of times, each above its caption."""
    height, width = images.shape[1:3]
    times = max(1, LEAST // max(height, width))
    cell = width * times + 2, height * times + CAPTION
    rows = -(-len(images) // ACROSS)
    sheet = Image.new("RGB", (cell[0] * min(len(images), ACROSS), cell[1] * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % ACROSS * cell[0], i // ACROSS * cell[1]
        large = np.repeat(np.repeat(image, times, axis=0), times, axis=1)
        sheet.paste(Image.fromarray(large.squeeze(2) if large.shape[2] == 1 else large), (x, y))
        plain = caption.encode("latin-1", "replace").decode("latin-1")
        draw.text((x + 2, y + height * times + 1), plain[: cell[0] // 6], fill="black")
    return sheet
