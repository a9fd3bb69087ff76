"""Which targets are near-duplicates of others: decided by the driver, once per unit, for all shards together.

The order that decides is that of shard name and place in the shard, whoever saw what first and however shards are cut
into units: of faces that are near each other the first is kept. A decision that was broken off after some units is
continued to the same end (see `near_duplicates`).

Once a unit is decided it stays so, committed or not, and what it keeps counts before everything that comes later. Where
the input grows between two runs, new faces are held against the old ones and lose, wherever they stand. So nothing that
is committed becomes a near-duplicate afterwards; which of two is left out may be another than had they come together.
Two runs that decide at the same time decide alike if their input is the same.

A face that is kept and then makes no pair for another reason, such as a worker that died, still leaves out what is near
it. `dr2e retry` tries both again: of a photo that is tried again only the new attempt counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.pairs.duplicates import distances, near_duplicates
from pipeline.ledger import DUPLICATES, TARGETS
from pipeline.pairs.seen import NEAR, SEEN, NearDuplicate, listed, near_name, read_table, seen_name, to_parquet
from pipeline.parallel import ordered
from pipeline.storage import Location

_REQUESTS = 16  # in flight; object stores answer slowly but in parallel
_COLUMNS = ("shard", "part", "index", "key", "hash")


def decide(location: Location, units: Collection[str], limit: int) -> None:
    """Store the near-duplicates of those of `units`, whose targets were all looked at, that are not decided yet.

    limit: as in `near_duplicates`. Memory grows with the number of targets, by some hundred bytes each. Raises
    StorageError, and LedgerError for a damaged object.
    """
    decided = listed(location, DUPLICATES)
    if not (new := sorted(set(units) - decided)):
        return
    old = sorted(decided & listed(location, TARGETS))
    rows = _near(_kept(location, old), _targets(location, new), limit)

    def store(unit: str) -> None:
        location.put_if_absent(near_name(unit), to_parquet(rows[unit], NEAR))

    for _ in ordered(store, new, _REQUESTS):
        pass


def _targets(location: Location, units: Sequence[str]) -> pa.Table:
    """All targets of units, and of which unit each is."""
    return _joined(ordered(lambda unit: _read(location, unit), units, _REQUESTS))


def _kept(location: Location, units: Sequence[str]) -> pa.Table:
    """The same of units that are decided, without the near-duplicates."""

    def read(unit: str) -> pa.Table:
        near = read_table(location, near_name(unit), NEAR, ["index"])["index"]
        rows = _read(location, unit)
        return rows.filter(pc.invert(pc.is_in(rows["index"], value_set=near.combine_chunks())))

    return _joined(ordered(read, units, _REQUESTS))


def _read(location: Location, unit: str) -> pa.Table:
    rows = read_table(location, seen_name(unit), SEEN, _COLUMNS)
    rows = rows.filter(pc.is_valid(rows["hash"]))
    # As a dictionary: a name of some forty bytes is not there once per target.
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([unit]))
    return rows.append_column("unit", name)


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    found = [table for table in tables if len(table)]
    columns = [SEEN.field(name) for name in _COLUMNS]
    empty = pa.schema([*columns, pa.field("unit", pa.dictionary(pa.int32(), pa.string()))]).empty_table()
    return pa.concat_tables([empty, *found])


def _near(kept: pa.Table, targets: pa.Table, limit: int) -> defaultdict[str, list[NearDuplicate]]:
    """The near-duplicates among `targets`, by unit; those of a photo in `kept` that is tried again no longer count."""
    kept = kept.filter(pc.invert(pc.is_in(_photos(kept), value_set=_photos(targets))))
    every = pa.concat_tables([kept, targets]).unify_dictionaries()
    is_kept = np.arange(len(every)) < len(kept)
    order = pc.sort_indices(every, [(name, "ascending") for name in ("shard", "part", "index", "key")]).to_numpy()
    hashes = every["hash"].to_numpy()[order]
    first = near_duplicates(hashes, limit, is_kept[order])
    found = defaultdict[str, list[NearDuplicate]](list)
    places = np.flatnonzero(first >= 0)
    bits = distances(hashes[places], hashes[first[places]]).tolist()
    own, of = (every.take(order[chosen]).to_pylist() for chosen in (places, first[places]))
    for row, other, distance in zip(own, of, bits, strict=True):
        found[row["unit"]].append(NearDuplicate(row["index"], row["key"], other["shard"], other["key"], distance))
    return found


def _photos(rows: pa.Table) -> pa.Array:
    """What tells photos apart."""
    return pc.binary_join_element_wise(rows["shard"], rows["key"], "\0").combine_chunks()
