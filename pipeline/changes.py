"""Shards that changed since they were committed: refused, left alone, or done anew."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from pipeline.inputs import ShardRef
from pipeline.ledger import CommitRecord, LedgerError, commit_name
from pipeline.output import Output
from pipeline.plan import ShardTask
from pipeline.units import ShardChanged, base_unit, parse_unit_id, retry_number, shard_id

log = logging.getLogger(__name__)

_NAMED = 5  # in a line for a person


def refuse(changed: Sequence[ShardTask]) -> None:
    """Raises ShardChanged when there is one."""
    if not changed:
        return
    what = "it" if changed[0].parts == len(changed[0].done) else "part of it"
    others = f" (and {len(changed) - 1:,} other shards)" if len(changed) > 1 else ""
    raise ShardChanged(
        f"{changed[0].shard.url}{others} changed since {what} was committed; use a new output, or --set changed=redo "
        "to do such shards anew, or --set changed=skip to leave them as they are"
    )


def warn(changed: Sequence[ShardTask], fate: str) -> None:
    """Name the shards and what becomes of them."""
    names = ", ".join(task.shard.relative for task in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED:,} more" if len(changed) > _NAMED else ""
    log.warning("%d shards changed since they were committed and %s: %s%s", len(changed), fate, names, more)


def forget(output: Output, changed: Sequence[ShardTask]) -> None:
    """Delete the records of what these shards gave before, whose objects `dr2e gc` then finds: they are done anew.

    A record of the shard as it is now is another run's, and stays. Raises StorageError; what was not deleted by then
    has changed still, and the next call deletes it.
    """
    now = {shard_id(task.shard.relative): task.shard for task in changed}
    # Later attempts first: without the unit that they mend they would tell of photos that are not done.
    for unit in sorted(units_of(now.keys(), output.committed()), key=retry_number, reverse=True):
        name = commit_name(unit)
        data = output.location.read_or_none(name)
        if data is not None and not _is_of(now[_shard_of(unit)], data, name):
            output.location.delete(name)


def units_of(shards: Collection[str], committed: Iterable[str]) -> list[str]:
    """What is committed of shards with these ids, later attempts at their photos included."""
    return [unit for unit in committed if _shard_of(unit) in shards]


def _shard_of(unit: str) -> str:
    parsed = parse_unit_id(base_unit(unit))
    return parsed[0] if parsed else ""


def _is_of(shard: ShardRef, data: bytes, name: str) -> bool:
    """Whether a record is of the shard as it is now; one that nobody can read is not."""
    try:
        record = CommitRecord.from_json(data, name)
    except LedgerError:
        return False
    return (record.shard_bytes, record.shard_etag) == (shard.size, shard.etag)
