"""Memory: blocks of rows that stay in the cache, and freed pages that stay with the process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 16  # elements a block: 256 KB of float32, three such buffers stay in a 1 MB L2


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices that cover `rows` rows, each of about `BLOCK` elements.

    >>> list(blocks(5, BLOCK // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, BLOCK // max(1, width))
    return (slice(i, min(i + step, rows)) for i in range(0, rows, step))


def keep_freed_memory() -> None:
    """Let glibc keep what an operator frees for the next one, instead of the kernel taking it.

    Fresh pages cost as much as a pass over them. glibc raises its threshold for that to the size
    of the largest block it has seen freed, up to 32 MB, so one such block, never touched, is
    enough (mallopt(3), M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)
