"""Tiles through two buffers: the clock against the recurrence as it is written, tile by tile."""

import math
from itertools import chain, repeat

from hypothesis import example, given
from hypothesis import strategies as st

from refvit.accel.stream import Clock, in_parts, repeated

times = st.integers(0, 50)
tile = st.tuples(times, times, times)
run = st.tuples(tile, st.integers(1, 9))


def recurrence(tiles):
    """One port, two buffers a tensor: when the last store is through, and the last product done."""
    port, computed, stored = 0, [], []
    for i, (compute, load, _) in enumerate(tiles):
        if i >= 2:
            port = max(port, computed[i - 2]) + tiles[i - 2][2]
            stored.append(port)
        port = max(port, computed[i - 2] if i >= 2 else 0) + load
        ready = max(port, stored[i - 2] if i >= 2 else 0)
        computed.append(max(computed[i - 1] if i else 0, ready) + compute)
    for i in range(max(0, len(tiles) - 2), len(tiles)):
        port = max(port, computed[i]) + tiles[i][2]
    return port, computed[-1]


def after(runs):
    clock = Clock()
    for each, often in runs:
        clock = clock.tiles(*each, often)
    return clock


@given(st.lists(run, min_size=1, max_size=6))
@example([((5, 0, 9), 9), ((0, 3, 0), 9), ((1, 1, 1), 9)])
def test_the_clock_is_the_recurrence(runs):
    tiles = list(chain.from_iterable(repeat(each, often) for each, often in runs))
    clock = after(runs)
    assert (clock.end(), clock.array) == recurrence(tiles)


@given(st.lists(run, min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 3))
@example([((1, 3, 0), 1), ((4, 1, 2), 2)], 40, 1)
def test_what_repeats_takes_as_long_as_what_is_written_out(runs, often, outer):
    def body(clock):
        for each, count in runs:
            clock = clock.tiles(*each, count)
        return clock

    clock = repeated(Clock(), lambda now: repeated(now, body, often), outer)
    tiles = list(chain.from_iterable(repeat(each, count) for each, count in runs))
    assert (clock.end(), clock.array) == recurrence(tiles * often * outer)


def test_a_long_stream_is_not_followed_to_its_end():
    calls = 0

    def body(clock):
        nonlocal calls
        calls += 1
        return clock.tiles(7, 3, 1, 10**15).tiles(1, 9, 0, 5)

    assert repeated(Clock(), body, 10**15).end() > 7 * 10**30
    assert calls < 10


@given(times, times, times, st.integers(1, 12))
def test_equal_tiles_have_a_closed_form(c, d, s, tiles):
    cycles = Clock().tiles(c, d, s, tiles).end()
    several = d + max(c, d) + (tiles - 2) * max(c, d + s) + max(c, s) + s
    assert cycles == (several if tiles > 1 else c + d + s)
    simple = d + (tiles - 1) * max(c, d + s) + c + s  # the pipeline as textbooks have it
    assert cycles <= simple <= cycles + min(c, s)


@given(st.lists(tile, min_size=1, max_size=8))
def test_time_is_at_least_each_of_its_parts(tiles):
    total, _ = recurrence(tiles)
    compute, loads, stores = map(sum, zip(*tiles, strict=True))
    assert max(compute, loads + stores) <= total <= compute + loads + stores


@given(st.lists(run, min_size=1, max_size=4), st.lists(run, min_size=1, max_size=3),
       st.integers(0, 2), st.integers(1, 9))  # fmt: skip
def test_more_of_anything_is_never_faster(before, behind, part, more):
    slower = list(tile := behind[0][0])
    slower[part] += more
    one, two = (after([*before, (each, 1), *behind]) for each in (tile, slower))
    assert two.end() >= one.end()


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(1, 30))
def test_work_cut_in_parts_is_all_there_and_as_even_as_can_be(compute, load, store, tiles):
    def share(total, i):
        return total // tiles + (i < total % tiles)

    parts = [(share(compute, i), share(load, i), share(store, i)) for i in range(tiles)]
    found = in_parts(compute, load, store - 0.5 * (store > 0), tiles)
    cycles, computed = recurrence(parts)
    assert (found.cycles, found.cycles - found.epilogue) == (cycles, computed)
    assert (found.compute, found.memory) == (compute, load + store)
    assert found.prologue == math.ceil(load / tiles)
