"""The last stage: a finished unit is stored, as a rule committed, and the driver hears what it held."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline.blocks import failure_of, from_block, unit_of
from pipeline.commit import CommitError, commit_unit
from pipeline.records import Photo
from pipeline.room import explained
from pipeline.run import Run
from pipeline.storage import StorageError
from pipeline.watchdog import watch


@dataclass(frozen=True)
class Outcome:
    """What became of a unit: stored, or not this time.

    failure, outside: why it is not stored, see `Failure`; "" when it is. refused: the output or the worker's disk
    did not take what was finished. share: the unit's part of its shard, bytes.
    """

    unit: str
    failure: str = ""
    outside: bool = False
    refused: bool = False
    photos: int = 0
    faces: int = 0
    rejected: int = 0
    share: float = 0.0


class Sink(ABC):
    """Stores the unit of a block; returns a block of its outcome."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, block: pa.Table) -> pa.Table:
        resources = self.run.config.resources
        with watch(resources.stalled_seconds, resources.unit_seconds):
            return pa.Table.from_pylist([asdict(self.commit(block))])

    def commit(self, block: pa.Table) -> Outcome:
        """Store, or say why not."""
        if failed := failure_of(block):
            return Outcome(failed.unit, failed.reason, failed.outside)
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
        record = commit_unit(self.run.output.location, photos, self.run.commit_context()).record
        return Outcome(
            unit=record.unit,
            photos=record.counts["photos"],
            faces=record.counts["faces"],
            rejected=record.counts["rejected"],
            share=record.shard_bytes / record.parts,
        )


def outcomes(block: pa.Table) -> Iterator[Outcome]:
    """The outcomes in a block that `Commit` returned."""
    return (Outcome(**row) for row in block.to_pylist())
