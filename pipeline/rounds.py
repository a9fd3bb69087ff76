"""Rounds of the stream over what is missing, then photo by photo."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

from ray.exceptions import RayError

from pipeline.driver import bytes_left
from pipeline.inputs import ShardRef
from pipeline.isolate import WorkersDie, isolate
from pipeline.plan import Plan, make_plan
from pipeline.progress import Progress
from pipeline.resources import Sizes, sizes
from pipeline.run import Run
from pipeline.session import session
from pipeline.sink import Outcome
from pipeline.storage import StorageError
from pipeline.stream import stream

log = logging.getLogger(__name__)


class RunFailed(RuntimeError):
    """Units stay undone; one line with the reason. What is committed stays, and the same command continues."""


def run_rounds(run: Run, shards: Sequence[ShardRef], address: str | None, to: TextIO | None) -> None:
    """Restore until every unit of ``shards`` is committed. Raises RunFailed, ClusterError, ConfigError."""
    plan = make_plan(shards, run.output.committed())
    with Progress(bytes_left(plan), to) as progress, session(address) as nodes:
        try:
            _Rounds(run, shards, sizes(run.config.resources, nodes), progress).run_all()
        except (RayError, WorkersDie, StorageError) as error:
            raise RunFailed(gist(error)) from error


class _Rounds:
    def __init__(self, run: Run, shards: Sequence[ShardRef], widths: Sizes, progress: Progress) -> None:
        self.run, self.shards, self.widths, self.progress = run, shards, widths, progress
        self.failures: dict[str, str] = {}

    def run_all(self) -> None:
        for number in range(1, self.run.config.resources.rounds + 1):
            plan = self.plan()
            if plan.complete:
                return
            self.progress.phase("restoring" if number == 1 else f"round {number}")
            self.follow(stream(self.run, plan.pending, self.widths))
            self.tell_losses(number)
        plan = self.plan()
        if not plan.complete:
            self.progress.phase("photo by photo")
            self.follow(isolate(self.run, plan.pending, self.widths))
        if not self.plan().complete:
            unit, reason = next(iter(self.failures.items()), ("", "its workers died"))
            raise RunFailed(f"{len(self.failures)} units could not be finished; {unit}: {reason}")

    def tell_losses(self, number: int) -> None:
        """Say what a round left undone, and why where that is known."""
        for unit, reason in self.failures.items():
            log.warning("round %d did not finish %s: %s", number, unit, reason)
        if not self.failures and (left := len(self.plan().pending)):
            log.warning("round %d lost units of %d shards: their workers died", number, left)

    def plan(self) -> Plan:
        return make_plan(self.shards, self.run.output.committed())

    def follow(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.failure:
                self.failures[outcome.unit] = outcome.failure
            else:
                self.failures.pop(outcome.unit, None)
                self.progress.add(outcome.photos, outcome.faces, outcome.rejected, outcome.share)


def gist(error: BaseException) -> str:
    """One line of an error whose text may be a remote traceback: how it begins, and the cause at its end."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0].partition(',')[0]}: {lines[-1]}"
