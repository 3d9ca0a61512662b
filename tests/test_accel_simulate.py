"""Energy, a host beside the array, speed, and the command."""

import json

import pytest

import refvit
from refvit.accel import MACHINES, Layer, simulate, simulate_layers
from refvit.accel.energy import assumptions
from refvit.accel.notes import notes, shares
from refvit.accel.vector import HOST_CYCLES
from refvit.accel.widths import site_widths
from refvit.cli import main
from refvit.models import VARIANTS

EDGE, NANO = MACHINES["edge32"], VARIANTS["nano_vit"]


# --- energy ---


def test_what_is_assumed_is_said_and_what_is_known_is_not():
    assert assumptions([(8, 8)]) == ""
    report = refvit.simulate(NANO, recipe="w4a8")
    assert "8 x 4 bits is taken as 0.5" in "\n".join(notes(report.rows, report.machine))
    assert "assumption" not in "\n".join(notes(simulate(NANO).rows, EDGE))


# --- a host ---


def bert(length, heads=12, width=768, hidden=3072):
    """One encoder block of BERT-Base as layers."""
    n, d = length, width // heads

    def gemm(name, reads, M, K, N, count=1):
        writes, inputs = ((name, M * N * count),), [M * K * count]
        inputs += [] if count == 1 else [K * N * count]
        return Layer(name, "linear" if count == 1 else "matmul", "b", M * N * count, M * count,
                     tuple(inputs), M, K, N, count, count == 1, reads, writes)  # fmt: skip

    def other(name, op, reads, rows, cols):
        size = rows * cols
        return Layer(name, op, "b", size, rows, (size,) * len(reads), reads=reads,
                     writes=((name, size),))  # fmt: skip

    return [
        *(gemm(s, ("x",), n, width, width) for s in "qkv"),
        gemm("scores", ("q", "k"), n, d, n, heads),
        other("softmax", "softmax", ("scores",), n * heads, n),
        gemm("context", ("softmax", "v"), n, n, d, heads),
        gemm("proj", ("context",), n, width, width),
        other("add1", "add", ("x", "proj"), n, width),
        other("norm1", "layer_norm", ("add1",), n, width),
        gemm("fc1", ("norm1",), n, width, hidden),
        other("act", "gelu", ("fc1",), n, hidden),
        gemm("fc2", ("act",), n, hidden, width),
        other("add2", "add", ("norm1", "fc2"), n, width),
        other("norm2", "layer_norm", ("add2",), n, width),
    ]


# Kim et al. 2023, section 4: per cents of BERT-Base's time at 512 tokens, operators on the CPU.
KIM = {"requantize": 49, "softmax": 19, "add": 11, "gelu": 10, "layer_norm": 4}


def test_a_host_takes_almost_all_of_the_time_as_kim_et_al_found():
    layers = bert(512)
    rows = simulate_layers(layers, MACHINES["edge16"], site_widths(layers, 8), nonlinear="host")
    whole = sum(row.us for row in rows)
    assert sum(row.us for row in rows if row.unit == "host") / whole == pytest.approx(
        0.97, abs=0.02
    )
    for op, percent in KIM.items():
        found = 100 * sum(row.us for row in rows if row.op == op) / whole
        assert found == pytest.approx(percent * 97 / 93, abs=2.0)  # theirs leave 6 % unnamed
    assert {row.op for row in rows if row.unit == "host"} == set(KIM) == set(HOST_CYCLES) - {"mean"}


@pytest.mark.parametrize("machine", ["edge16", "gemmini16"])
def test_vit_base_with_a_host_spends_96_per_cent_outside_the_array(machine):
    report = simulate(VARIANTS["vit_base"], machine, nonlinear="host")
    outside = sum(row.us for row in report.rows if row.unit == "host") / report.totals["us"]
    assert 0.95 < outside < 0.99
    assert report.totals["macs"] == simulate(VARIANTS["vit_base"], machine).totals["macs"]
    assert f"host {outside:.0%}" in shares(report.rows)
    with pytest.raises(ValueError, match="no unit 'cpu' for what is not a product"):
        simulate(NANO, machine, nonlinear="cpu")


# --- the command ---


def test_the_command_says_what_it_assumes(capsys):
    assert main(["simulate", "nano_vit", "--recipe", "w4a8", "--machine", "gemmini16"]) == 0
    out = capsys.readouterr().out
    for said in (
        "Widths: 8 x 4 bits",
        "Machine: Genc",
        "DRAM:",
        "Energy in uJ, low - high",
        "leakage",
    ):
        assert said in out
    assert main(["simulate", "nano_vit", "--nonlinear", "host", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert any(row["unit"] == "host" for row in data["rows"])
    assert data["nonlinear"] == "host"
    assert main(["simulate", "nano_vit", "--no-residency", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["resident_bytes"] == 0
    assert main(["simulate", "nano_vit", "--recipe", "w4a8", "--bits", "8"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["simulate", "deit_tiny", "--schedule"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(row for row in simulate(VARIANTS["deit_tiny"]).rows if row.name.endswith("scores"))
    line = next(line for line in lines if line.startswith(row.name) and " x " in line)
    for said in (f"{row.tile_m} x {row.tile_k} x {row.tile_n}", "A B out", f"{row.stall_cycles:,}"):
        assert said in line
