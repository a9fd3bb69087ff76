"""The executions of a run: each `dr2e restore`, `pairs` or `retry` leaves a line of its history in the output.

They are for people: what is left to do follows from the commit records and never from these. An object per execution,
written when it begins and again when it ends; one that was killed has no end.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from pipeline.events.kinds import RunBegan, RunEnded
from pipeline.events.label import label_of
from pipeline.events.telling import of_run, tell
from pipeline.ledger import EXECUTIONS
from pipeline.parallel import ordered
from pipeline.progress import Tally
from pipeline.secrecy import shown
from pipeline.storage import Location, StorageError

log = logging.getLogger(__name__)

PATIENCE_AT_THE_END = 10.0
"""Seconds. A run that ends because its storage is away must not wait for it again to say so."""

_READERS = 16  # requests in flight

Outcome = Literal["complete", "failed", "interrupted"]


class Execution(BaseModel):
    """One execution.

    began, ended: UTC; ended and outcome are None until then, and stay so when it was killed. work: "restoring",
    "making pairs" or what else it did. reason: why it failed. shards, bytes: of the input; new_shards, new_bytes: of
    it, what was left to do; gone: shards that have commits and are no longer in the input; changed: shards that are not
    what their commits came from, and were done anew or left alone. photos, faces, rejected: committed. version: of
    dr2e.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)  # a later release may tell more

    format: Literal["dr2e.execution/1"] = "dr2e.execution/1"
    work: str
    began: AwareDatetime
    ended: AwareDatetime | None = None
    outcome: Outcome | None = None
    reason: str = ""
    shards: int = 0
    bytes: int = 0
    new_shards: int = 0
    new_bytes: int = 0
    gone: int = 0
    changed: int = 0
    photos: int = 0
    faces: int = 0
    rejected: int = 0
    version: str

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it has no end."""
        return None if self.ended is None else (self.ended - self.began).total_seconds()


@contextmanager
def chronicled(location: Location, begun: Execution) -> Iterator[Tally]:
    """Keep the history of an execution of the output at `location`, from its begin to its end, however it ends.

    begun: what is known at its begin. Yields what to count in. Storage that does not take it is a warning: an execution
    is not worth less for want of a line about it.
    """
    name = f"{EXECUTIONS}/{begun.began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.json"
    tally, began = Tally(), time.monotonic()
    outcome: Outcome = "interrupted"
    reason = ""
    with of_run(label_of(location.url)):
        tell(_began(location, begun))
        _put(location, name, begun)
        try:
            yield tally
            outcome = "complete"
        except Exception as error:
            outcome, reason = "failed", shown(" ".join(str(error).split()), location.options) or type(error).__name__
            raise
        finally:
            ended = begun.model_copy(update={"ended": now(), "outcome": outcome, "reason": reason, **vars(tally)})
            _put(Location(location.url, location.options, patience=PATIENCE_AT_THE_END), name, ended)
            tell(RunEnded(outcome=outcome, reason=reason, seconds=round(time.monotonic() - began, 3), **vars(tally)))


def _began(location: Location, begun: Execution) -> RunBegan:
    told = begun.model_dump(
        include={"work", "shards", "bytes", "new_shards", "new_bytes", "gone", "changed", "version"}
    )
    return RunBegan(output=location.url, **told)


def history(location: Location) -> list[Execution]:
    """The executions of an output, the first one first. What describes none is left out with a warning: nothing needs
    it. Raises StorageError."""
    names = [entry.name for entry in location.entries(EXECUTIONS) if entry.name.endswith(".json")]

    def read(name: str) -> Execution | None:
        data = location.read_or_none(name)
        try:
            return None if data is None else Execution.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors()[0]
            what = " ".join([*map(str, problem["loc"]), problem["msg"]])
            log.warning("%s/%s describes no execution (%s); nothing needs it, delete it", location.url, name, what)
            return None

    found = [execution for execution in ordered(read, names, _READERS) if execution is not None]
    return sorted(found, key=lambda execution: execution.began)


def now() -> datetime:
    """UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _put(location: Location, name: str, execution: Execution) -> None:
    try:
        location.put(name, execution.model_dump_json(indent=1).encode())
    except StorageError as error:
        log.warning("the history of this run lacks a line: %s", error)
