"""What is large: columns that do not touch, batches that are refused, cycles that fit 64 bits."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit.accel import MACHINES, simulate, workload
from refvit.accel.columns import columns
from refvit.accel.grid import parse_grid
from refvit.accel.roofline import roofline
from refvit.accel.schedule import HEADS, schedule
from refvit.accel.workload import MOST_IMAGES
from refvit.cli import main
from refvit.exploration import HEADS as POINT_HEADS
from refvit.explore import explore
from refvit.models import VARIANTS

EDGE = MACHINES["edge32"]
cells = st.text(st.characters(whitelist_categories=["Lu", "Nd"]), min_size=1, max_size=30)


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.tuples(*[cells] * n), min_size=1)),
       st.sets(st.integers(0, 5)), st.integers(1, 3))  # fmt: skip
def test_columns_never_touch_and_say_what_they_hold(lines, right, gap):
    said = columns(lines, [lines[0][i] for i in right if i < len(lines[0])], gap)
    assert [tuple(line.split()) for line in said] == lines
    assert all(line == line.rstrip() for line in said)
    widest = [max(map(len, column)) for column in zip(*lines, strict=True)]
    assert max(map(len, said)) <= sum(widest) + gap * (len(widest) - 1)


@pytest.mark.parametrize("batch", [1, 1000, MOST_IMAGES])
@pytest.mark.parametrize("name", ["nano_vit", "swin_tiny"])
def test_tables_of_a_large_batch_have_their_columns(name, batch):
    """Between two columns there are two spaces, and within a cell at most one."""
    report = simulate(VARIANTS[name], EDGE, batch=batch)
    for line, row in zip(schedule(report.rows).splitlines()[1:], report.rows, strict=True):
        held = re.split(r"\s{2,}", line)
        assert (held[0], held[-1]) == (row.name, f"{row.stall_cycles:,}")
        empty = 0 if row.tiles else 3  # tile, tiles, order
        assert len(held) == len(HEADS) - empty - (not row.resident)
    for line in report.table(groups=False).splitlines()[2:-1]:
        assert re.fullmatch(r"\S+( +[\d,.%]+){4} +[\d,.]+ - [\d,.]+ +\w+( \d+%)?", line), line
    found = explore(VARIANTS[name], parse_grid(["edge32"]), batch=batch)
    head, line = found.table().splitlines()[2:4]
    assert re.split(r"\s{2,}", head.strip()) == list(POINT_HEADS[1:])
    assert len(line.split()) == len(POINT_HEADS)


def test_cycles_of_the_slowest_array_do_not_wrap():
    """One multiplier of 1 bit takes 1,024 cycles for 32 x 32 bits, and a fold of one step two."""
    for config in VARIANTS.values():
        macs = sum(layer.macs for layer in workload(config, MOST_IMAGES))
        assert 2 * 1024 * macs < 2**63


@pytest.mark.parametrize("batch", [0, -1, MOST_IMAGES + 1, 10**9, 10**13, 2.5, True, "2"])
def test_a_batch_is_refused_in_one_line(batch):
    for asked in (workload, lambda *a: simulate(a[0], "edge32", 8, a[1]),
                  lambda *a: roofline(a[0], "edge32", 8, a[1])):  # fmt: skip
        with pytest.raises(ValueError, match="at least one image and at most 16,384; got"):
            asked(VARIANTS["nano_vit"], batch)


@pytest.mark.parametrize("command", [["simulate"], ["roofline"], ["explore", "--no-accuracy"]])
def test_commands_refuse_a_batch_that_nothing_holds(command, capsys):
    assert main([*command[:1], "nano_vit", *command[1:], "--batch", str(10**13)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("refvit: error: a batch has at least one image and at most 16,384; "
                   f"got {10**13}\n")  # fmt: skip
    assert main(["simulate", "nano_vit", "--batch", str(MOST_IMAGES), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"] == MOST_IMAGES
