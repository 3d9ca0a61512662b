"""BERT's block as layers, and the share of the array that its products use while they last."""

from dataclasses import replace

import pytest

from refvit.accel import MACHINES, gemm_cycles
from refvit.accel.kim import BERT_HEADS, KIM, bert_block, bert_utilization

EDGE16 = MACHINES["edge16"]
FREE = replace(EDGE16, dram_bytes_per_cycle=1e9, vector_lanes=10**6)


@pytest.mark.parametrize("length", [row[0] for row in KIM])
def test_the_blocks_products_are_those_of_the_table(length):
    """1e9 operations of twelve blocks, to the last digit printed; of attention an addition less
    for each result."""
    row = next(row for row in KIM if row[0] == length)[1:]
    gemms = {layer.name: layer for layer in bert_block(length) if layer.macs}
    groups = (("q", "k", "v", "proj"), ("scores", "context"), ("fc1", "fc2"))
    for names, (printed, _) in zip(groups, row, strict=True):
        less = sum(gemms[n].elements for n in names) if "scores" in names else 0
        ops = 2 * sum(gemms[n].macs for n in names) - less
        assert 12 * ops / 1e9 == pytest.approx(printed, abs=0.0051)
    assert set(gemms) == {name for names in groups for name in names}


def test_every_operand_is_what_an_earlier_layer_wrote():
    written = {"x": 512 * 768}
    for layer in bert_block(512):
        for site, size in zip(layer.reads, layer.inputs, strict=True):
            assert written[site] == size
        written |= dict(layer.writes)
    assert {layer.count for layer in bert_block(512) if layer.op == "matmul"} == {BERT_HEADS}


@pytest.mark.parametrize("overlap", [False, True])
def test_no_share_is_above_the_closed_form_of_the_array_alone(overlap):
    hw = replace(FREE, overlap=overlap)
    gemms = [layer for layer in bert_block(512) if layer.macs]
    cycles = sum(
        gemm_cycles(x.M, x.K, x.N, hw.rows, hw.cols, hw.dataflow, overlap, count=x.count)
        for x in gemms
    )
    most = sum(x.macs for x in gemms) / cycles / (hw.rows * hw.cols)
    assert 0.6 * most < bert_utilization(hw) <= most


def test_the_cycles_in_which_the_array_waits_for_memory_count():
    """At a byte in 16 cycles the weights alone, which are on no chip before, take this long."""
    slow = replace(EDGE16, dram_bytes_per_cycle=1 / 16)
    weights = sum(x.K * x.N for x in bert_block(512) if x.weights)
    macs = sum(x.macs for x in bert_block(512))
    assert weights == 4 * 768 * 768 + 2 * 768 * 3072
    assert bert_utilization(slow) <= macs / 256 / (16 * weights) < 0.14


def test_what_is_not_a_product_is_not_in_the_share():
    slow = replace(EDGE16, passes=replace(EDGE16.passes, softmax=100, layer_norm=100, add=100))
    assert bert_utilization(slow) == bert_utilization(EDGE16)
    assert bert_utilization(replace(EDGE16, fused=())) < bert_utilization(EDGE16)


def test_layers_read_what_bert_has_them_read():
    """Post-norm: a block's sums are normalised, and the normalised is what the next sum adds."""
    reads = {layer.name: layer.reads for layer in bert_block(8)}
    assert reads["add1"] == ("x", "proj")
    assert reads["norm1"] == ("add1",)
    assert reads["fc1"] == ("norm1",)
    assert reads["add2"] == ("norm1", "fc2")
    assert reads["context"] == ("softmax", "v")
