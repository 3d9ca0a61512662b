"""Pictures of the accelerator show the numbers that they are given."""

import numpy as np
import pytest

from refvit import plot
from refvit.accel import roofline, simulate, tile_stages, timeline, workload
from refvit.accel.stages import stages
from refvit.accel.tracks import spans

pytest.importorskip("matplotlib", reason="pictures come with the notebooks extra")

REPORT = simulate("deit_tiny", "edge32")
BLOCK = [row for row in REPORT.rows if row.group == "blocks.3"]


def boxes(ax):
    """Every box of broken bars as (start, end, top), in order."""
    found = []
    for bars in ax.collections:
        for path in bars.get_paths():
            (left, top), (right, _) = path.vertices.min(0), path.vertices.max(0)
            found.append((left, right, round(float(top), 3)))
    return found


def test_a_hollow_dot_lies_at_the_roof_and_a_full_one_nowhere_above():
    roof = roofline("deit_tiny", "edge32")
    ax = plot.roof(roof, REPORT)
    peak = roof.peak * roof.clock_mhz / 1e3
    hollow, full = [], []
    for line in ax.get_lines():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_marker() in "os^" and x.size == 1 and line.get_linestyle() == "None":
            (hollow if line.get_markerfacecolor() == "white" else full).append((x[0], y[0]))
    assert len(hollow) == 15
    assert all(y == pytest.approx(min(peak, x / roof.ridge * peak)) for x, y in hollow)
    assert all(y <= min(peak, x / roof.ridge * peak) * (1 + 1e-9) for x, y in full)
    row = next(row for row in REPORT.rows if row.name == "blocks.0.mlp.fc2")
    place = 2 * row.macs / row.dram_bytes, 2 * row.macs / row.us / 1e3
    assert any(np.allclose(place, dot) for dot in full)
    said = ", ".join(text.get_text() for text in ax.texts)
    assert all(name in said for name in ("fc2", "scores", "softmax", "ridge 256"))


def test_a_lane_is_filled_while_its_pe_multiplies():
    line = timeline(3, 4, 2, 2, 2)
    ax = plot.grid(line)
    lanes = line.works.reshape(line.cycles, 4)
    for lane in range(4):
        starts = [left for left, _, top in boxes(ax) if top == round(lane + 0.08, 3)]
        np.testing.assert_array_equal(starts, np.flatnonzero(lanes[:, lane]))
    (dots,) = [each for each in ax.get_lines() if each.get_label() == "result latched"]
    assert len(dots.get_xdata()) == line.leaves.sum()
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == [
        "PE 0,0",
        "PE 0,1",
        "PE 1,0",
    ]


def test_a_tile_is_a_box_in_the_lane_of_its_unit():
    found = stages([(4, 3, 2), (4, 3, 2), (4, 3, 2)])
    ax = plot.gantt(found)
    expected = [(s.start, s.end, 1.1 if s.does == "compute" else 0.1) for s in found]
    assert sorted(boxes(ax)) == sorted(expected)
    assert [text.get_text() for text in ax.texts].count("2") == 3
    few = plot.gantt(found, first=1)
    assert len(boxes(few)) == 3


def test_units_work_as_long_as_the_tracks_say():
    ax = plot.units(BLOCK)
    drawn = sorted((start, end) for start, end, _ in boxes(ax))
    np.testing.assert_allclose(drawn, sorted((s.start, s.end) for s in spans(BLOCK)))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "DRAM port",
        "array",
        "vector unit",
    ]
    assert "mlp.fc2" in [text.get_text() for text in ax.texts]


def test_a_stack_is_as_long_as_its_layer_takes_energy():
    ax = plot.energy(BLOCK)
    ends = {}
    for bar in ax.patches:
        ends[round(bar.get_y(), 3)] = bar.get_x() + bar.get_width()
    assert list(ends.values()) == pytest.approx([row.uj for row in BLOCK])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [row.name.removeprefix("blocks.3.") for row in BLOCK]


def test_the_tiles_of_a_layer_are_drawn():
    layer = next(x for x in workload("deit_tiny") if x.name == "blocks.3.attn.qkv")
    row = next(row for row in BLOCK if row.name == layer.name)
    ax = plot.gantt(tile_stages(layer, row, REPORT.machine))
    assert len(boxes(ax)) == 3 * row.tiles
