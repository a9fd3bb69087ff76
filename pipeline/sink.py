"""The last stage: a finished unit is stored, as a rule committed, and the driver hears what it held."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from pipeline.blocks import failure_of, from_block, unit_of
from pipeline.commit import CommitError, Receipt, commit_unit
from pipeline.events.kinds import UnitCommitted
from pipeline.metrics.counting import code_of
from pipeline.metrics.working import COMMIT, Meter
from pipeline.records import Photo
from pipeline.room import explained
from pipeline.run import Run
from pipeline.storage import StorageError
from pipeline.watchdog import watch

log = logging.getLogger(__name__)

REJECTS_TOLD = 100
"""So many rejected photos of a unit are told of by name; the manifest has them all."""


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: stored, or not this time.

    failure, outside: why it is not stored, see `Failure`; "" when it is. refused: the output or the worker's disk
    did not take what was finished. share: the unit's part of its shard, bytes. committed: what to tell of a commit;
    rejects: key and code of photos that are rejected with it, REJECTS_TOLD at most.
    """

    unit: str
    failure: str = ""
    outside: bool = False
    refused: bool = False
    photos: int = 0
    faces: int = 0
    rejected: int = 0
    share: float = 0.0
    committed: UnitCommitted | None = None
    rejects: tuple[tuple[str, str], ...] = ()

    def to_block(self) -> pa.Table:
        """The block that goes back to the driver, whose columns do not depend on what is in it."""
        committed = "" if self.committed is None else self.committed.model_dump_json()
        return pa.Table.from_pylist([{**vars(self), "committed": committed, "rejects": json.dumps(self.rejects)}])


class Sink(ABC):
    """Stores the unit of a block; returns a block of its outcome."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, block: pa.Table) -> pa.Table:
        resources = self.run.config.resources
        with watch(resources.stalled_seconds, resources.unit_seconds):
            return self.commit(block).to_block()

    def commit(self, block: pa.Table) -> Outcome:
        """Store, or say why not."""
        if failed := failure_of(block):
            return Outcome(failed.unit, failed.reason, failed.outside)
        meter, started = Meter(self.run.label, COMMIT), time.perf_counter()
        outcome = self._stored(block)
        if outcome.failure:
            meter.failed()
        else:
            meter.done(outcome.photos, outcome.faces, (), time.perf_counter() - started)
        return outcome

    def _stored(self, block: pa.Table) -> Outcome:
        try:
            return self.store(from_block(block))
        except StorageError as error:
            return Outcome(unit_of(block), f"commit: {error}", outside=True, refused=True)
        except OSError as error:
            return Outcome(unit_of(block), f"commit: {explained(error)}", outside=True, refused=True)
        except (CommitError, MemoryError) as error:
            return Outcome(unit_of(block), f"commit: {error}")

    @abstractmethod
    def store(self, photos: list[Photo]) -> Outcome:
        """Store the photos of a unit, once however often this is called for it. Raises StorageError, OSError,
        CommitError, MemoryError; then the unit counts as not done."""


class Commit(Sink):
    """Commits the unit."""

    def store(self, photos: list[Photo]) -> Outcome:
        receipt = commit_unit(self.run.output.location, photos, self.run.commit_context())
        record = receipt.record
        rejects = [(photo.key, photo.error) for photo in photos if receipt.won and photo.status == "rejected"]
        return Outcome(
            unit=record.unit,
            photos=record.counts["photos"],
            faces=record.counts["faces"],
            rejected=record.counts["rejected"],
            share=record.shard_bytes / record.parts,
            committed=told_of(receipt),
            rejects=tuple(rejects[:REJECTS_TOLD]),
        )


def told_of(receipt: Receipt) -> UnitCommitted | None:
    """The event of a commit; None where there is none to make of it, for a record that was there may be anybody's."""
    try:
        return _told_of(receipt)
    except (ArithmeticError, TypeError, ValueError) as error:  # pydantic's are ValueErrors
        log.warning("nothing is told of %s: %s", receipt.record.unit, " ".join(str(error).split()))
        return None


def _told_of(receipt: Receipt) -> UnitCommitted:
    record, counts = receipt.record, receipt.record.counts
    spent = datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.started)
    codes = Counter[str]()
    for code, photos in record.errors.items():
        codes[code_of(code)] += photos
    return UnitCommitted(
        unit=record.unit,
        beaten=not receipt.won,
        photos=counts["photos"],
        restored=counts["restored"],
        no_face=counts["no_face"],
        rejected=counts["rejected"],
        faces=counts["faces"],
        faces_restored=counts["faces_restored"],
        faces_kept=counts["faces_kept"],
        evaluations=counts["evaluations"],
        share=record.shard_bytes / record.parts,
        written=sum(stored.bytes for stored in record.objects),
        seconds=spent.total_seconds(),
        codes=dict(codes),
    )


def outcomes(block: pa.Table) -> Iterator[Outcome]:
    """The outcomes in a block that a sink returned."""
    for row in block.to_pylist():
        committed = UnitCommitted.model_validate_json(row["committed"]) if row["committed"] else None
        rejects = tuple((key, code) for key, code in json.loads(row["rejects"]))
        yield Outcome(**{**row, "committed": committed, "rejects": rejects})
