"""What a report shows: folds, CSV, pictures, the page, and the trace."""

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refvit.accel import MACHINES, Row, simulate
from refvit.accel.charts import (
    BOUND_TOP,
    LANE_COLOURS,
    TALL,
    WIDE,
    busy,
    energy,
    roof,
    timeline,
)
from refvit.accel.fold import folds, walk
from refvit.accel.svg import Scale, standalone
from refvit.accel.tracks import in_steps
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
SMALL = ("nano_vit", "nano_deit", "nano_swin")
machines = st.builds(
    lambda rows, cols, dataflow, overlap, clock, speed, lanes: replace(
        EDGE, rows=rows, cols=cols, dataflow=dataflow, overlap=overlap, clock_mhz=clock,
        dram_bytes_per_cycle=speed, vector_lanes=lanes,
    ),
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["os", "ws", "is"]), st.booleans(),
    st.floats(1.0, 3000.0), st.floats(0.5, 256.0), st.integers(1, 64),
)  # fmt: skip
cases = st.tuples(st.sampled_from(SMALL), machines, st.sampled_from([4, 8, 16]))


def simulated(case):
    """The report of a drawn case, whose own text would be too long to print."""
    name, machine, bits = case
    return simulate(VARIANTS[name], machine, bits)


@pytest.mark.parametrize("name", [*SMALL, "swin_tiny", "deit_small"])
def test_every_layer_lies_in_one_part_of_each_fold(name):
    rows = simulate(VARIANTS[name]).rows
    parts = folds(rows)
    assert [row for part in parts for row in part.rows] == list(rows)
    leaves = [part for _, part in walk(parts) if not part.parts]
    assert [part.name for part in leaves] == [row.name for row in rows]
    for _, part in walk(parts):
        inside = [row for x in part.parts for row in x.rows]
        assert not part.parts or inside == list(part.rows)
        assert all(x.name.startswith(f"{part.name}.") for x in part.parts)


@given(cases, st.sampled_from(["blocks.1", "stages.1.blocks.0", "stages.*", "*"]))
@settings(max_examples=10)
def test_a_table_unfolds_what_it_is_told_to_and_what_holds_it(case, pattern):
    report = simulated(case)
    names = {part.name for _, part in walk(folds(report.rows)) if part.parts}
    if not any(re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*"), n) for n in names):
        with pytest.raises(ValueError, match=f"{re.escape(repr(pattern))}; there are .*1"):
            report.table(unfold=[pattern])
        return
    lines = report.table(unfold=[pattern]).splitlines()[2:-2]
    shown = [line.split()[1] for line in lines if line.strip()[0] == "-"]
    assert pattern.rpartition("*")[2] == "" or shown[-1] == ".".join(pattern.split(".")[-2:])
    if pattern == "*":
        assert len(shown) == len(names)
        assert len(lines) == len(names) + len(report.rows)
    folded = report.table().splitlines()[2:-2]
    assert len(folded) == len(report.groups) < len(lines)


def test_a_csv_has_every_field_of_every_row():
    report = simulate(VARIANTS["nano_swin"], "edge16")
    lines = list(csv.DictReader(io.StringIO(report.to_csv())))
    kinds = {"int": int, "float": float, "str": str}
    for line, row in zip(lines, report.rows, strict=True):
        assert {k: kinds[Row.__annotations__[k]](v) for k, v in line.items()} == asdict(row)


def test_json_has_the_sums_of_the_blocks():
    data = json.loads(simulate(VARIANTS["nano_vit"]).to_json())
    assert [group["name"] for group in data["groups"]][2] == "blocks.0"
    assert sum(g["cycles"] for g in data["groups"]) == data["totals"]["cycles"]


@given(cases)
@settings(max_examples=25)
def test_spans_of_a_track_nest_or_are_disjoint_to_the_last_bit(case):
    """In exact rationals: a block is the sum of its layers, and the forward of its blocks."""
    report = simulated(case)
    events = json.loads(report.to_trace())["traceEvents"]
    events = [e for e in events if e["ph"] == "X" and e["tid"] == 0]
    spans = [(Fraction(e["ts"]), Fraction(e["ts"]) + Fraction(e["dur"])) for e in events]
    assert all(e["ts"] + e["dur"] == end for e, (_, end) in zip(events, spans, strict=True))
    around: list[list[Fraction]] = []  # of each open span: its end, and how far it is filled
    for start, end in spans:
        while around and start >= around[-1][0] and end > around[-1][0]:
            assert around.pop()[1] in (0, end, start)
        if around:
            assert start == (around[-1][1] or start)
            assert end <= around[-1][0]
            around[-1][1] = end
        around.append([end, Fraction(0)])
    layers = [e for e in events if "op" in e["args"]]
    assert [e["name"] for e in layers] == [row.name for row in report.rows]
    assert math.fsum(e["dur"] for e in layers) == events[0]["dur"]
    assert abs(events[0]["dur"] - report.totals["us"]) <= 2e-6 + 1e-12 * report.totals["us"]
    assert sum(e["args"]["cycles"] for e in layers) == report.totals["cycles"]
    blocks = {e["name"]: e["dur"] for e in events}
    for name, rows in report.groups:
        if len(rows) > 1:
            assert blocks[name] == math.fsum(blocks[row.name] for row in rows)


@given(cases)
@settings(max_examples=20)
def test_the_pictures_are_xml_and_keep_to_their_scales(case):
    report = simulated(case)
    hw, rows = report.machine, report.rows
    for drawn in (roof(hw, rows), energy(rows), timeline(hw, rows)):
        root = ET.fromstring(drawn)
        width, height = map(float, root.get("viewBox").split()[2:])
        assert width == WIDE
        for box in root.iter("rect"):
            x, y, wide, tall = (float(box.get(k)) for k in ("x", "y", "width", "height"))
            assert -0.1 <= x <= x + wide <= width + 0.1
            assert -0.1 <= y <= y + tall <= height + 0.1
        for dot in root.iter("circle"):
            assert 0 <= float(dot.get("cx")) <= width
            assert 0 <= float(dot.get("cy")) <= height
        assert ET.fromstring(standalone(drawn)).tag == "{http://www.w3.org/2000/svg}svg"


@given(cases)
@settings(max_examples=20)
def test_no_dot_is_above_the_roof_and_no_unit_busier_than_its_time(case):
    report = simulated(case)
    hw = report.machine
    for row in report.rows:
        if row.macs:
            steep = 2 * row.macs * hw.dram_bytes_per_cycle
            reach = min(2 * hw.rows * hw.cols, steep / max(1, row.dram_bytes))
            # cycles are rounded to whole ones
            assert 2 * row.macs / row.cycles <= reach * (1 + 0.5 / row.cycles) + 1e-9


@given(cases)
@settings(max_examples=20)
def test_the_timeline_shows_every_busy_cycle_of_every_unit(case):
    """Of a lane, the area of its boxes is its busy cycles, by the rows; none is above its time."""
    report = simulated(case)
    rows, whole = report.rows, report.totals["cycles"]
    root = ET.fromstring(timeline(report.machine, rows))
    area = dict.fromkeys(LANE_COLOURS.values(), 0.0)
    for box in root.iter("rect"):
        if float(box.get("y")) < BOUND_TOP:
            area[box.get("fill")] += float(box.get("width")) * float(box.get("height"))
    for unit, key in {"array": "array", "port": "memory", "vector": "vector"}.items():
        cycles = area[LANE_COLOURS[unit]] / (825 * TALL) * whole
        room = 0.01 * whole + 3 * len(rows)
        assert cycles == pytest.approx(report.totals[f"{key}_cycles"], abs=room)
    for step in in_steps(rows):
        assert all(0 <= share <= 1 for share in busy(step).values())
        moved = sum(row.vector_cycles for row in step)
        assert moved <= sum(row.cycles for row in step) + 3 * len(step)


def test_parts_are_named_over_the_timeline():
    for name in ("deit_tiny", "nano_vit", "vit_base"):
        report = simulate(VARIANTS[name])
        drawn = [t.text for t in ET.fromstring(timeline(report.machine, report.rows)).iter("text")]
        assert {"patch_embed", "embed", "blocks.0", "blocks.1", "head"} <= set(drawn), name
        titles = re.findall(r"<title>(.*?)</title>", timeline(report.machine, report.rows))
        assert any("mlp.fc1 + gelu" in said and "vector busy" in said for said in titles)


def test_a_gemm_without_dram_traffic_is_at_the_right_end():
    report = simulate(VARIANTS["nano_vit"])
    rows = [replace(row, dram_bytes=0) if row.name == "head" else row for row in report.rows]
    root = ET.fromstring(roof(report.machine, rows))
    shown = [dot for dot in root.iter("circle") if "no DRAM bytes" in dot.find("title").text]
    assert max(float(dot.get("cx")) for dot in shown[:1]) == 590


@given(cases)
@settings(max_examples=10)
def test_bars_and_boxes_are_as_long_as_what_they_show(case):
    report = simulated(case)
    root = ET.fromstring(energy(report.rows))
    boxes = [float(box.get("width")) for box in root.iter("rect")]
    longest = max(math.fsum(row.uj_high for row in rows) for _, rows in report.groups)
    pixels = sum(boxes) / (690 - 150) * longest
    assert pixels == pytest.approx(report.totals["uj"], rel=1e-3, abs=0.01 * longest)
    root = ET.fromstring(timeline(report.machine, report.rows))
    bound = [
        float(box.get("width")) for box in root.iter("rect") if box.get("y") == f"{BOUND_TOP}.00"
    ]
    assert sum(bound) == pytest.approx(825, abs=0.001 * len(bound))


@given(st.floats(1e-6, 1e9), st.floats(1.001, 1e6), st.booleans())
def test_ticks_are_round_and_lie_within_their_scale(low, factor, log):
    scale = Scale(low, low * factor, 10, 500, log)
    assert scale(low) == pytest.approx(10)
    assert scale(low * factor) == pytest.approx(500)
    for tick in scale.ticks():
        assert 10 - 1e-3 <= scale(tick) <= 500 + 1e-3
    assert log or len(Scale(0, low, 0, 1).ticks()) in range(3, 8)


def test_the_page_needs_nothing_from_elsewhere_and_folds_without_a_script():
    report = simulate(VARIANTS["swin_tiny"])
    page, part = report.to_html(), report._repr_html_()
    for text in (page, part):
        assert not re.search(r"http|<script|<link|@import|url\(|\bsrc=|\bon\w+=", text)
        assert text.count("<svg") == text.count("</svg>") == 3
        for drawn in re.findall(r"<svg.*?</svg>", text, re.S):
            ET.fromstring(drawn)
        every = [fold for _, fold in walk(folds(report.rows)) if fold.parts]
        assert text.count("<details><summary>") == len(every)
        assert text.count('role="row"') == len(every) + len(report.rows) + 2
    assert ET.fromstring(part).tag == "div"  # well formed, so that it cannot break a notebook
    assert ET.fromstring(page).tag == "html"
    evil = replace(report.machine, name='<b>&"x</b>')
    assert "<b>" not in replace(report, machine=evil).to_html()


BROWSERS = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser",
            "google-chrome", "google-chrome-stable", "chrome", "msedge")  # fmt: skip


@pytest.fixture
def browser():
    """The path of a browser that runs without a screen; REFVIT_BROWSER names one elsewhere."""
    found = os.environ.get("REFVIT_BROWSER") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is in PATH")
    return found


def browse(browser, folder, *options):
    """Run the browser on its own profile and return what it prints."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={folder / 'profile'}", *options]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def test_a_browser_shows_the_page(browser, tmp_path):
    report = simulate(VARIANTS["deit_tiny"])
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report.to_html(), encoding="utf-8")
    dom = browse(browser, tmp_path, "--dump-dom", page.as_uri())
    assert dom.count("<details>") == 12
    assert dom.count("<svg") == 3
    assert "11 more" in dom
    sizes = ("--window-size=1000,1400", f"--screenshot={picture}")
    browse(browser, tmp_path, *sizes, page.as_uri())
    shown = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    for colour in ("0072b2", "d55e00", "e69f00", "009e73"):  # array, DRAM, SRAM, vector unit
        seen = (shown == np.frombuffer(bytes.fromhex(colour), np.uint8)).all(1).sum()
        assert seen > 100, colour
    assert (shown == 255).all(1).mean() > 0.5  # on white paper
