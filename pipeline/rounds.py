"""Rounds of the stream over what is missing, then photo by photo."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterable
from typing import TextIO

from ray.exceptions import RayError

from pipeline.events.kinds import (
    IsolationBegan,
    IsolationEnded,
    PhotoRejected,
    RoundBegan,
    RoundBrokeOff,
    UnitFailed,
    UnitsLost,
    UnitsUnheard,
)
from pipeline.events.telling import listening, tell
from pipeline.isolate import WorkersDie, isolate
from pipeline.ledger import LedgerError
from pipeline.losses import Losses
from pipeline.metrics.driver import DriverMetrics
from pipeline.progress import Progress, Tally
from pipeline.resources import shards_at_once
from pipeline.run import Run
from pipeline.session import nodes, session
from pipeline.sink import Outcome
from pipeline.storage import StorageError
from pipeline.stream import stream
from pipeline.units import ShardChanged
from pipeline.width import Width
from pipeline.work import Left, Work

log = logging.getLogger(__name__)

REFUSALS = 8
"""So many finished units that the output did not take since it last took one, and twice what commits at a time: the run
ends before it has restored the rest of the collection in vain."""


class RunFailed(RuntimeError):
    """Units stay undone; one line with the reason. What is committed stays, and the same command continues."""


def run_rounds(run: Run, work: Work, address: str | None, to: TextIO | None, tally: Tally | None = None) -> None:
    """Restore until nothing of ``work`` is left. tally: to count in. Raises RunFailed, ClusterError, ConfigError."""
    with (
        Progress(work.left().bytes, to, tally) as progress,
        session(address, run.config.resources),
        listening(DriverMetrics(run.label)),
    ):
        try:
            _Rounds(run, work, Width(run.config.resources, nodes), progress).run_all()
        except (RayError, WorkersDie) as error:
            raise RunFailed(gist(error)) from error
        # Errors of usage only before anything was done:
        except (StorageError, LedgerError) as error:
            raise RunFailed(f"{error}; what is committed stays, run it again to go on") from error
        except ShardChanged as error:
            raise RunFailed(str(error)) from error


class _Rounds:
    """Rounds go on as long as each finishes something: dead nodes and busy storage cost time, not the run.

    failures: why units were not finished in the latest round, by unit, where that is known; losses: what Ray says of
    those that nobody came back with. refusals: units that the output did not take since it last took one.
    """

    def __init__(self, run: Run, work: Work, width: Width, progress: Progress) -> None:
        self.run, self.work, self.width, self.progress = run, work, width, progress
        self.failures: dict[str, Outcome] = {}
        self.losses = Losses()
        self.number = self.refusals = self.committed = 0

    def run_all(self) -> None:
        left, idle = self.work.left(), 0
        while not left.complete and idle < self.run.config.resources.rounds:
            before, heard = left.committed, self.committed
            self.round(left)
            left = self.work.left()
            self.tell_unheard(left.committed - before - (self.committed - heard))
            idle = 0 if left.committed > before else idle + 1
            if not left.complete:
                self.tell_losses(len(left.reads))
        if not left.complete and self.may_be_a_photos_doing():
            self.progress.phase("photo by photo")
            self.alone(left)
            left = self.work.left()
        if not left.complete:
            raise RunFailed(f"not everything could be finished; {self.reason()}; run it again to go on")

    def round(self, left: Left) -> None:
        """One pass of the stream over everything; where it breaks off, what it has committed stays."""
        self.number += 1
        tell(RoundBegan(number=self.number, shards=len(left.reads), bytes=left.bytes))
        self.failures.clear()
        self.progress.phase(self.run.product.verb if self.number == 1 else f"round {self.number}")
        ahead = deque(left.reads)
        with self.losses:
            while ahead:
                committed = self.committed
                at_once = shards_at_once(self.run.config.resources, self.width.sizes.restore.workers)
                reads = [ahead.popleft() for _ in range(min(at_once, len(ahead)))]
                try:
                    self.width.settle()
                    self.follow(stream(self.run, reads, self.width.sizes))
                except (RayError, OSError) as error:  # Ray Data's own files may find the disk full
                    self.losses.note(error)
                    tell(RoundBrokeOff(number=self.number, reason=gist(error)), log)
                if self.losses.for_want_of_room and self.committed == committed:
                    break  # the next shards would find no more room

    def alone(self, left: Left) -> None:
        """Photo by photo over everything that is left."""
        committed = self.committed
        tell(IsolationBegan(shards=len(left.reads)))
        self.width.settle()
        try:
            self.follow(isolate(self.run, left.reads, self.width.sizes))
        finally:
            tell(IsolationEnded(units=self.committed - committed))

    def may_be_a_photos_doing(self) -> bool:
        """Whether anything of the latest round failed for another reason than storage, the input or want of room."""
        if not self.failures and not self.losses.count:
            return True  # lost without a word
        return self.losses.count > self.losses.for_want_of_room or not all(
            failure.outside for failure in self.failures.values()
        )

    def reason(self) -> str:
        """Why something is left, as far as anybody knows."""
        failure = next(iter(self.failures.values()), None)
        return f"{failure.unit}: {failure.failure}" if failure else self.losses.reason or "their workers ended"

    def tell_losses(self, shards: int) -> None:
        """Say what the latest round left undone, and why where that is known."""
        for failure in self.failures.values():
            line = "round %d did not finish %s: %s"
            log.warning(line, self.number, failure.unit, failure.failure, extra={"told": True})
        if not self.failures:
            tell(UnitsLost(number=self.number, shards=shards, reason=self.reason()), log)

    def tell_unheard(self, units: int) -> None:
        """Tell of units that the latest round committed and nobody said so; of commits alone."""
        if units > 0 and self.run.product.sink is None:
            tell(UnitsUnheard(units=units))

    def follow(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.refusals += outcome.refused
            tell_outcome(outcome)
            if outcome.failure:
                self.failures[outcome.unit] = outcome
                if self.refusals >= max(REFUSALS, 2 * self.width.commits):
                    raise RunFailed(
                        f"{self.refusals} units were restored and could not be stored, and none could meanwhile; "
                        f"{outcome.unit}: {outcome.failure}; mend that and run it again to go on"
                    )
            else:
                self.refusals, self.committed = 0, self.committed + 1
                self.failures.pop(outcome.unit, None)
                self.progress.add(outcome.photos, outcome.faces, outcome.rejected, outcome.share)


def tell_outcome(outcome: Outcome) -> None:
    """The events of an outcome."""
    if outcome.failure:
        reason = outcome.failure
        tell(UnitFailed(unit=outcome.unit, outside=outcome.outside, refused=outcome.refused, reason=reason))
    elif outcome.committed is not None:
        tell(outcome.committed)
        for key, code in outcome.rejects:
            tell(PhotoRejected(unit=outcome.unit, key=key, code=code))


def gist(error: BaseException) -> str:
    """One line of an error whose text may be a remote traceback: how it begins, and the cause at its end."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0].partition(',')[0]}: {lines[-1]}"
