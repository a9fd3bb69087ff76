from __future__ import annotations

import math
import operator
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import a_lock, kill_self, pid_after

from pipeline.processes import ProcessError, ordered_in_processes


def test_results_come_in_order_whatever_takes_long() -> None:
    naps = [0.3, 0.0, 0.0, 0.1, 0.0] * 4
    assert list(ordered_in_processes(time.sleep, naps, 2, 3)) == [None] * len(naps)
    assert list(ordered_in_processes(operator.neg, range(300), 3, 2)) == [-number for number in range(300)]
    assert list(ordered_in_processes(operator.neg, [], 2, 2)) == []


def test_the_work_is_done_elsewhere_by_as_many_processes_as_asked_for() -> None:
    there = set(ordered_in_processes(pid_after, [0.05] * 24, 3, 2))
    assert len(there) == 3 and os.getpid() not in there


def test_no_more_is_begun_than_twice_the_threads() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            begun.append(number)
            yield number

    results = ordered_in_processes(operator.neg, items(), 2, 3)
    next(results)
    assert len(begun) <= 12
    results.close()
    assert len(begun) <= 12


def test_what_a_call_raises_comes_in_its_place() -> None:
    results = ordered_in_processes(math.sqrt, [4, 9, -1, 16], 2, 2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ValueError, match="math domain error"):
        next(results)


def test_a_result_that_cannot_travel_is_an_error_and_no_wait() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        list(ordered_in_processes(a_lock, [0], 1, 1))


def test_a_module_of_the_current_folder_takes_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert list(ordered_in_processes(operator.neg, [1], 1, 1)) == [-1]


def test_a_process_that_dies_ends_it_and_says_how() -> None:
    with pytest.raises(ProcessError, match=r"ended with code 7"):
        list(ordered_in_processes(os._exit, [7], 1, 1))
    with pytest.raises(ProcessError, match="killed by SIGKILL; memory may have been full"):
        list(ordered_in_processes(kill_self, [signal.SIGKILL], 2, 1))


def test_no_process_outlives_it() -> None:
    results = ordered_in_processes(pid_after, [0.0, *[60.0] * 3], 2, 1)
    there = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(there, 0)
