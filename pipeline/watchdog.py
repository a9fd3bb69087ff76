"""A worker that gets nowhere ends its own process: to Ray a dead worker, whose work is tried again elsewhere.

What hangs may hold the interpreter's lock, a decoder in an endless loop for example, so no Python code can be relied
on to notice. `faulthandler` has a timer in C that needs no lock; it writes where every thread stands and exits. Whoever
works says so now and then, with `beat`, and that puts the timer back.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

REARM_SECONDS = 1.0
"""The timer is put back at most so often, because that starts a thread; it fires so much later."""

_STANDARD_ERROR = 2  # Ray's log of the worker, whatever a test may have made of sys.stderr


@dataclass(eq=False)
class _Piece:
    """Work of one thread. begun, last: when it began and last got on; stalled, whole: see `Watchdog.watch`."""

    begun: float
    last: float
    stalled: float
    whole: float

    @property
    def deadline(self) -> float:
        return min(self.last + self.stalled, self.begun + self.whole)


class Watchdog:
    """Ends the process when one of the pieces of work that go on in it gets nowhere.

    file: the descriptor that the last words go to; standard error unless set.
    """

    def __init__(
        self,
        arm: Callable[[float, int], None] | None = None,
        disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """arm(seconds, file), disarm: of the only timer; the process ends when it runs out. now: a clock in seconds."""
        self.file = _STANDARD_ERROR
        self._arm, self._disarm, self._now = arm or _arm, disarm, now
        self._lock, self._here = threading.Lock(), threading.local()
        self._pieces: list[_Piece] = []
        self._armed_at = 0.0

    @contextmanager
    def watch(self, stalled: float, whole: float) -> Iterator[None]:
        """Inside, this thread works. The process ends when it has not called `beat` for `stalled` seconds, or is still
        here after `whole` seconds. Inside another `watch` of the same thread it does nothing: that one holds."""
        if getattr(self._here, "piece", None) is not None:
            yield
            return
        now = self._now()
        piece = self._here.piece = _Piece(now, now, stalled, whole)
        with self._lock:
            self._pieces.append(piece)
            self._set_timer()
        try:
            yield
        finally:
            self._here.piece = None
            with self._lock:
                self._pieces.remove(piece)
                self._set_timer()

    def beat(self) -> None:
        """This thread has got on. Costs next to nothing; does nothing outside of `watch`."""
        self.pulse()()

    def pulse(self) -> Callable[[], None]:
        """`beat` of this thread's work, for another thread that does a part of it."""
        piece = getattr(self._here, "piece", None)
        return _nothing if piece is None else lambda: self._got_on(piece)

    def _got_on(self, piece: _Piece) -> None:
        with self._lock:
            piece.last = self._now()
            if piece in self._pieces and piece.last - self._armed_at >= REARM_SECONDS:
                self._set_timer()

    def _set_timer(self) -> None:
        """To the earliest deadline: one piece that stands still is not excused by another that gets on."""
        if not self._pieces:
            self._disarm()
            return
        self._armed_at = self._now()
        left = min(piece.deadline for piece in self._pieces) + REARM_SECONDS - self._armed_at
        self._arm(max(left, 0.001), self.file)


def _arm(seconds: float, file: int) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=file)


def _nothing() -> None:
    return


WATCHDOG = Watchdog()
"""The process's own: there is one timer per process."""

watch, beat, pulse = WATCHDOG.watch, WATCHDOG.beat, WATCHDOG.pulse
