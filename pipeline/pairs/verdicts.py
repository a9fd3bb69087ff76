"""Photos with the verdict of a search for near-duplicates: what it left out never reaches a stage.

A photo that has no target is left out here as well, for the reason that the search found. So nothing becomes a pair
that was not compared, as a photo might that lost its worker in the search and would not in the run; and what kills its
workers does so once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from pipeline.blocks import failed_block, failure_of, from_block, to_block, unit_of
from pipeline.ledger import LedgerError
from pipeline.pairs.search import Search, stored_as
from pipeline.pairs.seen import NEAR, SEEN, NearDuplicate, Seen, crc32, near_name, read_rows, seen_name
from pipeline.records import Photo
from pipeline.source import Read
from pipeline.storage import Location, StorageError
from pipeline.work import Left

NEAR_DUPLICATE = "gate.duplicate"


class Judged:
    """The work of a search that has decided, as work for rounds. A task reads the verdicts of the units it reads."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def left(self) -> Left:
        left, location = self.search.units.left(), self.search.run.output.location
        return replace(left, reads=tuple(partial(read_judged, read, location, self.search.name) for read in left.reads))


def read_judged(read: Read, location: Location, name: str) -> Iterator[pa.Table]:
    """The blocks of `read` with what the search `name` left out rejected; a unit without its verdict fails."""
    for block in read():
        if failure_of(block):
            yield block
            continue
        unit, photos = unit_of(block), from_block(block)
        try:
            judge(photos, location, stored_as(unit, name))
        except (StorageError, LedgerError) as error:
            yield failed_block(unit, str(error), outside=True)
        else:
            yield to_block(unit, photos)


def judge(photos: list[Photo], location: Location, unit: str) -> None:
    """Reject what the search left out of a unit, by the unit's name in the search. Raises StorageError, and LedgerError
    when its objects are damaged or of other photos."""
    seen = {row.key: row for row in read_rows(location, seen_name(unit), Seen, SEEN)}
    near = {row.key: row for row in read_rows(location, near_name(unit), NearDuplicate, NEAR)}
    for photo in photos:
        found = seen.get(photo.key)
        if found is None or found.image_crc32 != crc32(photo):
            raise LedgerError(
                f"{photo.shard} changed since its faces were compared: {photo.key!r} is another photo; delete "
                f"{location.url}/{seen_name(unit)} and {location.url}/{near_name(unit)} and run again"
            )
        if photo.status != "pending":
            continue
        if (reason := _reason(found, near.get(photo.key))) is not None:
            photo.width, photo.height, photo.grey = found.width, found.height, found.grey
            photo.reject(*reason)


def _reason(seen: Seen, near: NearDuplicate | None) -> tuple[str, str] | None:
    """Code and message for a photo that is left out."""
    if near is not None:
        what = f"a near-duplicate of {near.of_key} in {near.of_shard}"
        return NEAR_DUPLICATE, f"{what}: {near.distance} of 64 bits of their perceptual hashes differ"
    return None if seen.error is None else (seen.error, seen.message or "")
