"""The roofline: published figures to their last digit, and what fusing may and may not change."""

import json
import re
from math import prod
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import GPUS, MACHINES, roofline, workload
from refvit.accel.gpus import FORMATS
from refvit.accel.roof_chart import MEANS, kinds
from refvit.accel.roofline import fuse, layer_ops
from refvit.cli import main
from refvit.models import VARIANTS, workload_records

# At batch 1 and 224 x 224, nothing fused: millions of parameters, 1e9 MACs of the GEMMs, 1e9
# operations, MB moved at FP16, operations a byte at FP16 and INT8.
MODELS = {
    "deit_tiny": ("5.717", "1.254", "2.536", "57.5", "44.1", "88.2"),
    "deit_small": ("22.051", "4.599", "9.256", "135.9", "68.1", "136.2"),
    "vit_base": ("86.568", "17.564", "35.244", "356.5", "98.9", "197.7"),
    "vit_large": ("304.327", "61.555", "123.418", "1096.3", "112.6", "225.2"),
    "swin_tiny": ("28.288", "4.491"),
    "swin_small": ("49.606", "8.741"),
    "swin_base": ("87.768", "15.431"),
}
# Operations a byte of ViT-B's layers at FP16; at INT8 they are twice that.
LAYERS = {
    "blocks.0.attn.qkv": "146.8",
    "blocks.0.attn.proj": "130.2",
    "blocks.0.mlp.fc1": "149.2",
    "blocks.0.mlp.fc2": "149.2",
    "patch_embed": "129.8",
    "blocks.0.attn.scores": "38.8",
    "blocks.0.attn.context": "38.8",
    "blocks.0.mlp.act": "2.0",
    "blocks.0.norm1": "1.75",
    "blocks.0.attn.softmax": "1.25",
    "blocks.0.add1": "0.17",
    "head": "1.0",
}


def printed(value, like):
    """The value with as many decimals as another was printed with."""
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_have_the_published_figures_to_the_last_digit(name):
    config = VARIANTS[name]
    half, whole = (roofline(config, bits=bits) for bits in (16, 8))
    macs = sum(layer.macs for layer in workload(config))
    got = (
        sum(record.params for record in workload_records(config)) / 1e6,
        macs / 1e9,
        half.ops / 1e9,
        half.bytes / 1e6,
        half.intensity,
        whole.intensity,
    )
    for value, known in zip(got, MODELS[name], strict=False):
        assert printed(value, known) == known
    assert whole.intensity == pytest.approx(2 * half.intensity, rel=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_published_intensities_to_the_last_digit(name):
    half, whole = (
        {row.name: row for row in roofline(VARIANTS["vit_base"], bits=bits).rows}
        for bits in (16, 8)
    )
    assert printed(half[name].intensity, LAYERS[name]) == LAYERS[name]
    assert whole[name].intensity == 2 * half[name].intensity


@pytest.mark.parametrize("name", ["deit_tiny", "deit_small", "vit_base", "vit_large"])
def test_attention_products_are_alike_in_every_model_with_heads_of_64(name):
    rows = roofline(VARIANTS[name], bits=16).rows
    assert {f"{row.intensity:.1f}" for row in rows if row.op == "matmul"} == {"38.8"}


def test_operators_without_gemm_are_few_operations_and_many_bytes():
    """The published shares are 1.2 and 38 % (DeiT-T), 0.3 and 25 % (ViT-B), of operations and
    bytes. Three are met to the digit. DeiT-T's 1.2 is 1.14 of all operations and 1.16 of those of
    the GEMMs, so it was rounded from the latter: the one figure here that is not exact."""
    shares = {}
    for name in ("deit_tiny", "vit_base"):
        roof = roofline(VARIANTS[name], bits=16)
        rest = [row for row in roof.rows if row.op not in ("linear", "matmul")]
        ops, moved = sum(row.ops for row in rest), sum(row.bytes for row in rest)
        shares[name] = (ops / roof.ops, moved / roof.bytes, ops / (roof.ops - ops))
    assert f"{shares['deit_tiny'][1]:.0%}" == "38%"
    assert f"{shares['vit_base'][0]:.1%}" == "0.3%"
    assert f"{shares['vit_base'][1]:.0%}" == "25%"
    assert f"{shares['deit_tiny'][0]:.1%}" == "1.1%"
    assert f"{shares['deit_tiny'][2]:.1%}" == "1.2%"


@pytest.mark.parametrize("name", ["deit_tiny", "deit_small", "vit_base"])
def test_at_batch_1_memory_bounds_every_layer_of_int8_on_the_a100(name):
    """Batch and fusion take linear layers over the ridge, though not those of width 192: they can
    never have more than 2 x 192 x 768 / (192 + 768) = 307 operations a byte."""
    assert {row.bound for row in roofline(VARIANTS[name], "a100-40g", 8).rows} == {"memory"}
    fused = roofline(VARIANTS[name], "a100-40g", 8, batch=32, fused=True)
    crossed = "compute" in {row.bound for row in fused.rows}
    assert crossed == (name != "deit_tiny")


def test_every_recorded_row_is_met(shared):
    """Operations, bytes and weights of each operator; GELU counts 2 an element there, 8 here."""
    rows = json.loads((shared / "reference" / "roofline_vit_int8.json").read_text())
    ours = {"vit_b16": "vit_base"}
    names = {"qk_t": "scores", "pv": "context", "layernorm": "norm1", "gelu": "act"}
    names |= {"residual": "add1"}
    for record in rows:
        roof = roofline(VARIANTS[ours.get(record["model"], record["model"])], bits=8)
        wanted = names.get(record["op"], record["op"])
        row = next(r for r in roof.rows if r.name.rpartition(".")[2] == wanted)
        heads = record["count"] // 12 if record["op"] in ("qk_t", "pv") else 1
        assert row.bytes == heads * record["bytes"]
        assert row.weight_bytes == record["weight_bytes"]
        assert row.ops == heads * record["OPs"] * (4 if record["op"] == "gelu" else 1)
        if record["op"] != "gelu":
            assert f"{row.intensity:.2f}" == f"{record['AI']:.2f}"


anywhere = st.sampled_from([*MACHINES, *GPUS])
models = st.sampled_from(["nano_vit", "nano_deit", "nano_swin", "deit_tiny", "swin_tiny"])


@given(models, anywhere, st.sampled_from(list(FORMATS)), st.integers(1, 3), st.booleans())
def test_the_roof_is_the_lower_of_peak_and_bandwidth(name, machine, bits, batch, fused):
    roof = roofline(VARIANTS[name], machine, bits, batch, fused)
    for row in roof.rows:
        reach = min(roof.peak, row.intensity * (roof.peak / roof.ridge))
        assert row.attainable == pytest.approx(reach, rel=1e-12)
        assert row.attainable <= roof.peak
        assert (row.bound == "memory") == (row.attainable < roof.peak)
        assert row.gops * row.us == pytest.approx(row.ops / 1e3)
        assert 0 <= row.weight_bytes <= row.bytes
    assert roof.gops <= roof.attainable * roof.clock_mhz / 1e3 * (1 + 1e-12)
    assert 0 <= roof.memory_bound <= 1


@given(models, st.sampled_from(list(FORMATS)), st.integers(1, 3))
def test_fusing_keeps_every_operation_and_moves_fewer_bytes(name, bits, batch):
    apart, fused = (roofline(VARIANTS[name], "edge32", bits, batch, f) for f in (False, True))
    assert fused.ops == apart.ops
    assert fused.bytes < apart.bytes
    assert fused.us < apart.us
    weights = [sum(row.weight_bytes for row in roof.rows) for roof in (apart, fused)]
    assert weights[0] == weights[1] <= fused.bytes
    layers = [layer for layer in workload(VARIANTS[name], batch) if layer.name != "embed"]
    groups = fuse(layers)
    assert [layer for group in groups for layer in group] == layers
    assert sum(layer_ops(layer) for layer in layers) == apart.ops
    saved = sum(2 * layer.elements for group in groups for layer in group[:-1]) * bits / 8
    assert apart.bytes - fused.bytes == pytest.approx(saved)
    heads = [g for g in groups if g[0].name.endswith("scores")]
    assert all(g[-1].name.endswith("context") for g in heads)


def test_the_drawing_has_a_dot_for_every_kind_of_layer_and_the_ridge():
    for name, fused in (("vit_base", False), ("swin_tiny", True)):
        roof = roofline(name, "h100-sxm", 8, fused=fused)
        root = ElementTree.fromstring(roof.to_svg())
        width, height = (float(x) for x in root.get("viewBox").split()[2:])
        dots = [node for node in root.iter() if node.tag.endswith("circle")]
        merged = kinds(roof.rows)
        assert len(dots) == len(merged) + min(len(merged), 17) + len(MEANS)
        said = [dot.find("{*}title").text for dot in dots]
        assert all(any(name in text for text in said) for name, _, _ in merged)
        assert {*MEANS.values()} <= set(said)
        assert f"{name} on h100-sxm" in root.find("{*}title").text
        shown = [node.text for node in root.iter() if node.tag.endswith("}text")]
        numbers = " ".join(text for text in shown if re.fullmatch(r"[\d ]+", text))
        assert {str(n) for n in range(1, min(len(merged), 17) + 1)} <= set(numbers.split())
        assert sum(count for _, count, _ in merged) == len(roof.rows)
        for node in dots:
            assert 0 <= float(node.get("cx")) <= width
            assert 0 <= float(node.get("cy")) <= height
        for node in root.iter("{http://www.w3.org/2000/svg}text"):
            if node.get("text-anchor") == "end":  # 6.5 pixels a letter, and none cut off
                assert float(node.get("x")) >= 6.5 * len(node.text)
        assert f"ridge {roof.ridge:.1f}" in roof.to_svg()


def test_the_command_shows_layers_widths_and_writes_a_drawing(capsys, tmp_path):
    target = tmp_path / "roof.svg"
    argv = ["roofline", "deit_tiny", "--machine", "l40", "--bits", "16", "--picture", str(target)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    for word in ("ridge 209.5", "FP32", "INT4", "fused", "attn.qkv", "44.1"):
        assert word in out
    assert target.read_text().startswith("<svg")
    assert main([*argv[:2], "--every", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    roof = roofline("deit_tiny")
    assert json.loads(roof.to_json()).items() <= data.items()
    assert roof.table(layers=True).count("blocks.") == 12 * 12
    assert len(data["grid"]) == 2 * len(FORMATS) * len({*MACHINES, *GPUS})
    assert data["ops"] == sum(row["ops"] for row in data["rows"]) == 2_536_403_412


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--machine", "cray"], "no machine 'cray'"),
        (["--machine", "cray"], "and of GPUs a6000, a100-40g"),
        (["--bits", "5"], "give --bits 32, 16, 8 or 4"),
        (["--batch", "0"], "at least one image"),
        (["--picture", "/nowhere/x.svg"], "no directory"),
    ],
)
def test_a_mistake_is_one_line(capsys, argv, message):
    assert main(["roofline", "nano_vit", *argv]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_wide_codes_take_the_array_a_cycle_a_slice():
    peaks = {bits: roofline(VARIANTS["nano_vit"], "edge32", bits).peak for bits in FORMATS}
    assert peaks == {4: 2048, 8: 2048, 16: 512, 32: 128}


def test_a_gpu_lacks_other_widths():
    with pytest.raises(ValueError, match="v100 has FP32, FP16, INT8, INT4"):
        roofline(VARIANTS["nano_vit"], "v100", bits=6)
    rows = roofline(VARIANTS["nano_vit"], GPUS["v100"], bits=4).rows
    assert prod(row.ops for row in rows) > 0
