"""What there is to do, whatever it is, as rounds ask for it: again and again until nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipeline.inputs import ShardRef
from pipeline.plan import bytes_left, make_plan
from pipeline.run import Run
from pipeline.source import Read, read_shard


@dataclass(frozen=True)
class Left:
    """What is left now. reads: of the units to do; committed: how many are done; bytes: of input left."""

    reads: tuple[Read, ...]
    committed: int
    bytes: int

    @property
    def complete(self) -> bool:
        return not self.reads


class Work(Protocol):
    """Something that is done when all its units are committed."""

    def left(self) -> Left:
        """What is left, by what storage says now. Raises StorageError."""
        ...


class Shards:
    """The photos of shards."""

    def __init__(self, run: Run, shards: Sequence[ShardRef]) -> None:
        self.run, self.shards = run, shards

    def left(self) -> Left:
        plan = make_plan(self.shards, self.run.output.committed())
        config = self.run.config
        reads = tuple(
            partial(read_shard, task, config.unit, config.storage.input, config.resources.patience_seconds)
            for task in plan.pending
        )
        return Left(reads, plan.committed_units, bytes_left(plan))
