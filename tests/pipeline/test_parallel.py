from __future__ import annotations

import threading
import time

import pytest

from pipeline.parallel import ordered


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert list(ordered(slow_first, range(100), 4)) == [item * item for item in range(100)]
    assert list(ordered(slow_first, [], 4)) == []


def test_calls_overlap() -> None:
    together = threading.Barrier(4)
    assert len(list(ordered(lambda _: together.wait(timeout=30), range(4), 4))) == 4


def test_no_more_is_begun_than_twice_the_workers() -> None:
    begun: list[int] = []
    results = ordered(begun.append, iter(range(1000)), 3)
    next(results)
    assert len(begun) <= 6
    results.close()
    assert len(begun) <= 6


def test_what_a_call_raises_comes_in_its_place() -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ZeroDivisionError
        return item

    results = ordered(fail_at_two, range(5), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
