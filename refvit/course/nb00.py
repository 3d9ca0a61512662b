"""The exercises of notebook 00, the tour: accuracy, packed codes, and what has to be loaded."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]
Sizes = tuple[int, ...]
WEIGHTS, IMAGE, EMBEDDINGS = 113_376, 3 * 32 * 32, (65 + 1) * 48  # numbers of nano_vit


def top1_accuracy(logits: Array, labels: Array) -> Any:
    """Return the share of images, from 0 to 1, whose greatest logit is that of their label.

    logits [n, classes] are float64, labels [n] int64 from 0 on, n at least 1. Where the greatest
    logit occurs twice the first one counts, as np.argmax has it.
    """
    return np.mean(logits.argmax(axis=1) == labels)


def counted_share(logits: Array, labels: Array) -> float:
    """Return the same image by image."""
    right = [list(row).index(max(row)) == label for row, label in zip(logits, labels, strict=True)]
    return float(sum(right) / len(right))


def _last_greatest(logits: Array) -> Any:
    return logits.shape[1] - 1 - logits[:, ::-1].argmax(1)


def classified() -> st.SearchStrategy[tuple[Array, Array]]:
    """Draw logits [n, classes], small whole numbers with many ties, and labels [n]."""

    def of(sizes: tuple[int, int]) -> st.SearchStrategy[tuple[Array, Array]]:
        count, classes = sizes
        row = st.lists(st.integers(-2, 3), min_size=classes, max_size=classes)
        logits = st.lists(row, min_size=count, max_size=count)
        labels = st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)
        whole = np.int64
        return st.builds(lambda x, y: (np.array(x, float), np.array(y, whole)), logits, labels)

    return st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(of)


ACCURACY = Exercise(
    id="nb00.top1_accuracy",
    title="the share of images that are classified right",
    answer=top1_accuracy,
    truth=counted_share,
    judge=closely(1e-6),
    cases=classified(),
    returns="share",
    hints=(
        "logits.argmax(axis=1) is the class of the greatest logit of every image.",
        "Comparing with labels gives True and False; their mean is the share of True.",
    ),
    wrong=(
        Wrong("over_images", "the greatest logit over images, where it is over classes (axis=1)",
              lambda x, y: np.mean(x.argmax(0) == y)),
        Wrong("no_axis", "an argmax of the whole array, without axis=1",
              lambda x, y: np.mean(x.argmax() == y)),
        Wrong("the_value", "the greatest logit itself compared, where its index is the class",
              lambda x, y: np.mean(x.max(1) == y)),
        Wrong("count", "a number of images, where their share was asked",
              lambda x, y: int(np.sum(x.argmax(1) == y))),
        Wrong("percent", "percent, where a share from 0 to 1 was asked",
              lambda x, y: 100 * np.mean(x.argmax(1) == y)),
        Wrong("last_tie", "the last of several greatest logits, where the first one counts",
              lambda x, y: np.mean(_last_greatest(x) == y)),
        Wrong("any_tie", "a label taken as found if it ties with the greatest",
              lambda x, y: np.mean(x[np.arange(len(y)), y] == x.max(1))),
        Wrong("errors", "the share that is wrong", lambda x, y: np.mean(x.argmax(1) != y)),
    ),
)  # fmt: skip


def packed_size(counts: tuple[int, ...], bits: int) -> int:
    """Return the bytes of tensors whose codes have `bits` bits each (2 to 8), packed.

    counts has the number of codes of every tensor. Within a tensor the codes follow each other bit
    by bit; a tensor begins at a whole byte, so its last byte may be filled up.
    """
    return sum((count * bits + 7) // 8 for count in counts)


def written_size(counts: Sizes, bits: int) -> int:
    """Return the same from tensors that are packed."""
    from refvit.quant import pack

    return sum(len(pack(np.zeros(count, np.int8), bits)) for count in counts)


PACKED = Exercise(
    id="nb00.packed_size",
    title="the bytes of packed codes",
    answer=packed_size,
    truth=written_size,
    cases=st.tuples(st.lists(st.integers(0, 9), max_size=3).map(tuple), st.integers(2, 8)),
    edges=[((48 * 192, 10), 4), ((2304, 1, 480), 3)],
    returns="bytes",
    hints=(
        "n codes have n * bits bits; 8 bits are a byte, and a byte that was begun is whole.",
        "To round a division of whole numbers up: (a + 7) // 8.",
    ),
    wrong=(
        Wrong("floor", "a last byte that was begun and is not counted",
              lambda counts, bits: sum(n * bits // 8 for n in counts)),
        Wrong("no_gaps", "all tensors in one stream, where each begins at a whole byte",
              lambda counts, bits: (sum(counts) * bits + 7) // 8),
        Wrong("one_more", "a byte too many where the codes fill the last one exactly",
              lambda counts, bits: sum(n * bits // 8 + 1 for n in counts)),
        Wrong("not_split", "codes that do not run over the end of a byte; theirs follow bit by bit",
              lambda counts, bits: sum(-(-n // (8 // bits)) for n in counts)),
        Wrong("in_bits", "bits, where bytes were asked",
              lambda counts, bits: sum(n * bits for n in counts)),
        Wrong("unpacked", "a byte for every code: that is what packing saves",
              lambda counts, bits: sum(counts)),
        Wrong("real", "a division with a fraction: bytes are whole (// and not /)",
              lambda counts, bits: sum(n * bits / 8 for n in counts)),
    ),
)  # fmt: skip


def weights_in_file() -> int:
    """Predict how many bytes the weights take in the file of the W4A8 engine of nano_vit.

    The model has 113,376 weights in 26 matrices: patch embedding, q, k, v, proj, fc1 and fc2 of
    four blocks, and the head. W4 means codes of 4 bits, and they are packed.
    """
    codes = 113_376
    return codes * 4 // 8


@functools.cache
def found_in_file() -> int:
    """Write the file, read it and count."""
    from safetensors.numpy import load_file

    import refvit

    model: Any = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])
    engine = refvit.compile(refvit.quantize(model, pixels, "w4a8"))
    with tempfile.TemporaryDirectory() as folder:
        engine.save(path := Path(folder) / "engine.safetensors")
        held = load_file(path)
    weights = (name for name, t in model.params.items() if name.endswith(".weight") and t.ndim > 1)
    return sum(held[name].nbytes for name in weights)


FILE = Exercise(
    id="nb00.weights_in_file",
    title="predict the size of the weights in a file",
    answer=weights_in_file,
    truth=found_in_file,
    cases=st.just(()),
    returns="bytes",
    hints=("Two codes of 4 bits fit one byte.", "113,376 times 4 bits, in bytes."),
    wrong=(
        Wrong("four", "4 bytes a weight, as floats have; 4 bits are half a byte",
              lambda: WEIGHTS * 4),
        Wrong("eight", "a byte a weight: those are 8-bit codes", lambda: WEIGHTS),
        Wrong("kilo", "a number of kilobytes", lambda: 57),
        Wrong("quarter", "codes of 2 bits", lambda: WEIGHTS // 4),
    ),
)  # fmt: skip


def loaded_bytes(bits: int) -> int:
    """Return the bytes that edge32 loads from DRAM for one image, weights of `bits` (4, 8, 16).

    Every weight is loaded once, packed: 113,376 of them. The image has 3 x 32 x 32 codes of 8
    bits; the class token and 65 position embeddings have 48 codes of 16 bits each. Nothing else is
    loaded, as what the layers make stays on the chip.
    """
    weights = 113_376 * bits // 8
    image = 3 * 32 * 32
    embeddings = (1 + 65) * 48 * 2
    return weights + image + embeddings


@functools.cache
def simulated_bytes(bits: int) -> int:
    """Simulate it."""
    import refvit

    report = refvit.simulate("nano_vit", machine="edge32", recipe={"*.weight": bits})
    return int(report.totals["load_bytes"])


LOADED = Exercise(
    id="nb00.loaded_bytes",
    title="predict what the accelerator loads",
    answer=loaded_bytes,
    truth=simulated_bytes,
    cases=st.tuples(st.sampled_from([8, 4, 16])),
    returns="bytes",
    hints=(
        "Three parts: weights, image, embeddings. A code of 16 bits is two bytes.",
        "(1 + 65) * 48 numbers of two bytes are the embeddings; the image is 3 * 32 * 32 bytes.",
    ),
    wrong=(
        Wrong("weights_only", "the weights alone; the image and the embeddings come as well",
              lambda bits: WEIGHTS * bits // 8),
        Wrong("no_image", "no image: it has to come too",
              lambda bits: WEIGHTS * bits // 8 + 2 * EMBEDDINGS),
        Wrong("no_embeddings", "weights and image without class token and position embeddings",
              lambda bits: WEIGHTS * bits // 8 + IMAGE),
        Wrong("byte_embeddings", "embeddings of one byte a number; they have 16 bits",
              lambda bits: WEIGHTS * bits // 8 + IMAGE + EMBEDDINGS),
        Wrong("all_narrow", "image and embeddings in as many bits as the weights",
              lambda bits: (WEIGHTS + IMAGE + EMBEDDINGS) * bits // 8),
        Wrong("unpacked", "a byte for every weight, whatever its bits",
              lambda bits: WEIGHTS * max(1, bits // 8) + IMAGE + 2 * EMBEDDINGS),
        Wrong("in_bits", "bits, where bytes were asked",
              lambda bits: WEIGHTS * bits + 8 * IMAGE + 16 * EMBEDDINGS),
        Wrong("no_class_token", "65 vectors of embeddings: the class token is one more",
              lambda bits: WEIGHTS * bits // 8 + IMAGE + 2 * (EMBEDDINGS - 48)),
    ),
)  # fmt: skip

EXERCISES = (ACCURACY, PACKED, FILE, LOADED)
