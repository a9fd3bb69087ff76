"""What there is to do, whatever it is, as rounds ask for it: again and again until nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipeline.inputs import ShardRef
from pipeline.plan import bytes_left, make_plan
from pipeline.run import Run
from pipeline.source import Read, read_shard
from pipeline.units import parse_unit_id, shard_id


@dataclass(frozen=True)
class Left:
    """What is left now. reads: of the units to do; committed: how many are done; bytes: of input left."""

    reads: tuple[Read, ...]
    committed: int
    bytes: int

    @property
    def complete(self) -> bool:
        return not self.reads


Done = Callable[[], Collection[str]]
"""Lists the units that are done. Raises StorageError."""


class Work(Protocol):
    """Something that is done when all its units are, as a rule when they are committed."""

    def left(self) -> Left:
        """What is left, by what storage says now. Raises StorageError."""
        ...


class WorkOnUnits(Work, Protocol):
    """Work whose units may be gone through for another purpose as well.

    name: what tells its units from units of the same name whose photos are others; "" for those of shards, whose names
    say what they hold.
    """

    @property
    def name(self) -> str: ...

    def owns(self, unit: str) -> bool:
        """Whether `unit`, done or not, is one of these."""
        ...

    def until(self, done: Done) -> Work:
        """The same units, done when `done` says so."""
        ...


class Shards:
    """The photos of shards."""

    name = ""

    def __init__(self, run: Run, shards: Sequence[ShardRef], done: Done | None = None) -> None:
        """done: those committed when not given."""
        self.run, self.shards, self.done = run, shards, done or run.output.committed
        self.ids = {shard_id(shard.relative) for shard in shards}

    def owns(self, unit: str) -> bool:
        parsed = parse_unit_id(unit)
        return parsed is not None and parsed[0] in self.ids

    def until(self, done: Done) -> Shards:
        return Shards(self.run, self.shards, done)

    def left(self) -> Left:
        plan = make_plan(self.shards, self.done())
        config = self.run.config
        reads = tuple(
            partial(read_shard, task, config.cut, config.storage.input, config.resources.patience_seconds)
            for task in plan.pending
        )
        return Left(reads, plan.committed_units, bytes_left(plan))
