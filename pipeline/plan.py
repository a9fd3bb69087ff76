"""What is left to do: the input's units without the committed ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.inputs import InputError, ShardRef
from pipeline.ledger import CommitRecord
from pipeline.parallel import ordered
from pipeline.units import ShardChanged, Unit, parse_unit_id, shard_id, unit_id

_READERS = 16  # records read at once
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ShardTask:
    """A shard and what of it is committed. done: those parts; parts: how many it has, None when not known yet."""

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

    committed_units: how many units of these shards are committed. gone: ids of shards that have commits and are not in
    the input any more; what they gave stays.
    """

    pending: tuple[ShardTask, ...]
    done: tuple[ShardTask, ...]
    committed_units: int
    gone: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.pending


def bytes_left(plan: Plan) -> int:
    """The input that pending shards have left, their units taken as equally large."""
    return round(sum(task.shard.size * (1 - len(task.done) / (task.parts or 1)) for task in plan.pending))


def make_plan(shards: Sequence[ShardRef], committed: Iterable[str]) -> Plan:
    """Compare the input with the unit ids of ONE listing of commits; opens no shard.

    Raises ShardChanged when the commits of one shard disagree on its number of units, InputError when two shards
    have the same id: one would pass for the other.
    """
    parts_of: dict[str, set[int]] = defaultdict(set)
    done_of: dict[str, set[int]] = defaultdict(set)
    for unit in committed:
        if parsed := parse_unit_id(unit):
            shard, part, count = parsed
            parts_of[shard].add(count)
            done_of[shard].add(part)

    pending: list[ShardTask] = []
    done: list[ShardTask] = []
    committed_units = 0
    named: dict[str, ShardRef] = {}
    for ref in shards:
        name = shard_id(ref.relative)
        other = named.setdefault(name, ref)
        if other is not ref:
            raise InputError(
                f"{other.relative} and {ref.relative} happen to get the same short name, {name}; rename one of them, "
                "or restore it into an output of its own"
            )
        known, finished = parts_of.get(name, set()), done_of.get(name, set())
        committed_units += len(finished)
        if len(known) > 1:
            raise ShardChanged(
                f"{ref.url} is committed both as {' and as '.join(map(str, sorted(known)))} units: "
                "two runs with different unit sizes wrote to this output; use a new output"
            )
        parts = next(iter(known), None)
        (done if parts == len(finished) else pending).append(ShardTask(ref, frozenset(finished), parts))
    return Plan(tuple(pending), tuple(done), committed_units, tuple(sorted(parts_of.keys() - named.keys())))


def changed(
    plan: Plan, record_of: Callable[[str], CommitRecord], holds: Callable[[ShardRef], bool]
) -> tuple[ShardTask, ...]:
    """Shards that are not what their committed units came from, half-done ones and done ones.

    Of a half-done shard the old content and the new would mix, some photos twice, some never; of one that is done, what
    is new would never be restored. record_of: `Output.record`, asked for every unit, several at a time, for two runs
    may have met different contents; and not for shards of which `holds` says that they are as they were.
    """
    begun = [task for task in (*plan.pending, *plan.done) if task.parts and not holds(task.shard)]
    units = [
        (task, unit_id(task.shard.relative, part, task.parts or 1)) for task in begun for part in sorted(task.done)
    ]
    records = ordered(record_of, [unit for _, unit in units], _READERS)
    differing = {task for (task, _), record in zip(units, records, strict=True) if _has_changed(task, record)}
    return tuple(task for task in begun if task in differing)


def _has_changed(task: ShardTask, record: CommitRecord) -> bool:
    shard = task.shard
    comparable = _are_of_content if task.parts == len(task.done) else _are_of_objects
    return shard.size != record.shard_bytes or (shard.etag != record.shard_etag and comparable(shard, record))


def _are_of_objects(shard: ShardRef, record: CommitRecord) -> bool:
    """Whether neither fingerprint is that of a local file: size and time, of which a copy has another."""
    return not (shard.etag.startswith(f"{shard.size}-") or record.shard_etag.startswith(f"{record.shard_bytes}-"))


def _are_of_content(shard: ShardRef, record: CommitRecord) -> bool:
    """Whether both fingerprints are MD5 sums of the whole: those of multipart uploads differ between faithful copies,
    and a finished output must not be refused because its input has moved."""
    return all(_MD5.fullmatch(etag) for etag in (shard.etag, record.shard_etag))
