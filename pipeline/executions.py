"""The executions of a run: each `dr2e restore` or `pairs` of an output leaves a line of its history there.

They are for people: what is left to do follows from the commit records and never from these. An object per execution,
written when it begins and again when it ends; one that was killed has no end.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pipeline.ledger import LedgerError
from pipeline.parallel import ordered
from pipeline.progress import Tally
from pipeline.secrecy import shown
from pipeline.storage import Location, StorageError

log = logging.getLogger(__name__)

EXECUTIONS = "executions"
FORMAT = "dr2e.execution/1"

PATIENCE_AT_THE_END = 10.0
"""Seconds. A run that ends because its storage is away must not wait for it again to say so."""

_READERS = 16  # requests in flight

Outcome = Literal["", "complete", "failed", "interrupted"]


@dataclass(frozen=True)
class Execution:
    """One execution. began, ended: ISO 8601, UTC; ended is "" until then, and stays so when it was killed.

    work: "restoring", "making pairs" or what else it did. outcome: "" until it ended; reason: why it failed. shards,
    size: of the input, size in bytes; new_shards, new_bytes: of it, what was left to do; gone: shards that have commits
    and are no longer in the input. photos, faces, rejected: committed. version: of dr2e.
    """

    began: str
    work: str = ""
    ended: str = ""
    outcome: Outcome = ""
    reason: str = ""
    shards: int = 0
    size: int = 0
    new_shards: int = 0
    new_bytes: int = 0
    gone: int = 0
    photos: int = 0
    faces: int = 0
    rejected: int = 0
    version: str = ""
    format: str = field(default=FORMAT, repr=False)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Read what `to_json` made. Raises LedgerError, naming the object."""
        try:
            told = json.loads(data)
            if told["format"] != FORMAT:
                raise ValueError(f"its format is {told['format']!r}")
            found = cls(**told)
            wrong = [one.name for one in fields(cls) if not isinstance(getattr(found, one.name), _TYPES[str(one.type)])]
            if wrong:
                raise ValueError(f"{', '.join(wrong)} of another type")
            datetime.fromisoformat(found.began)
            datetime.fromisoformat(found.ended or found.began)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LedgerError(f"{name} describes no execution ({error}); nothing needs it, delete it") from None
        return found

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it has no end."""
        if not self.ended:
            return None
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.began)).total_seconds()


_TYPES: dict[str, type] = {"str": str, "int": int, "Outcome": str}


@contextmanager
def recorded(location: Location, begun: Execution) -> Iterator[Tally]:
    """Tell of an execution of the output at `location`, from its begin to its end, however it ends.

    begun: what is known at its begin. Yields what to count in. Storage that does not take it is a warning: an execution
    is not worth less for want of a line about it.
    """
    name = f"{EXECUTIONS}/{begun.began.replace(':', '').replace('-', '')}-{secrets.token_hex(4)}.json"
    _put(location, name, begun)
    tally = Tally()
    outcome: Outcome = "interrupted"
    reason = ""
    try:
        yield tally
        outcome = "complete"
    except Exception as error:
        outcome, reason = "failed", shown(" ".join(str(error).split()), location.options) or type(error).__name__
        raise
    finally:
        ended = replace(
            begun, ended=now(), outcome=outcome, reason=reason,
            photos=tally.photos, faces=tally.faces, rejected=tally.rejected,
        )  # fmt: skip
        _put(Location(location.url, location.options, patience=PATIENCE_AT_THE_END), name, ended)


def history(location: Location) -> list[Execution]:
    """The executions of an output, the first one first. Raises StorageError, and LedgerError for a broken object."""
    names = [entry.name for entry in location.entries(EXECUTIONS) if entry.name.endswith(".json")]

    def read(name: str) -> Execution:
        return Execution.from_json(location.read(name), f"{location.url}/{name}")

    return sorted(ordered(read, names, _READERS), key=lambda execution: execution.began)


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _put(location: Location, name: str, execution: Execution) -> None:
    try:
        location.put(name, execution.to_json())
    except StorageError as error:
        log.warning("the history of this run lacks a line: %s", error)


def to_dict(execution: Execution) -> dict[str, Any]:
    """For JSON, with its duration."""
    return {**asdict(execution), "seconds": execution.seconds}
