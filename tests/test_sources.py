"""Labelled images: IDX files that are checked, and augmentation that keeps its promises."""

import gzip
import json
import shutil
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refvit
from refvit.augment import augment, cutmix, erase, parse, shifted
from refvit.cells import identity, restored
from refvit.idx import find, read_idx, read_split
from refvit.routes import Arrival
from refvit.sources import Idx, Shapes10, content_of


def idx_bytes(array, magic=None):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) if magic is None else magic
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Forty images of 6 x 5 in IDX files, the training ones packed."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 6, 5), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        for array, what in ((images, "images-idx3"), (labels, "labels-idx1")):
            raw = idx_bytes(array)
            if name == "train":
                (tmp_path / f"{name}-{what}-ubyte.gz").write_bytes(gzip.compress(raw))
            else:
                (tmp_path / f"{name}-{what}-ubyte").write_bytes(raw)
    return tmp_path


def test_packed_and_plain_files_are_read(folder):
    for split, count in (("train", 30), ("test", 10)):
        images, labels = read_split(folder, split, 10)
        assert (images.shape, images.dtype) == ((count, 6, 5, 1), np.uint8)
        assert (labels.shape, labels.dtype) == ((count,), np.int64)


def test_the_peers_copies_are_read(shared):
    for name, axes, size in (("mnist", 3, 10_000), ("fashion-mnist", 3, 10_000)):
        path = shared / "data" / name / "t10k-images-idx3-ubyte.gz"
        assert read_idx(path, axes).shape == (size, 28, 28)
    images, labels = read_split(shared / "data" / "fashion-mnist", "train", 10)
    assert np.bincount(labels).tolist() == [6000] * 10
    assert images.mean() / 255 == pytest.approx(0.28604, abs=1e-5)


def replaced(folder, name, content):
    (folder / name).write_bytes(content)


BAD = [
    (b"", "is not an IDX file: its magic number is "),
    (b"\x89PNG0000", "is not an IDX file: its magic number is 89504e47"),
    (idx_bytes(np.zeros(10, np.uint8), b"\0\0\x0d\x01"), "wanted unsigned bytes of 1 axes"),
    (idx_bytes(np.zeros((2, 5), np.uint8)), r"\(magic 00000801\), found magic 00000802"),
    (idx_bytes(np.zeros(10, np.uint8))[:-1], r"its sizes \[10\] say 10 bytes, it has 9"),
    (b"\0\0\x08\x01\0", r"its sizes \[\] say"),
    (idx_bytes(np.zeros(9, np.uint8)), "has 9 labels for 10 images"),
    (idx_bytes(np.full(10, 10, np.uint8)), "label 10 at 0, but there are 10 classes"),
    (b"\x1f\x8bgarbage", "is not a whole gzip file"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_named_with_what_is_wrong(folder, content, message):
    replaced(folder, "t10k-labels-idx1-ubyte", content)
    with pytest.raises(ValueError, match=message) as error:
        read_split(folder, "test", 10)
    assert "t10k-labels-idx1-ubyte" in str(error.value)


def test_a_missing_file_says_which_names_were_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no t10k-images-idx3-ubyte or .*\.gz in"):
        read_split(tmp_path, "test", 10)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(folder):
    source = Idx(folder)
    images, _ = source.train(0, 60, seed=3)
    whole, _ = read_split(folder, "train", 10)

    def sorted_bytes(x):
        return sorted(image.tobytes() for image in x)

    assert sorted_bytes(images[:30]) == sorted_bytes(images[30:]) == sorted_bytes(whole)
    assert not np.array_equal(images[:30], images[30:])
    part, _ = source.train(25, 10, seed=3)
    assert np.array_equal(part, images[25:35]), "by index, across the end of an epoch"
    assert len(source.test(8, 5)[0]) == 2


def table_of(folder, kept, **other):
    """Write an empty table of the files in `folder` to `kept`, or look for theirs in it."""
    about = identity(refvit.load("nano_vit"), Idx(folder), ["w8a8"]) | other
    if not kept.exists():
        kept.write_text(json.dumps(about | {"cells": []}))
    return restored(kept, Arrival, about)


def test_a_table_is_of_images_wherever_their_files_lie_packed_or_not(folder, tmp_path):
    kept, moved = tmp_path / "table.json", shutil.copytree(folder, tmp_path / "moved")
    packed = find(moved, "train", "images")
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    table_of(folder, kept)
    assert table_of(moved, kept) == ({}, {"recipes": json.loads(kept.read_text())["recipes"]})


@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte"])
def test_a_table_is_of_no_other_images_in_files_of_that_name(folder, file, tmp_path):
    kept, other = tmp_path / "table.json", shutil.copytree(folder, tmp_path / "other")
    table_of(folder, kept)
    for place in (folder, other):
        raw = (place / file).read_bytes()
        plain = bytearray(gzip.decompress(raw) if file.endswith(".gz") else raw)
        plain[-1] ^= 1
        replaced(place, file, plain)
    with pytest.raises(ValueError, match=r"holds results of when .* had other images; name a new"):
        table_of(folder, kept)
    with pytest.raises(ValueError, match=r"holds results of source idx:.*, asked are idx:.*other"):
        table_of(other, kept)


def test_a_table_without_a_digest_of_its_images_is_known_by_their_name(folder, tmp_path):
    kept, moved = tmp_path / "table.json", shutil.copytree(folder, tmp_path / "moved")
    table_of(folder, kept, content="")
    assert table_of(folder, kept)[0] == {}
    with pytest.raises(ValueError, match="holds results of source"):
        table_of(moved, kept)
    assert content_of(Shapes10()) == ""


def test_shapes_are_a_source():
    images, labels = Shapes10().train(5, 3, 0)
    assert (images.shape, labels.shape) == ((3, 32, 32, 3), (3,))


def test_a_pool_is_shown_in_epochs(folder):
    """The first images of the seed, each once an epoch; of files, the first of them."""
    source = Shapes10(pool=6)
    images, labels = source.train(0, 12, seed=2)
    pool, names = Shapes10().train(0, 6, seed=2)
    for part in (slice(0, 6), slice(6, 12)):
        order = [np.flatnonzero((pool == image).all((1, 2, 3))).item() for image in images[part]]
        assert sorted(order) == list(range(6))
        assert (labels[part] == names[order]).all()
    assert np.array_equal(source.train(4, 5, seed=2)[0], images[4:9])
    assert len({i.tobytes() for i in Idx(folder, pool=7).train(0, 70, 0)[0]}) == 7
    with pytest.raises(ValueError, match="has 30 training images, 31 wanted"):
        Idx(folder, pool=31).train(0, 1, 0)


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (8, 9, 7, 2), np.uint8)
LABELS = np.arange(8) % 4


@given(st.integers(0, 9), st.sampled_from(["", "flip", "shift=2", "erase=4", "flip cutmix=1"]))
def test_augmentation_is_a_function_of_its_seed_and_targets_are_shares(seed, text):
    before = IMAGES.copy()
    images, targets = augment(IMAGES, LABELS, 4, parse(text), [seed, 1])
    again, _ = augment(IMAGES, LABELS, 4, parse(text), [seed, 1])
    assert np.array_equal(images, again)
    assert np.array_equal(IMAGES, before), "the images given are not touched"
    assert (images.shape, images.dtype) == (IMAGES.shape, np.uint8)
    assert np.allclose(targets.sum(1), 1)
    if "cutmix" not in text:
        assert np.array_equal(targets.argmax(1), LABELS)
    if text == "":
        assert np.array_equal(images, IMAGES)


def test_a_flip_is_a_mirror_or_nothing():
    images, _ = augment(IMAGES, LABELS, 4, {"flip": 1.0}, 5)
    same = [np.array_equal(a, b) for a, b in zip(images, IMAGES, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(images, IMAGES, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_a_shift_moves_by_at_most_so_much_and_brings_in_black():
    moved = shifted(IMAGES, 2, np.random.default_rng(1))
    for image, one in zip(IMAGES, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        places = [padded[y : y + 9, x : x + 7] for y in range(5) for x in range(5)]
        assert any(np.array_equal(one, place) for place in places)


def test_what_is_erased_is_one_grey_square():
    images = np.zeros((64, 12, 12, 1), np.uint8)
    erase(images, 5, np.random.default_rng(0))
    touched = 0
    for image in images[..., 0]:
        y, x = np.nonzero(image)
        if len(y):
            touched += 1
            assert (image[y.min() : y.max() + 1, x.min() : x.max() + 1] == 128).all()
            assert max(np.ptp(y), np.ptp(x)) < 5
    assert 16 < touched < 48


def test_cutmix_mixes_targets_by_area():
    black, white = np.zeros((1, 10, 10, 1), np.uint8), np.full((1, 10, 10, 1), 255, np.uint8)
    images, targets = np.concatenate([black, white]), np.eye(2, dtype=np.float32)
    for seed in range(20):
        mixed, shares = cutmix(images, targets, np.random.default_rng(seed))
        assert shares[0, 1] == pytest.approx((mixed[0] == 255).mean())
        assert shares[1, 0] == pytest.approx((mixed[1] == 0).mean())
