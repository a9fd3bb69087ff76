"""Following a job: what it says as it says it, and how it ends, through a dashboard that may be away for a while."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from ray.dashboard.modules.job.pydantic_models import JobDetails

from jobs.cli import FAILED, QUARANTINED, SIGNALLED, USAGE
from jobs.submission.client import Cluster, SubmitError
from pipeline.secrecy import shown
from pipeline.transient import pauses

PATIENCE = 300.0
"""Seconds that a dashboard may be away at a time: long enough to start it anew, and the job goes on without it."""

LOOK_SECONDS = 5.0
"""From one look at a silent job to the next: a connection to a machine that is gone is silent as well."""

STARTED_BY_SHELL = 127  # "command not found"

_MEANINGS = {
    FAILED: "it failed",
    USAGE: "wrong usage or configuration",
    QUARANTINED: "complete, with quarantined photos",
}

Write = Callable[[str], None]


class JobLost(RuntimeError):
    """Nobody can say what became of a job: one line with the remedy."""


@dataclass(frozen=True)
class End:
    """How a job ended. status: Ray's word for it. code: its driver's exit code, as a shell has it. told: a line."""

    status: str
    code: int
    told: str


def follow(cluster: Cluster, job: str, write: Write, warn: Write, patience: float = PATIENCE) -> End:
    """Pass on what a job says until it ends. write: takes its log. warn: takes lines of ours. patience: seconds that
    the dashboard may be away at a time. Raises JobLost."""
    return asyncio.run(_Following(cluster, job, write, warn, patience).run())


def settled(cluster: Cluster, job: str, warn: Write, patience: float = PATIENCE) -> End:
    """Wait until a job has ended, without a word of it. Raises JobLost."""
    following = _Following(cluster, job, lambda text: None, warn, patience)
    while not (found := following.look()).status.is_terminal():
        time.sleep(1)
    return ending(found)


class _Following:
    """shown: characters of the log that were passed on; each connection begins anew at the first one."""

    def __init__(self, cluster: Cluster, job: str, write: Write, warn: Write, patience: float) -> None:
        self.cluster, self.job, self.write, self.warn, self.patience = cluster, job, write, warn, patience
        self.shown = 0

    async def run(self) -> End:
        while True:
            await self.listen()
            found = self.look()
            if found.status.is_terminal():
                self.pass_on_the_rest()
                return ending(found)
            await asyncio.sleep(1)

    async def listen(self) -> None:
        """Pass on one connection's words until it or the job ends."""
        stream, heard = aiter(self.cluster.tail(self.job)), 0
        while True:
            word = asyncio.ensure_future(anext(stream, None))
            try:
                while not (await asyncio.wait({word}, timeout=LOOK_SECONDS))[0]:
                    if self.look().status.is_terminal():
                        return
            finally:
                if not word.done():
                    word.cancel()
            try:
                text = word.result()
            except (RuntimeError, OSError, aiohttp.ClientError):
                return  # the dashboard, or the driver's machine; the next look says which
            if text is None:
                return
            heard += len(text)
            self.pass_on(text[len(text) - (heard - self.shown) :] if heard > self.shown else "")

    def pass_on(self, text: str) -> None:
        if text:
            self.write(text)
            self.shown += len(text)

    def pass_on_the_rest(self) -> None:
        try:
            self.pass_on(self.cluster.log(self.job)[self.shown :])
        except SubmitError as error:
            self.warn(f"the end of its log cannot be read: {error}")

    def look(self) -> JobDetails:
        """What Ray knows of the job. Raises JobLost when the dashboard stays away, or knows it no more."""
        away, told = time.monotonic(), False
        for pause in pauses():
            try:
                found = self.cluster.details(self.job)
                break
            except SubmitError as error:  # while a cluster's head recovers, its dashboard may say anything
                if not told and time.monotonic() > away + 1:
                    told = True
                    self.warn(f"the dashboard at {self.cluster.url} does not answer; trying again")
                if time.monotonic() + pause > away + self.patience:
                    raise JobLost(f"{error}; what became of job {self.job} is unknown, follow it again later") from None
                time.sleep(pause)
        if found is None:
            raise JobLost(
                f"the cluster at {self.cluster.url} does not know job {self.job}: it was started anew, or has dropped "
                "it; submit the same command again to go on"
            )
        return found


def ending(job: JobDetails) -> End:
    """How a job ended, of what Ray knows of it."""
    status, name, code = str(job.status), job.submission_id, job.driver_exit_code
    again = "submit the same command again to go on"
    if status == "SUCCEEDED":
        return End(status, 0, f"job {name} is complete")
    if status == "STOPPED":
        return End(status, SIGNALLED + signal.SIGTERM, f"job {name} was stopped; {again}")
    if code is None:  # Ray could not start it, or lost it with its machine
        why = next((line.strip() for line in (job.message or "").splitlines() if line.strip()), "Ray does not say why")
        return End(status, FAILED, f"job {name} failed: {shown(why)[:300].rstrip('.')}; {again}")
    code = SIGNALLED - code if code < 0 else code
    if code == STARTED_BY_SHELL:
        return End(
            status, code, f"job {name} found no such program on the cluster's head; name its Python with --python"
        )
    if code > SIGNALLED:
        return End(status, code, f"the driver of job {name} was ended by {_signal(code - SIGNALLED)}; {again}")
    meaning = f" ({_MEANINGS[code]})" if code in _MEANINGS else ""
    return End(status, code, f"job {name} ended with exit code {code}{meaning}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
