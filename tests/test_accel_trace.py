"""The tracks of a trace: units at work, side by side, never twice at once, as long as rows say."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit.accel import MACHINES, simulate
from refvit.accel.possible import FUSABLE
from refvit.accel.tracks import SPANS, TRACKS, evenly, in_steps, spans
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
machines = st.builds(
    lambda rows, cols, dataflow, overlap, clock, speed, lanes, fused: replace(
        EDGE, rows=rows, cols=cols, dataflow=dataflow, overlap=overlap, clock_mhz=clock,
        dram_bytes_per_cycle=speed, vector_lanes=lanes, fused=tuple(fused),
    ),
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["os", "ws", "is"]), st.booleans(),
    st.floats(1e-3, 3000.0), st.floats(0.1, 256.0), st.integers(1, 64),
    st.lists(st.sampled_from(FUSABLE), unique=True),
)  # fmt: skip
cases = st.tuples(st.sampled_from(["nano_vit", "nano_swin"]), machines,
                  st.sampled_from(["vector", "host"]), st.booleans(),
                  st.sampled_from([1, 3]))  # fmt: skip


def simulated(case):
    name, machine, unit, residency, batch = case
    return simulate(VARIANTS[name], machine, 8, batch, nonlinear=unit, residency=residency)


def tracks_of(report):
    """The names of the tracks, and the complete events of each."""
    events = json.loads(report.to_trace())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    complete = [e for e in events if e["ph"] == "X"]
    assert {e["tid"] for e in complete} == set(names)
    return {name: [e for e in complete if e["tid"] == tid] for tid, name in names.items()}


@given(cases)
@settings(max_examples=25)
def test_nothing_on_a_track_overlaps_in_part(case):
    """In exact rationals: of two spans one holds the other, or they are apart; a unit's are apart,
    and lie inside the forward."""
    tracks = tracks_of(simulated(case))
    forward = tracks["layers"][0]
    for name, events in tracks.items():
        open_ends = []
        for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
            start = Fraction(event["ts"])
            end = start + Fraction(event["dur"])
            assert event["ts"] + event["dur"] == end
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or (name == "layers" and end <= open_ends[-1])
            assert 0 <= start <= end <= forward["dur"]
            if end > start:
                open_ends.append(end)


def step_ends(rows):
    """When the step of every row begins and ends, by name."""
    found, start = {}, 0
    for step in in_steps(rows):
        end = start + sum(row.cycles for row in step)
        found |= {row.name: (start, end) for row in step}
        start = end
    return found


@given(cases)
@settings(max_examples=25)
def test_units_work_as_long_as_their_rows_say(case):
    rows = simulated(case).rows
    when = step_ends(rows)
    by_unit = {(track, row.name): 0.0 for track in TRACKS for row in rows}
    said = {"DRAM port": "memory_cycles", "array": "array_cycles", "vector unit": "vector_cycles",
            "host": "compute_cycles"}  # fmt: skip
    for span in spans(rows):
        start, end = when[span.name]
        assert start <= span.start <= span.end <= end
        by_unit[span.track, span.name] += span.end - span.start
        assert span.busy == getattr(span.row, said[span.track])
    for row in rows:
        # prologue and epilogue are rounded down, what lies between is the rest
        moved = by_unit["DRAM port", row.name]
        assert moved == pytest.approx(row.memory_cycles, abs=3 + 1e-9 * row.cycles)
        worked = {"array": "array", "host": "host"}.get(row.unit, "vector unit")
        if row.unit != "fused":
            busy = getattr(row, said[worked])
            assert by_unit[worked, row.name] == pytest.approx(busy, abs=3)
            assert busy <= row.compute_cycles


@given(cases)
@settings(max_examples=25)
def test_results_follow_the_products_of_their_slice(case):
    """Nothing of a slice begins before its products, and not all of it is done before they are."""
    found = spans(simulated(case).rows)
    steps = {row.name: step for step in in_steps(simulated(case).rows) for row in step}
    products, results = {}, {}
    for span in found:
        main = steps[span.name][0]
        if main.unit == "array" and span.track == "array":
            products.setdefault(main.name, []).append(span)
        if main.unit == "array" and span.track == "vector unit":
            results.setdefault(main.name, []).append(span)
    assert results or not any(row.unit == "array" and row.vector_cycles for row in rows_of(steps))
    for name, streamed in results.items():
        ops = len({span.name for span in streamed})
        slices = [streamed[i : i + ops] for i in range(0, len(streamed), ops)]
        assert len(slices) == len(products[name]) == streamed[0].slices
        for made, behind in zip(products[name], slices, strict=True):
            near = 1e-6 * (1 + made.end)
            assert behind[0].start >= made.start - near
            assert behind[-1].end >= made.end - near


def rows_of(steps):
    return [row for step in steps.values() for row in step]


def test_gelu_is_not_done_before_the_last_products_have_begun():
    """Of DeiT-Tiny's fc1 on edge32, as a designer looked at it."""
    found = spans(simulate(VARIANTS["deit_tiny"]).rows)
    products = [s for s in found if s.track == "array" and s.name == "blocks.0.mlp.fc1"]
    gelu = [s for s in found if s.name == "blocks.0.mlp.act"]
    assert len(products) == len(gelu) > 4
    assert gelu[-1].start >= products[-1].start


def test_a_residual_that_is_fetched_is_loaded_in_the_step_that_adds_it():
    hw = replace(EDGE, fused=("requantize", "gelu", "add"))
    rows = simulate(VARIANTS["deit_tiny"], hw, residency=False).rows
    adds = [row for row in rows if row.unit == "fused" and row.memory_cycles]
    assert adds
    found = spans(rows)
    for row in adds:
        port = [s for s in found if s.track == "DRAM port" and s.name == row.name]
        assert {s.does for s in port} == {"loads for add"}
        assert sum(s.end - s.start for s in port) == pytest.approx(row.memory_cycles, abs=3)


@given(cases)
@settings(max_examples=25)
def test_what_streams_behind_a_gemm_takes_the_vector_unit_in_turn(case):
    """In all of a step: as long as its rows say, or from its first product to its end."""
    rows = simulated(case).rows
    steps, start = [], 0
    for row in rows:
        if row.unit == "array":
            steps.append([start + row.prologue_cycles, start + row.cycles, row.vector_cycles, 0.0,
                          {row.name}])  # fmt: skip
        elif row.unit == "fused":
            steps[-1][1] += row.cycles
            steps[-1][2] += row.vector_cycles
            steps[-1][4].add(row.name)
        start += row.cycles
    worked = {}
    for span in spans(rows):
        if span.track == "vector unit":
            worked[span.name] = worked.get(span.name, 0.0) + span.end - span.start
    for first, last, busy, _, names in steps:
        took = sum(worked.get(name, 0.0) for name in names)
        assert took == pytest.approx(min(busy, last - first), abs=1e-6 * (1 + last))


def test_overlap_can_be_seen():
    """Of a layer in many tiles the port works while the array multiplies; of one it cannot."""
    report = simulate(VARIANTS["deit_tiny"], replace(EDGE, dram_bytes_per_cycle=16.0))
    whole = {row.name: row for row in report.rows}
    found = spans(report.rows)
    for name, row in whole.items():
        port = [s for s in found if s.track == "DRAM port" and s.name == name]
        array = [s for s in found if s.track == "array" and s.name == name]
        both = sum(max(0.0, min(p.end, a.end) - max(p.start, a.start)) for p in port for a in array)
        if row.tiles > 2 and row.memory_cycles > row.prologue_cycles + row.epilogue_cycles + 2:
            assert both > 0, name
        assert len(array) <= SPANS
    assert any(row.tiles > SPANS for row in report.rows)


def test_layers_tell_their_prologue_and_what_was_moved():
    report = simulate(VARIANTS["nano_vit"])
    tracks = tracks_of(report)
    assert list(tracks) == ["layers", "DRAM port", "array", "vector unit"]
    layers = [e for e in tracks["layers"] if "op" in e["args"]]
    keys = ("unit", "prologue_cycles", "steady_cycles", "epilogue_cycles", "memory_cycles",
            "vector_cycles", "load_bytes", "store_bytes", "tiles", "resident")  # fmt: skip
    for event, row in zip(layers, report.rows, strict=True):
        assert [event["args"][key] for key in keys] == [getattr(row, key) for key in keys]
    for unit in list(tracks)[1:]:
        assert all({"does", "of_cycles", "slices", "tiles"} <= set(e["args"]) for e in tracks[unit])
    assert list(tracks_of(simulate(VARIANTS["nano_vit"], nonlinear="host")))[-1] == "host"


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-1, 2e6), st.integers(0, 100))
def test_spans_at_even_distances_keep_to_their_room(start, room, busy, parts):
    end = start + room
    found = list(evenly(start, end, busy, parts))
    assert 1 <= len(found) <= SPANS
    edges = [edge for span in found for edge in span]
    assert edges == sorted(edges)
    assert start <= edges[0] <= edges[-1] <= end
    took = sum(b - a for a, b in found)
    assert took == pytest.approx(max(0.0, min(busy, room)), abs=1e-6)
