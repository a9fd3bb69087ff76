"""What is known of shards that were compared with their commit records, so that no start reads those records again.

Without it, or when it is broken, they are compared again: nothing rests on it but time. It is the work of a start to
replace it, before anything is done, by what it found.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.inputs import ShardRef
from pipeline.ledger import KNOWN
from pipeline.parquet import ParquetError, read_columns
from pipeline.storage import Location, StorageError

log = logging.getLogger(__name__)

SCHEMA = pa.schema([("shard", pa.string()), ("bytes", pa.int64()), ("etag", pa.string())])

State = tuple[str, int, str]
"""A shard as it was: its relative name, bytes and fingerprint."""


def state(shard: ShardRef) -> State:
    return shard.relative, shard.size, shard.etag


def read_known(location: Location) -> frozenset[State]:
    """The shards that were what their committed units came from. Raises StorageError."""
    data = location.read_or_none(KNOWN)
    if data is None:
        return frozenset()
    try:
        table = read_columns(data, SCHEMA)
    except ParquetError as error:
        log.warning("%s/%s: %s; all finished shards are compared again", location.url, KNOWN, error)
        return frozenset()
    return frozenset(zip(*(table.column(name).to_pylist() for name in SCHEMA.names), strict=True))


def write_known(location: Location, states: Iterable[State]) -> None:
    """Replace what is known by `states`. Storage that refuses costs the next start its time, and here a warning."""
    rows = [dict(zip(SCHEMA.names, row, strict=True)) for row in sorted(states)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), out)
    try:
        location.put(KNOWN, out.getvalue())
    except StorageError as error:
        log.warning("the next start will compare finished shards again: %s", error)
