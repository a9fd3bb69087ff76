"""How far a run is and how fast it goes, from its records and its history alone: anybody may ask, from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.executions import Execution
from pipeline.ledger import CommitRecord

WINDOW = timedelta(minutes=10)
"""What counts as lately: a rate is of the commits since then, or of an execution that is younger."""


@dataclass(frozen=True)
class Pace:
    """Of the latest execution that went through the input; one of `dr2e retry` does not.

    state: "at work", as far as anybody can tell, or how it ended: "complete", "failed" or "interrupted". share: of the
    input's bytes that is committed, 0 to 1. photos_per_second, faces_per_second: lately while it is at work, else over
    all of it. seconds_left: at the rate of all its commits; None when there is none yet, or when it has ended.
    silent_seconds: since it last committed or began, while it is at work.
    """

    state: str
    share: float
    photos_per_second: float
    faces_per_second: float
    seconds_left: float | None
    silent_seconds: float | None


class PaceKeeper:
    """Is shown every commit record once, in any order, and then says the pace at a moment."""

    def __init__(self, execution: Execution, now: datetime) -> None:
        """execution: the latest one. now: with a time zone."""
        self._execution, self._now = execution, now
        self._until = execution.ended or now
        self._since = execution.began if execution.ended else max(execution.began, now - WINDOW)
        self._last = execution.began
        self._bytes = 0.0
        self._photos = self._faces = 0

    def add(self, record: CommitRecord) -> None:
        """Count what was committed since the execution began, whoever did it."""
        ended = datetime.fromisoformat(record.ended).astimezone(self._now.tzinfo)
        if ended < self._execution.began:
            return
        self._bytes += record.shard_bytes / record.parts
        self._last = max(self._last, ended)
        if ended >= self._since:
            self._photos += record.counts["photos"]
            self._faces += record.counts["faces"]

    def pace(self) -> Pace:
        execution = self._execution
        left = max(0.0, execution.new_bytes - self._bytes) if execution.outcome != "complete" else 0.0
        seconds = max(1.0, (self._until - self._since).total_seconds())
        working = (self._last - execution.began).total_seconds()
        at_work = execution.ended is None
        return Pace(
            state=execution.outcome or "at work",
            share=1 - left / execution.bytes if execution.bytes else 1.0,
            photos_per_second=self._photos / seconds,
            faces_per_second=self._faces / seconds,
            seconds_left=left * working / self._bytes if at_work and self._bytes else None,
            silent_seconds=max(0.0, (self._now - self._last).total_seconds()) if at_work else None,
        )
