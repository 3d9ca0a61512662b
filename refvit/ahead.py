"""Work that is done ahead of whoever uses it: results in order, a bounded number under way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], executor: Executor, ahead: int
) -> Iterator[Result]:
    """Yield `work(item)` of every item in turn; `executor` has at most `ahead` of them at a time,
    so that results which nobody has taken yet do not pile up.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(1) as pool:
    ...     list(in_order(abs, [-3, 2, -1], pool, ahead=2))
    [3, 2, 1]
    """
    left = iter(items)
    waiting = [executor.submit(work, item) for item in itertools.islice(left, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [executor.submit(work, item) for item in itertools.islice(left, 1)]
