"""Machines from anything that TOML can say: a machine that can be simulated, or one line."""

import json
from dataclasses import fields

from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import MACHINES, Machine, Passes, machine_of, read_machine, simulate
from refvit.accel.hardware import MOST_PASSES, _toml
from refvit.accel.possible import FUSABLE, LEAST_REAL, MOST, MOST_REAL
from refvit.accel.systolic import DATAFLOWS
from refvit.models import VARIANTS

NAMES = [each.name for each in fields(Machine) if each.name not in ("name", "passes")]
numbers = st.one_of(
    st.integers(), st.integers(1, 64), st.sampled_from([0, -1, 10**24, 2**63, 2**40, 65536]),
    st.floats(), st.sampled_from([1e-300, 5e-324, 1e308, 1e-3, 1e9]), st.booleans(),
)  # fmt: skip
words = st.one_of(st.sampled_from([*DATAFLOWS, *FUSABLE, *MACHINES, "accelergy45"]), st.text("ab"))
values = st.recursive(
    st.one_of(numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4),
                            st.dictionaries(words, inner, max_size=2)),
    max_leaves=6,
)  # fmt: skip
described = st.fixed_dictionaries(
    {"name": words},
    optional={
        **dict.fromkeys(NAMES, values),
        "fused": st.one_of(values, st.lists(st.sampled_from(FUSABLE), max_size=3)),
        "widths": st.one_of(values, st.lists(st.integers(1, 32), max_size=3).map(sorted)),
        "passes": st.one_of(
            values, st.dictionaries(st.sampled_from(list(Passes.__annotations__)), numbers)
        ),
        "base": st.one_of(values, st.sampled_from(sorted(MACHINES))),
    },
)


@given(described)
@example({"name": "x", "base": ["edge32"]})
@example({"name": "x", "base": {"a": 1}})
@example({"name": "x", "base": "edge32", "fused": [["a"]]})
@example({"name": "x", "base": "edge32", "fused": [{}]})
@example({"name": "x", "base": "edge32", "dataflow": ["ws"]})
@example({"name": "x", "base": "edge32", "energy": {}})
@example({"name": "x", "base": "edge32", "passes": {"add": [1]}})
def test_anything_is_a_machine_or_one_line(said):
    found = made(machine_of, said)
    if isinstance(found, str):
        assert "\n" not in found
        assert len(found) < 400
        return
    for name in NAMES:
        if name in said:
            value = said[name]
            assert getattr(found, name) == (tuple(value) if isinstance(value, list) else value)


def made(make, said):
    """The machine, or what is wrong with it."""
    try:
        return make(said)
    except ValueError as error:
        return str(error)


@given(described.filter(lambda said: said["name"]))
def test_a_file_says_the_same_as_the_mapping(tmp_path_factory, said):
    """Of what `_toml` can write: no tables but passes."""
    plain = {k: v for k, v in said.items() if k != "passes" and "{" not in repr(v)}
    path = tmp_path_factory.getbasetemp() / "m.toml"
    path.write_text("".join(f"{k} = {_value(v)}\n" for k, v in plain.items()), encoding="utf-8")
    wanted, found = made(machine_of, plain), made(read_machine, path)
    if isinstance(wanted, str):
        assert found == f"{str(path)!r}: {wanted}"
    else:
        assert found == wanted


def _value(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _toml(value)


limits = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from([1, most]) for name, most in MOST.items() if "bytes" not in name},
        "dram_bytes_per_cycle": st.sampled_from([LEAST_REAL, MOST_REAL]),
        "clock_mhz": st.sampled_from([LEAST_REAL, MOST_REAL]),
        "passes": st.fixed_dictionaries(
            {}, optional={k: st.just(MOST_PASSES) for k in Passes.__annotations__}
        ),
        "widths": st.sampled_from([[16], [32], [1, 16, 32]]),
        "fused": st.lists(st.sampled_from(FUSABLE), unique=True),
    },
)


@given(limits, st.sampled_from(["nano_vit", "nano_swin"]), st.sampled_from(["vector", "host"]))
def test_a_machine_at_its_limits_can_be_simulated_and_shown(said, name, unit):
    """Beside an SRAM that its array fits in; strict floats see to it that nothing overflows."""
    room = dict.fromkeys([name for name in MOST if "sram" in name], 2**36)
    report = simulate(VARIANTS[name], machine_of({"name": "x", "base": "edge32"} | room | said),
                      nonlinear=unit)  # fmt: skip
    totals = report.totals
    assert all(totals[key] > 0 for key in ("cycles", "us", "uj_low", "dram_bytes"))
    assert json.loads(report.to_json())["totals"]["cycles"] == totals["cycles"]
    assert report.table() + report.to_trace() + report.to_html()
