"""Many slow calls at once, their results in order, and memory for a few of them only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """`function` of each item, computed by `workers` threads, in the order of the items.

    At most twice `workers` calls are begun before their results are asked for, so results nobody has taken yet do
    not pile up as they do with `ThreadPoolExecutor.map`. What a call raises is raised in its place; when the caller
    stops early, calls not begun are dropped.
    """
    pool = ThreadPoolExecutor(workers)
    begun: deque[Future[_Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) >= 2 * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
