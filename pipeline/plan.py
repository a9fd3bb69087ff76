"""What is left to do: the input's units without the committed ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.inputs import ShardRef
from pipeline.ledger import CommitRecord
from pipeline.units import ShardChanged, Unit, parse_unit_id, shard_id, unit_id


@dataclass(frozen=True)
class ShardTask:
    """A shard with work left. done: its committed parts; parts: how many it has, None when not known yet."""

    shard: ShardRef
    done: frozenset[int] = frozenset()
    parts: int | None = None

    def remaining(self, units: Sequence[Unit]) -> list[Unit]:
        """Those of the shard's `units` that are not committed.

        Raises ShardChanged when the shard is cut into another number of units than what is committed: its
        photos would come out twice or not at all.
        """
        if self.parts not in (None, len(units)):
            raise ShardChanged(
                f"{self.shard.url} was committed as {self.parts} units and is now {len(units)}: "
                "the shard or the unit size changed since; use a new output"
            )
        return [unit for unit in units if unit.part not in self.done]


@dataclass(frozen=True)
class Plan:
    """pending: shards with work left, in input order; done: shards that are complete.

    committed_units: how many units of these shards are committed.
    """

    pending: tuple[ShardTask, ...]
    done: tuple[ShardRef, ...]
    committed_units: int

    @property
    def complete(self) -> bool:
        return not self.pending


def bytes_left(plan: Plan) -> int:
    """The input that pending shards have left, their units taken as equally large."""
    return round(sum(task.shard.size * (1 - len(task.done) / (task.parts or 1)) for task in plan.pending))


def make_plan(shards: Sequence[ShardRef], committed: Iterable[str]) -> Plan:
    """Compare the input with the unit ids of ONE listing of commits; opens no shard.

    Raises ShardChanged when the commits of one shard disagree on its number of units.
    """
    parts_of: dict[str, set[int]] = defaultdict(set)
    done_of: dict[str, set[int]] = defaultdict(set)
    for unit in committed:
        if parsed := parse_unit_id(unit):
            shard, part, count = parsed
            parts_of[shard].add(count)
            done_of[shard].add(part)

    pending: list[ShardTask] = []
    done: list[ShardRef] = []
    committed_units = 0
    for ref in shards:
        name = shard_id(ref.relative)
        known, finished = parts_of.get(name, set()), done_of.get(name, set())
        committed_units += len(finished)
        if len(known) > 1:
            raise ShardChanged(
                f"{ref.url} is committed both as {' and as '.join(map(str, sorted(known)))} units: "
                "two runs with different unit sizes wrote to this output; use a new output"
            )
        parts = next(iter(known), None)
        if parts == len(finished):
            done.append(ref)
        else:
            pending.append(ShardTask(ref, frozenset(finished), parts))
    return Plan(tuple(pending), tuple(done), committed_units)


def require_unchanged(plan: Plan, record_of: Callable[[str], CommitRecord]) -> None:
    """Raises ShardChanged when a half-done shard is not what its committed units came from.

    Photos of the old content and the new would mix, some twice, some never. `record_of`: `Output.record`;
    it is asked once per half-done shard, and there are few of those.
    """
    for task in plan.pending:
        if task.parts is None:
            continue
        record = record_of(unit_id(task.shard.relative, min(task.done), task.parts))
        same_etag = task.shard.etag == record.shard_etag or not _both_of_content(task.shard, record)
        if task.shard.size != record.shard_bytes or not same_etag:
            raise ShardChanged(f"{task.shard.url} changed since part of it was committed; use a new output")


def _both_of_content(shard: ShardRef, record: CommitRecord) -> bool:
    """Whether the fingerprints can be compared. A local one is size and time, and a copy has another time."""
    local = shard.etag.startswith(f"{shard.size}-") or record.shard_etag.startswith(f"{record.shard_bytes}-")
    return not local
