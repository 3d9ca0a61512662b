"""The picture of a block says what the engine says: widths of codes, bits of sums."""

from collections import Counter

import pytest

import refvit
from refvit import plot
from refvit.integer import widest
from refvit.plot.dataflow import BOXES

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")


@pytest.fixture(scope="module")
def engine():
    model = refvit.load("nano_vit")
    images = model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])
    return refvit.compile(refvit.quantize(model, images, recipe="w8a8"))


@pytest.mark.parametrize("block", ["blocks.0", "blocks.2"])
def test_a_box_has_the_bits_that_were_proved_and_a_bar_as_long(engine, block):
    ax = plot.dataflow(engine, block)
    frames, bars = ax.patches[0 : 2 * len(BOXES) : 2], ax.patches[1 : 2 * len(BOXES) : 2]
    said = [text.get_text() for text in ax.texts if " of 32 " in text.get_text()]
    for site, frame, bar, text in zip(BOXES, frames, bars, said, strict=True):
        held = [p for p in engine.proofs if p.site == f"{block}.{site}" and p.width == 32]
        bits = widest(held).bits
        assert text == f"{bits} of 32 bits"
        assert bar.get_width() / frame.get_width() == pytest.approx(bits / 32)


def test_an_edge_has_the_width_of_its_codes(engine):
    ax = plot.dataflow(engine)
    kinds = Counter(text.get_text() for text in ax.texts if "int" in text.get_text())
    assert kinds == {"int8": 9, "uint8": 1, "int16": 7}
    assert engine.grid("embed").bits == engine.grid("blocks.0.add1").bits == 16
    assert {engine.grid(f"blocks.0.{site}").bits for site in ("norm1", "attn.q", "mlp.act")} == {8}
