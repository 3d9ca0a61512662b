"""More exercises of notebook 11: DRAM traffic of tiles, their time through two buffers."""

from __future__ import annotations

from typing import Any

from refvit.accel.stream import Clock
from refvit.course.exercise import Exercise, Tried, Wrong
from refvit.testing.extra import st


def tiled_bytes(M: int, K: int, N: int, m: int, n: int) -> int:
    """Return the bytes, an int, that a GEMM [M, K] x [K, N] of 8-bit codes moves to and from DRAM.

    B is cut into strips of n columns, A into pieces of m rows (the last of each may be smaller), K
    is whole. For each strip of B, loaded once, all pieces of A pass, so A is loaded anew for every
    strip; unless it is a single piece, which is loaded once and stays. Every result is stored once,
    as an 8-bit code. All are at least 1; m may be above M, and n above N.
    """
    passes = 1 if m >= M else -(-N // n)
    return M * K * passes + K * N + M * N


def walked(M: int, K: int, N: int, m: int, n: int) -> int:
    """Return the same, tile by tile: what is not in the buffer is loaded."""
    total, held_a, held_b = 0, -1, -1
    for left in range(0, N, n):
        for top in range(0, M, m):
            down, across = min(m, M - top), min(n, N - left)
            total += (held_a != top) * down * K + (held_b != left) * K * across + down * across
            held_a, held_b = top, left
    return total


def other_order(M: int, K: int, N: int, m: int, n: int) -> int:
    """Return the bytes with the loops exchanged: A once, B for every piece of A."""
    return walked(N, K, M, n, m)


def reloading(M: int, K: int, N: int, m: int, n: int) -> int:
    """Return the bytes of a controller that remembers nothing: A for every strip, whole or not."""
    return M * K * -(-N // n) + K * N + M * N


def _padded(M: int, K: int, N: int, m: int, n: int) -> int:
    """Every tile at its full size, the last ones too."""
    down, across = -(-M // m), -(-N // n)
    passes = 1 if m >= M else across
    return down * m * K * passes + K * across * n + down * m * across * n


def _brimful(M: int, K: int, N: int, m: int, n: int) -> int:
    """A tile that is just as large as everything, taken for too small: A is loaded twice."""
    return tiled_bytes(M, K, N, m, n) + M * K * (m == M and n == N)


def _stripless(M: int, K: int, N: int, m: int, n: int) -> int:
    """As many passes as whole strips of B go into N: none where n is above N."""
    return M * K * (N // n) + K * N + M * N


SIZES = st.tuples(*[st.integers(1, 9)] * 3, *[st.integers(1, 4) | st.integers(1, 10)] * 2)

TILED = Exercise(
    id="nb11.tiled_bytes",
    title="DRAM traffic of a GEMM in tiles",
    answer=tiled_bytes,
    cases=SIZES,
    returns="bytes",
    hints=(
        "Three terms: A, B, and the results. Two of them do not depend on the tile.",
        "A is loaded once for every strip: how many are there, the last one included?",
    ),
    truth=walked,
    edges=((4, 3, 7, 4, 2), (5, 1, 7, 2, 3)),
    wrong=(
        Wrong("compulsory", "every operand moved once, as if the buffers held all of it",
              lambda M, K, N, m, n: M * K + K * N + M * N),
        Wrong("always", "A loaded again for every strip, though a single piece stays where it is",
              reloading),
        Wrong("both", "both operands loaded again: B stays while the pieces of A pass, and a "
              "single piece of A stays for good",
              lambda M, K, N, m, n: M * K * -(-N // n) + K * N * -(-M // m) + M * N),
        Wrong("padded", "tiles at the edge moved at full size: the last ones may be smaller",
              _padded),
        Wrong("unstored", "loads alone: results leave too",
              lambda M, K, N, m, n: tiled_bytes(M, K, N, m, n) - M * N),
        Wrong("floored", "strips rounded down: a last, smaller strip is a strip",
              lambda M, K, N, m, n: M * K * (1 if m >= M else max(1, N // n)) + K * N + M * N),
        Wrong("sums", "32-bit sums stored, where 8-bit codes leave",
              lambda M, K, N, m, n: tiled_bytes(M, K, N, m, n) + 3 * M * N),
        Wrong("other_order", "the loops exchanged: it is B that stays while A passes",
              other_order),
    ),
)  # fmt: skip


def at_least_compulsory(moved: Any, M: int, K: int, N: int, m: int, n: int) -> bool:
    """Return True if moved(M, K, N, m, n), the bytes that tiles m x n of a GEMM of 8-bit codes
    move (as in `tiled_bytes`), are never fewer than what has to move, and exactly that where one
    tile holds everything: m >= M and n >= N.

    What has to move, the compulsory traffic: every code of A, B and the results, once. This is a
    property: True for every order of the loops, and False for a faulty count in some case.
    """
    least, found = M * K + K * N + M * N, moved(M, K, N, m, n)
    whole = m >= M and n >= N
    return bool(found == least if whole else found >= least)


def _least(M: int, K: int, N: int) -> int:
    return M * K + K * N + M * N


COMPULSORY = Exercise(
    id="nb11.at_least_compulsory",
    title="a property: never less than compulsory traffic",
    answer=at_least_compulsory,
    cases=SIZES,
    returns="property",
    hints=(
        "The least is M K + K N + M N. Compare what moved(...) returns with it.",
        "Two cases: equal where m >= M and n >= N, else >=.",
    ),
    edges=((2, 2, 2, 2, 2), (2, 2, 2, 1, 1), (3, 2, 2, 4, 5)),
    tried=Tried(
        right=(tiled_bytes, other_order, reloading),
        faulty=(
            Wrong("unstored", "no bytes of results",
                  lambda M, K, N, m, n: tiled_bytes(M, K, N, m, n) - M * N),
            Wrong("stripless", "too few strips, none of them where n is above N", _stripless),
            Wrong("one_tile", "the bytes of one tile alone",
                  lambda M, K, N, m, n: min(m, M) * K + K * min(n, N) + min(m, M) * min(n, N)),
            Wrong("padded", "tiles at their full size where M or N is smaller", _padded),
            Wrong("brimful", "a second load of A where one tile is just large enough", _brimful),
        ),
    ),
    wrong=(
        Wrong("always", "a property that is true of everything", lambda moved, *sizes: True),
        Wrong("only_bound", "the bound alone, without equality where one tile holds everything",
              lambda moved, M, K, N, m, n: moved(M, K, N, m, n) >= _least(M, K, N)),
        Wrong("only_whole", "a look at single tiles only",
              lambda moved, M, K, N, m, n:
              m < M or n < N or moved(M, K, N, m, n) == _least(M, K, N)),
        Wrong("strict", "more than compulsory, where as much is possible",
              lambda moved, M, K, N, m, n: moved(M, K, N, m, n) > _least(M, K, N)),
        Wrong("equal", "exactly the compulsory traffic, which tiles exceed",
              lambda moved, M, K, N, m, n: moved(M, K, N, m, n) == _least(M, K, N)),
        Wrong("loads", "a bound without the results, which have to be stored",
              lambda moved, M, K, N, m, n:
              moved(M, K, N, m, n) >= M * K + K * N),
        Wrong("either", "equality where m >= M or n >= N: one of them alone is not a single tile",
              lambda moved, M, K, N, m, n:
              moved(M, K, N, m, n) == _least(M, K, N) if m >= M or n >= N
              else moved(M, K, N, m, n) >= _least(M, K, N)),
        Wrong("larger", "m > M and n > N: a tile that is just as large holds everything too",
              lambda moved, M, K, N, m, n:
              moved(M, K, N, m, n) == _least(M, K, N) if m > M and n > N
              else moved(M, K, N, m, n) >= _least(M, K, N)),
    ),
)  # fmt: skip


def two_buffers(tiles: int, load: int, compute: int) -> int:
    """Predict the cycles, an int, of a stream of equal tiles through two buffers; nothing is
    stored.

    Each of the tiles (at least 1) takes `load` cycles of the DRAM port, then `compute` cycles of
    the array (both at least 0). While the array works on one buffer the port fills the other. The
    first tile is computed when it is loaded; the count ends when the last tile is computed.
    """
    return load + (tiles - 1) * max(load, compute) + compute


BUFFERS = Exercise(
    id="nb11.two_buffers",
    title="a prediction: the time of tiles through two buffers",
    answer=two_buffers,
    cases=st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9)),
    returns="cycles",
    hints=(
        "Draw three tiles: one bar for each load, under it one for each product.",
        "Between the first load and the last product the slower of the two sets the pace.",
    ),
    truth=lambda tiles, load, compute: Clock().tiles(compute, load, 0, tiles).end(),
    wrong=(
        Wrong("one_buffer", "one buffer: every tile waits until the one before is computed",
              lambda tiles, load, compute: tiles * (load + compute)),
        Wrong("endless", "the pace alone: before the first product there is a load that nothing "
              "hides", lambda tiles, load, compute: tiles * max(load, compute)),
        Wrong("hidden", "loads that are always hidden, as if memory were never slower",
              lambda tiles, load, compute: load + tiles * compute),
        Wrong("starved", "products that are always hidden, as if memory were always slower",
              lambda tiles, load, compute: tiles * load + compute),
        Wrong("paced", "a last step at the pace of a load: then there is nothing left to load",
              lambda tiles, load, compute: load + tiles * max(load, compute)),
        Wrong("fencepost", "one step too many: between the tiles there is one gap fewer than tiles",
              lambda tiles, load, compute: load + tiles * max(load, compute) + compute),
        Wrong("undrained", "a count that ends with the last load: its tile is still to be computed",
              lambda tiles, load, compute: load + (tiles - 1) * max(load, compute)),
    ),
)  # fmt: skip
