"""Why blocks were lost: Ray Data goes on without them, and tells nobody but its log."""

from __future__ import annotations

import logging
import re
from typing import Self

from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayTaskError, UserCodeException

from pipeline.events.kinds import WorkerLost
from pipeline.events.telling import tell
from pipeline.room import is_full

_RAY_DATA = logging.getLogger("ray.data")

_NO_ROOM = (
    "Ray's object store is full, and so is the disk it spills to; free some space in Ray's temporary folder, or start "
    "Ray with more of either (--object-store-memory, --object-spilling-directory); finished units stay"
)


class Losses(logging.Handler):
    """Listens to Ray Data while it is entered, and forgets what it heard when it is entered again.

    count: errors heard; for_want_of_room: of them, those of a full object store or disk. reason: the latest, one line.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = self.for_want_of_room = 0
        self.reason = ""

    def __enter__(self) -> Self:
        self.count = self.for_want_of_room = 0
        self.reason = ""
        _RAY_DATA.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _RAY_DATA.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self.note(error)

    def note(self, error: BaseException) -> None:
        """Count an error that something else than Ray Data's log tells of."""
        cause = _cause(error)
        no_room = is_want_of_room(cause)
        self.count += 1
        self.for_want_of_room += no_room
        self.reason = _NO_ROOM if no_room else f"{type(cause).__name__}: {_first_line(cause)}"
        tell(WorkerLost(cause="room" if no_room else "other", reason=self.reason))


def is_want_of_room(error: BaseException) -> bool:
    """Whether memory of the object store or a disk is full."""
    if isinstance(error, OutOfDiskError | ObjectStoreFullError):
        return True
    return is_full(error)


def _cause(error: BaseException) -> BaseException:
    """What a worker raised, behind what Ray wraps it in."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return _cause(error.cause)
    if isinstance(error, UserCodeException) and error.__cause__ is not None:
        return _cause(error.__cause__)
    return error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()]
    return next((line for line in lines if line), "no message")
