"""When the timer that ends a process is set, put back and stopped, and that it ends one that holds the lock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pipeline import last_words
from pipeline.watchdog import REARM_SECONDS, Watchdog, beat


class Timer:
    """A clock that is moved by hand, and the only timer. due: when it runs out; None when it is not set."""

    def __init__(self) -> None:
        self.time, self.due, self.set = 100.0, None, 0

    def now(self) -> float:
        return self.time

    def arm(self, seconds: float, file: int) -> None:
        self.due, self.set = self.time + seconds, self.set + 1

    def disarm(self) -> None:
        self.due = None


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def watchdog(timer):
    return Watchdog(timer.arm, timer.disarm, timer.now)


def test_every_beat_puts_the_end_off(watchdog, timer):
    with watchdog.watch(stalled=10, whole=1000):
        assert timer.due == 110 + REARM_SECONDS
        for timer.time in (105.0, 112.0, 121.0):
            watchdog.beat()
            assert timer.due == timer.time + 10 + REARM_SECONDS
    assert timer.due is None


def test_no_beat_puts_off_the_end_of_the_whole(watchdog, timer):
    with watchdog.watch(stalled=10, whole=15):
        timer.time = 108.0
        watchdog.beat()
        assert timer.due == 115 + REARM_SECONDS


def test_the_timer_is_put_back_once_a_second_however_many_beats(watchdog, timer):
    with watchdog.watch(stalled=10, whole=1000):
        for _ in range(1000):
            timer.time += 0.01
            watchdog.beat()
        assert timer.set <= 11
        assert timer.due >= timer.time + 10  # and never fires too soon for it


def test_work_that_stands_still_is_not_excused_by_other_work_that_gets_on(watchdog, timer):
    """Two units at once in an actor, as in Restore."""
    inside, leave = threading.Event(), threading.Event()

    def stuck() -> None:
        with watchdog.watch(stalled=10, whole=1000):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=stuck)
    thread.start()
    assert inside.wait(30)
    with watchdog.watch(stalled=10, whole=1000):
        for timer.time in (104.0, 108.0, 112.0):
            watchdog.beat()
        assert timer.due == pytest.approx(112.001)  # at once: its time was over at 111
        timer.time = 110.0
        watchdog.beat()
    leave.set()
    thread.join()
    assert timer.due is None


def test_a_pulse_is_of_the_thread_that_asked_for_it(watchdog, timer):
    with watchdog.watch(stalled=10, whole=1000):
        pulse = watchdog.pulse()
        timer.time = 105.0
        helper = threading.Thread(target=pulse)
        helper.start()
        helper.join()
        assert timer.due == 115 + REARM_SECONDS
    pulse()  # late, and of no work any more
    assert timer.due is None


def test_a_watch_within_a_watch_is_the_outer_one(watchdog, timer):
    with watchdog.watch(stalled=10, whole=1000):
        timer.time = 105.0
        with watchdog.watch(stalled=1, whole=1):
            assert timer.due == 110 + REARM_SECONDS
        assert timer.due == 110 + REARM_SECONDS


def test_outside_of_a_watch_nothing_is_set(watchdog, timer):
    watchdog.beat()
    beat()
    assert timer.set == 0


STUCK = """
import re, sys
from pipeline import last_words
from pipeline.config import build
from pipeline.blocks import to_block
from pipeline.records import Photo
from pipeline.stages import Stage

class Hanging(Stage):
    name = "hang"
    def __init__(self, config):
        pass
    def work(self, photos):
        {hang}

if sys.argv[1:]:
    print(last_words.prepare(), flush=True)
limits = {{"stalled_seconds": 1.0, "unit_seconds": {whole}}}
config = build({{"input": "in", "output": "out", "resources": limits}})
Hanging(config)(to_block("u", [Photo("u", 0, "a", "a.jpg", b"x")]))
"""
LOCKED = "re.match('(a*)*b', 'a' * 60)"  # hours in C, and the lock is held all the while
BUSY = "import pipeline.watchdog\n        while True: pipeline.watchdog.beat()"


@pytest.mark.parametrize(("hang", "whole"), [(LOCKED, 60), (BUSY, 2)], ids=["holding the lock", "beating for ever"])
def test_a_stage_that_hangs_ends_its_process_and_says_where_it_stood(hang, whole):
    began = time.monotonic()
    code = STUCK.format(hang=hang, whole=whole)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:0")
    assert "pipeline/stages.py" in done.stderr
    assert time.monotonic() - began < 60


def test_last_words_say_what_it_was_and_where(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(hang=LOCKED, whole=60), "words"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    path = done.stdout.strip()
    words = last_words.understand(last_words.take(path))
    assert (words.stalled, words.fault) == (True, "")
    assert words.place.startswith("match (re/__init__.py, line ")
    assert last_words.take(path) == ""  # taken


def test_a_fault_in_c_is_told_apart_from_a_stall():
    hang = "import ctypes; ctypes.string_at(0)"
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(hang=hang, whole=60), "words"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode < 0
    words = last_words.understand(last_words.take(done.stdout.strip()))
    assert (words.stalled, words.fault) == (False, "Segmentation fault")
    assert words.place.startswith("string_at (ctypes/__init__.py, line ")


def test_a_worker_that_was_killed_says_nothing():
    assert last_words.understand("") == last_words.LastWords(stalled=False, fault="", place="")
