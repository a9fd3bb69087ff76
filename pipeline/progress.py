"""Progress of a run: one live line on a terminal, a plain line every few seconds elsewhere, or events."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from pipeline.events.kinds import Progressed
from pipeline.events.lines import is_json_log
from pipeline.events.telling import tell

TERMINAL_SECONDS = 0.5
PLAIN_SECONDS = 10.0


@dataclass
class Tally:
    """What was committed."""

    photos: int = 0
    faces: int = 0
    rejected: int = 0


class Progress:
    """Counts what was committed and says so until it is closed; use it as a context manager.

    The share that is done is measured in bytes of input, the one measure known before shards are read.

    total_bytes: input left to do. stream: where to, stderr when not given. tally: to count in.
    """

    def __init__(self, total_bytes: int, stream: TextIO | None = None, tally: Tally | None = None) -> None:
        self._stream = _standard_error() if stream is None else stream
        self._is_ours = self._stream not in (stream, sys.stderr)
        self._silent = stream is None and is_json_log()
        self._live = self._stream.isatty() and not self._silent
        self._total, self._bytes = total_bytes, 0.0
        self.tally = tally or Tally()
        self._phase = "starting Ray"
        self._began = time.monotonic()
        self._working_since: float | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()
        tell(self.event())
        self._write(self.line(), last=True)
        if self._is_ours:
            self._stream.close()

    def phase(self, text: str) -> None:
        """Name what is happening, for example "restoring"."""
        with self._lock:
            self._phase = text
            if self._working_since is None and text != "starting Ray":
                self._working_since = time.monotonic()

    def add(self, photos: int, faces: int, rejected: int, share: float) -> None:
        """Count a committed unit; ``share`` is its part of the input in bytes."""
        with self._lock:
            self.tally.photos += photos
            self.tally.faces += faces
            self.tally.rejected += rejected
            self._bytes += share

    def event(self) -> Progressed:
        """The state for who listens."""
        with self._lock:
            now, working, done = self._state()
            left = working * (1 - done) / done if 0 < done < 1 and working > 0 else None
            return Progressed(
                phase=self._phase,
                done=done,
                photos=self.tally.photos,
                faces=self.tally.faces,
                rejected=self.tally.rejected,
                left=max(0, round(self._total - self._bytes)),
                seconds=round(now - self._began, 1),
                seconds_left=None if left is None else round(left, 1),
            )

    def _state(self) -> tuple[float, float, float]:
        """Now, how long it has been working, and the share that is done."""
        now = time.monotonic()
        working = now - self._working_since if self._working_since is not None else 0.0
        return now, working, min(1.0, self._bytes / self._total) if self._total else 1.0

    def line(self) -> str:
        """The state in one line."""
        with self._lock:
            now, working, done = self._state()
            parts = [self._phase, f"{done:4.0%}", f"{self.tally.photos} photos", f"{self.tally.faces} faces"]
            if self.tally.rejected:
                parts.append(f"{self.tally.rejected} rejected")
            if self.tally.photos and working > 0:
                parts.append(_rate(self.tally.photos / working))
            parts.append(f"{clock(now - self._began)} elapsed")
            if 0 < done < 1 and working > 0:
                parts.append(f"{clock(working * (1 - done) / done)} left")
        return "  ".join(parts)

    def _run(self) -> None:
        told = time.monotonic()
        while not self._closed.wait(TERMINAL_SECONDS if self._live else PLAIN_SECONDS):
            self._write(self.line())
            if (now := time.monotonic()) - told >= PLAIN_SECONDS - TERMINAL_SECONDS:
                told = now
                tell(self.event())

    def _write(self, line: str, last: bool = False) -> None:
        if self._silent:
            return
        self._stream.write(f"\r\x1b[2K{line}" + ("\n" if last else "") if self._live else line + "\n")
        self._stream.flush()


def _standard_error() -> TextIO:
    """Standard error by a descriptor of our own: a session with Ray redirects the usual one."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace")
    except (OSError, ValueError):  # a test's or a notebook's stand-in
        return sys.stderr


def clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate(per_second: float) -> str:
    return f"{per_second:.1f} photos/s" if per_second >= 1 else f"{per_second * 60:.1f} photos/min"
