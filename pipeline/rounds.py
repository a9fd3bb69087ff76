"""Rounds of the stream over what is missing, then photo by photo."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TextIO

from ray.exceptions import RayError

from pipeline.isolate import WorkersDie, isolate
from pipeline.progress import Progress
from pipeline.resources import Sizes, sizes
from pipeline.run import Run
from pipeline.session import session
from pipeline.sink import Outcome
from pipeline.stream import stream
from pipeline.work import Left, Work

log = logging.getLogger(__name__)

READS_AT_ONCE = 250
"""Shards of one execution of the graph. Ray remembers every task until its execution ends, so the driver would grow
with the collection; between two executions workers start anew, which takes seconds where so many shards take hours."""


class RunFailed(RuntimeError):
    """Units stay undone; one line with the reason. What is committed stays, and the same command continues."""


def run_rounds(run: Run, work: Work, address: str | None, to: TextIO | None) -> None:
    """Restore until nothing of ``work`` is left. Raises RunFailed, ClusterError, ConfigError, StorageError."""
    with Progress(work.left().bytes, to) as progress, session(address) as nodes:
        try:
            _Rounds(run, work, sizes(run.config.resources, nodes), progress).run_all()
        except (RayError, WorkersDie) as error:
            raise RunFailed(gist(error)) from error


class _Rounds:
    """Rounds go on as long as each finishes something: dead nodes and busy storage cost time, not the run.

    failures: why units were not finished in the latest round, by unit, where that is known.
    """

    def __init__(self, run: Run, work: Work, widths: Sizes, progress: Progress) -> None:
        self.run, self.work, self.widths, self.progress = run, work, widths, progress
        self.failures: dict[str, Outcome] = {}
        self.number = 0

    def run_all(self) -> None:
        left, idle = self.work.left(), 0
        while not left.complete and idle < self.run.config.resources.rounds:
            before = left.committed
            self.round(left)
            left = self.work.left()
            idle = 0 if left.committed > before else idle + 1
            if not left.complete:
                self.tell_losses(len(left.reads))
        if not left.complete and not self.all_outside():
            self.progress.phase("photo by photo")
            self.follow(isolate(self.run, left.reads, self.widths))
            left = self.work.left()
        if not left.complete:
            failure = next(iter(self.failures.values()), None)
            reason = f"{failure.unit}: {failure.failure}" if failure else "their workers died"
            raise RunFailed(f"not everything could be finished; {reason}; run it again to go on")

    def round(self, left: Left) -> None:
        """One pass of the stream over everything; where it breaks off, what it has committed stays."""
        self.number += 1
        self.failures.clear()
        self.progress.phase("restoring" if self.number == 1 else f"round {self.number}")
        for start in range(0, len(left.reads), READS_AT_ONCE):
            try:
                self.follow(stream(self.run, left.reads[start : start + READS_AT_ONCE], self.widths))
            except RayError as error:
                log.warning("round %d broke off: %s", self.number, gist(error))

    def all_outside(self) -> bool:
        """Whether storage or the input is why the latest round finished nothing: no photo is to blame then."""
        return bool(self.failures) and all(failure.outside for failure in self.failures.values())

    def tell_losses(self, shards: int) -> None:
        """Say what the latest round left undone, and why where that is known."""
        for failure in self.failures.values():
            log.warning("round %d did not finish %s: %s", self.number, failure.unit, failure.failure)
        if not self.failures:
            log.warning("round %d lost units of %d shards: their workers died", self.number, shards)

    def follow(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.failure:
                self.failures[outcome.unit] = outcome
            else:
                self.failures.pop(outcome.unit, None)
                self.progress.add(outcome.photos, outcome.faces, outcome.rejected, outcome.share)


def gist(error: BaseException) -> str:
    """One line of an error whose text may be a remote traceback: how it begins, and the cause at its end."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0].partition(',')[0]}: {lines[-1]}"
