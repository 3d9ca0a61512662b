"""The roofline at the widths a machine stores, the rule of fusion it has in common, its table."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import GPUS, MACHINES, Layer, roofline, simulate, workload
from refvit.accel.gpus import FORMATS
from refvit.accel.roof_table import aligned
from refvit.accel.roofline import FOLLOWS, fuse
from refvit.accel.steps import steps_of
from refvit.cli import main
from refvit.models import VARIANTS

EDGE, NANO = MACHINES["edge32"], VARIANTS["nano_vit"]
MODELS = ("nano_vit", "nano_deit", "nano_swin", "deit_tiny", "swin_tiny")
widths = st.lists(st.integers(1, 16), min_size=1, unique=True).map(sorted).map(tuple)


@given(widths, st.integers(1, 32), st.sampled_from([4, 8, 16]), st.booleans())
def test_codes_move_and_multiply_at_the_width_that_is_stored(stored, bits, multiplier, fused):
    hw = replace(EDGE, widths=stored, multiplier_bits=multiplier)
    roof, bare = roofline(NANO, hw, bits, fused=fused), roofline(NANO, EDGE, 16, fused=fused)
    wanted = min((w for w in stored if w >= bits), default=bits)
    assert roof.stored_bits == wanted
    assert roof.bytes == pytest.approx(bare.bytes * wanted / 16)
    assert roof.peak == 2 * 32 * 32 / hw.slices(wanted, wanted)
    assert roof.ops == bare.ops


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("machine", MACHINES)
def test_products_move_at_the_width_at_which_they_are_simulated(machine, bits):
    rows = [row for row in simulate(NANO, machine, bits).rows if row.macs]
    assert {row.b_bits for row in rows} == {roofline(NANO, machine, bits).stored_bits}


def test_eyeriss_moves_16_bit_codes_whatever_is_asked_by_hand():
    four, eight, whole = (roofline(NANO, "eyeriss-like", bits) for bits in (4, 8, 16))
    assert four.bytes == eight.bytes == whole.bytes == 2 * roofline(NANO, "edge32", 8).bytes
    assert roofline(NANO, "tpuv1", 4).bytes == roofline(NANO, "tpuv1", 8).bytes
    assert roofline(NANO, "v100", 4).bytes == roofline(NANO, "v100", 8).bytes / 2


LABELS = {
    ("edge32", 8): "8-bit",
    ("edge32", 32): "32-bit, not stored",
    ("eyeriss-like", 8): "8-bit as 16",
    ("tpuv1", 4): "4-bit as 8",
    ("tpuv1", 16): "16-bit",
    ("v100", 4): "INT4 at INT8",
    ("h100-sxm", 4): "INT4 at INT8",
    ("a100-40g", 4): "INT4",
    ("v100", 8): "INT8",
}


@pytest.mark.parametrize(("machine", "bits"), LABELS)
def test_a_width_that_a_machine_lacks_is_labelled(capsys, machine, bits):
    text = roofline(NANO, machine, bits).table()
    said = LABELS[machine, bits]
    assert f"TOP/s for {said}, memory" in text
    plain = " " not in said
    assert ("Widths: " in text) != plain
    assert main(["roofline", "nano_vit", "--machine", machine, "--bits", str(bits)]) == 0
    out = capsys.readouterr().out
    assert any(line.split("  ")[0] == machine and f" {said} " in line for line in out.splitlines())
    assert main(["roofline", "nano_vit", "--machine", machine, "--bits", str(bits), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["label"] == said
    assert data["stored_bits"] == roofline(NANO, machine, bits).stored_bits
    assert f"{machine}, {said}, batch 1" in roofline(NANO, machine, bits).to_svg()


def test_one_line_says_what_all_labels_of_a_table_mean(capsys):
    assert main(["roofline", "nano_vit", "--every"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (note,) = [line for line in lines if line.startswith("Widths: ")]
    for mark in ("'as'", "'not stored'", "'at INT8'"):
        assert mark in note
    assert main(["roofline", "nano_vit", "--machine", "l40"]) == 0
    assert "Widths: " not in capsys.readouterr().out


# --- columns ---


@given(st.lists(st.tuples(*[st.text("abc1,.", min_size=1, max_size=30)] * 4), min_size=1),
       st.integers(0, 3))  # fmt: skip
def test_columns_are_two_spaces_apart_at_least(rows, left):
    for row, line in zip(rows, aligned(rows, left), strict=True):
        assert [cell.strip() for cell in line.split("  ") if cell.strip()] == list(row)
    ends = {len(line) - len(row[-1]) for row, line in zip(rows, aligned(rows, left), strict=True)}
    assert len(ends) == 1


@pytest.mark.parametrize("batch", [1, 2**14])
@pytest.mark.parametrize("name", ["nano_vit", "swin_tiny"])
def test_columns_never_touch(capsys, name, batch):
    assert main(["roofline", name, "--every", "--batch", str(batch)]) == 0
    lines = capsys.readouterr().out.splitlines()
    body = [line for line in lines if line.split("  ")[0] in {*MACHINES, *GPUS}]
    assert len(body) == 2 * len(FORMATS) * len({*MACHINES, *GPUS})
    for line in body:
        assert len([cell for cell in line.split("  ") if cell]) == 10
    assert main(["roofline", name, "--batch", str(batch), "--layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    body = [line for line in lines if line.startswith(("blocks.", "stages.", "the model"))]
    assert len(body) > 40
    for line in body:
        assert len([cell for cell in line.split("  ") if cell]) == 9


# --- one rule of fusion ---


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_groups_are_the_steps_of_simulate_joined_behind_softmax(name, batch):
    layers = [layer for layer in workload(VARIANTS[name], batch) if layer.name != "embed"]
    endless = replace(EDGE, accumulator_bytes=2**40)
    joined: list[list[str]] = []
    for step in steps_of(layers, endless, FOLLOWS):
        names = [layer.name for layer in step.layers]
        if names[0].endswith("attn.context"):
            joined[-1] += names
        else:
            joined.append(names)
    assert [[layer.name for layer in group] for group in fuse(layers)] == joined
    assert any(len(group) >= 3 for group in joined)


def layer(name, op, reads, size=64, gemm=None, count=1):
    """A layer of `size` elements that reads sites of as many each."""
    M, K, N = gemm or (0, 0, 0)
    return Layer(name, op, name, size, 8, (size,) * len(reads), M, K, N, count, op == "linear",
                 reads, ((name, size),))  # fmt: skip


def names(groups):
    return ["+".join(x.name for x in group) for group in groups]


def test_a_layer_follows_the_site_it_reads_not_one_of_its_size():
    fc = layer("fc", "linear", ("x",), gemm=(8, 8, 8))
    other = layer("act", "gelu", ("x",))  # as many elements, but not what fc made
    assert names(fuse([fc, other])) == ["fc", "act"]
    assert names(fuse([fc, layer("act", "gelu", ("fc",))])) == ["fc+act"]


def test_what_a_second_layer_reads_is_moved():
    fc = layer("fc", "linear", ("x",), gemm=(8, 8, 8))
    act, again = layer("act", "gelu", ("fc",)), layer("add", "add", ("act", "fc"))
    assert names(fuse([fc, act, again])) == ["fc", "act", "add"]  # fc has two readers
    softmax = layer("softmax", "softmax", ("scores",))
    scores = layer("scores", "matmul", ("q", "k"), gemm=(8, 8, 8), count=2)
    context = layer("context", "matmul", ("softmax", "v"), gemm=(8, 8, 8), count=2)
    assert names(fuse([scores, softmax, context])) == ["scores+softmax+context"]
    fc = layer("fc", "linear", ("x",), gemm=(8, 8, 8))  # between them, and of other operands
    assert names(fuse([scores, softmax, fc, context])) == ["scores+softmax", "fc", "context"]
    spy = layer("mean", "mean", ("softmax",))
    assert names(fuse([scores, softmax, context, spy])) == ["scores+softmax", "context", "mean"]


def test_one_head_is_one_operator_too():
    single = replace(VARIANTS["nano_vit"], heads=1)
    groups = fuse([x for x in workload(single) if x.name != "embed"])
    assert sum(len(group) == 3 and group[0].name.endswith("scores") for group in groups) == 4
