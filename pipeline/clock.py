"""Time of an actor that works on several units at once, counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedClock:
    """Shares seconds out among the pieces of work that go on at the same time: together they never make more seconds
    than went by."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """now: a clock in seconds."""
        self._now, self._lock = now, threading.Lock()
        self._spent: dict[object, float] = {}
        self._since = 0.0

    @contextmanager
    def work(self) -> Iterator[Callable[[], float]]:
        """Inside, a piece of work goes on; what is handed out tells its seconds up to now."""
        piece = object()
        with self._lock:
            self._share()
            self._spent[piece] = 0.0

        def seconds() -> float:
            with self._lock:
                self._share()
                return self._spent[piece]

        try:
            yield seconds
        finally:
            with self._lock:
                self._share()
                del self._spent[piece]

    def _share(self) -> None:
        now = self._now()
        for piece in self._spent:
            self._spent[piece] += (now - self._since) / len(self._spent)
        self._since = now
