"""What SCALE-Sim reports as it reports it: against its records, and against its buffers stepped."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel import gemm_cycles
from refvit.accel.records import recorded
from refvit.accel.scalesim import (
    compute_utilization_pct,
    dram_writes,
    overall_utilization_pct,
    reported_cycles,
    sram_writes,
)
from refvit.accel.systolic import DATAFLOWS, folds, sram_outputs

RECORDS = recorded()["scalesim"]
small = st.integers(1, 12)


def written(words, size, line):
    """Words counted on their way to DRAM, word by word, each drain done before the next word.

    Words wait in lines; when the free half is touched the line in progress is closed and half of
    the buffer drained, in whole lines, of which only the last is counted as full as it is.
    """
    lines, open_line, free, start, counted = [], 0, size, 0, 0
    take = -(-(size // 2) // line)

    def drain():
        nonlocal free, start, counted
        chunk = lines[start : start + take]
        start += len(chunk)
        counted += len(chunk) * line - (line - chunk[-1])
        free += len(chunk) * line - (line - chunk[-1])

    for _ in range(words):
        open_line, free = open_line + 1, free - 1
        touched = free < size - size // 2
        if open_line == line or touched:
            lines.append(open_line)
            open_line = 0
        if touched:
            drain()
    lines += [open_line] if open_line else []
    while start < len(lines):
        drain()
    return counted


@given(st.integers(1, 300), st.integers(2, 80), small)
@example(9, 16, 4)  # the word after the half is the last one
@example(10, 16, 4)
@example(100, 14, 4)  # the half is no whole number of lines
def test_dram_writes_are_those_of_the_buffer_stepped_word_by_word(words, size, cols):
    assert dram_writes(words, 1, 1, 1, cols, "os", size) == written(words, size, cols)


@given(small, small, small, small, small, st.sampled_from(DATAFLOWS))
def test_what_is_reported_is_off_in_one_direction(M, K, N, rows, cols, df):
    array = (rows, cols, df)
    cycles = gemm_cycles(M, K, N, *array, compat="scalesim")
    true = overall_utilization_pct(M * K * N, cycles, rows, cols)
    compute = compute_utilization_pct(M, K, N, *array)
    if df == "os" or cols == 1:
        assert compute == pytest.approx(true)
    else:
        assert compute < true <= 100
    if reported_cycles(cycles):
        assert overall_utilization_pct(M * K * N, reported_cycles(cycles), rows, cols) > true
    more = sram_writes(M, K, N, *array) - sram_outputs(M, K, N, rows, df)[0]
    assert more == (folds(M, K, N, *array) * (rows + cols) if df == "os" else 0)


def test_every_column_is_recorded_somewhere():
    """None is compared with nothing, so a misspelt column would pass unseen."""
    for column in RECORDS[0]:
        assert any(r[column] is not None for r in RECORDS), column
    runs = [r for r in RECORDS if r["dram_ofmap_writes"] is not None]
    assert len(runs) == 88
    over = [r for r in runs if r["dram_ofmap_writes"] != outputs(r)]
    assert len(over) == 47
    assert {r["dram_ofmap_writes"] - outputs(r) for r in over} == {7, 31}


def outputs(r):
    return sram_outputs(r["M"], r["K"], r["N"], r["array_rows"], r["dataflow"])[0]
