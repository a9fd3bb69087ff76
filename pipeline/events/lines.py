"""Events and log records as JSON, one line each: a file of events, and the log of who wants no text.

Each line has time (UTC, ISO 8601), level, run, event, unit, key and message, "" where there is none, and the fields of
its kind.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pipeline.config import ConfigError
from pipeline.events.kinds import Level, Progressed
from pipeline.events.telling import Told, current_run, listen, listening, unlisten
from pipeline.secrecy import shown

LOGGED = "log"
"""The event of a line that is no event but something that was logged or said."""


def line(told: Told) -> str:
    """An event as JSON, without the end of the line."""
    fields = told.event.model_dump(mode="json")
    return _line(told.time, told.event.level, told.run, told.event.name(), told.event.message(), fields)


def said(message: str, level: Level = "info") -> str:
    """A line for something that was said."""
    return _line(datetime.now(UTC), level, current_run(), LOGGED, message, {})


def _line(time: datetime, level: Level, run: str, event: str, message: str, fields: dict[str, Any]) -> str:
    common = {"time": time.isoformat(timespec="milliseconds"), "level": level, "run": run, "event": event}
    whole = {**common, "unit": "", "key": "", **fields, "message": " ".join(message.split())}
    return json.dumps({name: shown(value) if isinstance(value, str) else value for name, value in whole.items()})


class EventsFile:
    """A listener that appends to a file, flushed line by line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __repr__(self) -> str:
        return str(self._file.name)

    def __call__(self, told: Told) -> None:
        if not isinstance(told.event, Progressed):  # units tell that better, and for good
            self._file.write(f"{line(told)}\n")
            self._file.flush()


@contextmanager
def events_to(path: Path | None) -> Iterator[None]:
    """Inside, events are appended to the file at `path`; None: to no file. Raises ConfigError when it cannot be written
    to."""
    if path is None:
        yield
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--events {path}: {error.strerror}; name a file in a folder that is there") from None
    with file, listening(EventsFile(file)):
        yield


class JsonLog(logging.Handler):
    """The log of a command as JSON lines on standard error: events, and whatever else is logged there."""

    def __call__(self, told: Told) -> None:
        say(line(told))

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "told", False):  # an event, which comes by itself
            return
        try:
            level: Level = "error" if record.levelno >= logging.ERROR else "warning"
            text = self.format(record)
            say(said(text, level))
        except Exception:
            self.handleError(record)


class LineByLine:
    """A stand-in for standard output whose lines become lines of the JSON log."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for each in lines:
            if each.strip():
                say(said(each))
        return len(text)

    def flush(self) -> None:
        return


def say(text: str) -> None:
    """A line on standard error, in one piece."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


_json_log: JsonLog | None = None


def begin_json_log() -> None:
    """This process logs JSON lines from now on."""
    global _json_log
    if _json_log is None:
        _json_log = JsonLog(logging.WARNING)
        logging.getLogger().addHandler(_json_log)
        logging.captureWarnings(True)
        listen(_json_log)


def end_json_log() -> None:
    """It does no more; for tests, and whoever calls commands as functions."""
    global _json_log
    if _json_log is not None:
        logging.getLogger().removeHandler(_json_log)
        logging.captureWarnings(False)
        unlisten(_json_log)
        _json_log = None


def is_json_log() -> bool:
    """Whether this process logs JSON lines."""
    return _json_log is not None
