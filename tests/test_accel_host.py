"""A host beside the array: its time is of its own clock, whatever that of the array is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, machine_of, read_machine, simulate
from refvit.accel.notes import shares
from refvit.accel.operators import host_cost
from refvit.accel.vector import HOST_CYCLES
from refvit.accel.workload import Layer
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
NANO = VARIANTS["nano_vit"]
README = Path(__file__).parents[1] / "README.md"
mhz = st.floats(1.0, 1e4)


def host_us(hw):
    return {r.name: r.us for r in simulate(NANO, hw, nonlinear="host").rows if r.unit == "host"}


@given(st.sampled_from(sorted(HOST_CYCLES)), st.integers(1, 10**7), mhz, mhz)
def test_a_host_is_busy_for_cycles_of_its_own_clock(op, elements, clock, host):
    hw = replace(EDGE, clock_mhz=clock, host_mhz=host, dram_bytes_per_cycle=1e9)
    layer = Layer("x", op, "x", elements, 1, (elements,))
    busy = hw.us(host_cost(layer, hw, 0.0, 0.0).timing.compute)
    exactly = HOST_CYCLES[op] * elements / host
    assert exactly - 1e-6 * exactly <= busy <= exactly * (1 + 1e-6) + hw.us(1)  # whole cycles


def test_a_faster_array_leaves_the_host_as_slow_as_it_was():
    plain, faster = host_us(EDGE), host_us(replace(EDGE, clock_mhz=2 * EDGE.clock_mhz))
    cycle = 1 / EDGE.clock_mhz  # rows are whole cycles
    assert faster == pytest.approx(plain, abs=cycle)
    quick = host_us(replace(EDGE, host_mhz=2 * EDGE.host_mhz))
    assert quick == pytest.approx({name: us / 2 for name, us in plain.items()}, abs=cycle)


def test_the_host_of_kim_et_al_runs_at_a_gigahertz_and_presets_have_it():
    assert {hw.host_mhz for hw in MACHINES.values()} == {1000.0}


def test_the_clock_of_the_host_travels_in_toml(tmp_path):
    path = tmp_path / "slow.toml"
    path.write_text('base = "tpuv1"\nhost_mhz = 250\n')
    slow = read_machine(path)
    assert slow.host_mhz == 250
    path.write_text(slow.to_toml())
    assert read_machine(path) == slow
    for clock in (0, -1.0, float("inf"), "fast", True):
        with pytest.raises(ValueError, match=r"host_mhz is .*; it has to be above 0 and finite"):
            machine_of({"name": "x", "base": "edge32", "host_mhz": clock})


def test_the_readme_says_the_share_that_is_printed():
    report = simulate(VARIANTS["vit_base"], "edge16", nonlinear="host")
    said = re.search(r"then has (\d+) % of the time of ViT-B/16 on `edge16`", README.read_text())
    assert f"host {said[1]}%" in shares(report.rows)
