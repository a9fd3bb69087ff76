"""Where events are told and heard. In a worker nobody listens, and telling costs nothing.

No run fails of who listens to it: an error of a listener is a warning, once, and the end of its listening.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.events.kinds import Event

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """An event with its time (UTC) and the label of the run it is of; "" outside of one."""

    time: datetime
    run: str
    event: Event


Listener = Callable[[Told], None]

_lock = threading.RLock()
_listeners: list[Listener] = []
_run = ""


def tell(event: Event, to: logging.Logger | None = None) -> None:
    """Tell an event to all who listen. to: a log that says it as well, where people read a log and no events."""
    if to is not None:
        to.warning("%s", event.message(), extra={"told": True})
    if not _listeners:
        return
    told = Told(datetime.now(UTC), _run, event)
    with _lock:
        for listener in list(_listeners):
            try:
                listener(told)
            except Exception as error:
                _listeners.remove(listener)
                log.warning("%s is not told of events any more: %s", listener, error)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, `listener` is told of everything, one event at a time, by whichever thread tells."""
    listen(listener)
    try:
        yield
    finally:
        unlisten(listener)


def listen(listener: Listener) -> None:
    """From now on `listener` is told of everything; see `listening`."""
    with _lock:
        _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """It is told of nothing more."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)


@contextmanager
def of_run(label: str) -> Iterator[None]:
    """Inside, what is told is of this run; in all threads, for a process does one run at a time."""
    global _run
    before, _run = _run, label
    try:
        yield
    finally:
        _run = before


def serve(label: str) -> None:
    """This process works for that run from now on: a worker's, which may be another's next."""
    global _run
    _run = label


def current_run() -> str:
    """The label of the run this process is at; "" when it is at none."""
    return _run
