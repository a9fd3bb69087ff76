"""What lies in an output and belongs to nobody: found by comparing names, removed only when that is asked for.

Why removing it is safe. An attempt at a unit puts its objects under names of its own and then creates a record
that names them. So an object without a record is either left over, or its attempt is still alive and about to
create the record. Three rules keep the two apart:

    objects are listed first, records are read afterwards    what was named in between counts as named
    what is younger than a limit is kept                     an attempt that is alive has put its objects just now
    right before an object is deleted its unit's record      a record that appeared meanwhile still saves it
    is read again

The limit also holds for objects of units that are committed. Their attempts can never win, because a record is
only created where there is none; but a remedy of `dr2e verify` may be to delete a record, and then they can.

What a search for near-duplicates saw and decided needs no record and stays, for faces of a later run are held against
it; only files that were not finished are found in its folders, and in that of the history.

Any record counts, whatever its unit is called: `commits/NAME.json` names what it names. One that cannot be read
could name anything, and stops everything. Names that are not made as ours are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline.ledger import (
    COMMITS,
    DUPLICATES,
    EXECUTIONS,
    MANIFEST,
    REJECTS,
    SHARDS,
    TARGETS,
    VALIDATION,
    CommitRecord,
    LedgerError,
    commit_name,
    unit_of_commit,
)
from pipeline.parallel import ordered
from pipeline.storage import Location, StorageError, Upload, is_leftover

Kind = Literal["orphan", "unfinished", "probe", "upload"]

KINDS: dict[Kind, str] = {
    "orphan": "objects that no commit record names, of attempts that were interrupted or beaten",
    "unfinished": "files that a killed process had not finished writing",
    "probe": "objects that tested whether the storage keeps its promises",
    "upload": "multipart uploads that were never completed",
}

DEFAULT_AGE = timedelta(hours=24)

_WORKERS = 16
_OBJECT = re.compile(
    rf"(?:{SHARDS}|{VALIDATION}|{REJECTS}|{MANIFEST})/"
    r"(?P<unit>[^/]+-[0-9a-f]{8}-\d{4,}-of-\d{4,}(?:\.[A-Za-z0-9_.]+)?)-[0-9a-f]{8}\.(?P<type>tar|parquet)"
)


@dataclass(frozen=True, order=True)
class Garbage:
    """Something that may go: a name below the output, bytes, and since when it is there (None only if kept).

    unit: whose attempt an orphan is of. upload: which one, of an unfinished upload.
    """

    name: str
    kind: Kind
    bytes: int
    since: datetime | None = field(default=None, compare=False)
    unit: str = field(default="", compare=False)
    upload: Upload | None = field(default=None, compare=False)


@dataclass
class Findings:
    """garbage: what may be deleted, sorted. kept: as garbage, but too young or of unknown age. foreign: names of
    things that are not ours. units: committed. deleted: what was deleted of the garbage. complaint: why uploads
    could not be listed, if so.
    """

    units: int = 0
    garbage: list[Garbage] = field(default_factory=list)
    kept: list[Garbage] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    deleted: list[Garbage] = field(default_factory=list)
    complaint: str = ""


def find_garbage(
    location: Location,
    older_than: timedelta = DEFAULT_AGE,
    on_record: Callable[[int, int], None] | None = None,
) -> Findings:
    """What an output holds and does not need. Deletes nothing.

    older_than: leave alone what was written later than this ago, by the storage's clock and this machine's.
    on_record: called with (records read, records in all). Memory grows with the number of objects.

    Raises LedgerError when a commit record cannot be read, StorageError when storage refuses.
    """
    now = datetime.now(UTC)
    found = Findings()
    candidates = {candidate.name: candidate for candidate in _candidates(location, found)}
    uploads = list(_uploads(location, found))
    # After the listing of the objects: what was committed meanwhile is then named here.
    units: list[str] = []
    for entry in location.entries(COMMITS):
        unit = unit_of_commit(entry.name)
        if unit is None:
            found.foreign.append(entry.name)
        else:
            units.append(unit)
    found.units = len(units)
    for done, record in enumerate(ordered(lambda unit: _record(location, unit), units, _WORKERS), 1):
        for stored in record.objects if record is not None else ():
            candidates.pop(stored.name, None)
        if on_record is not None:
            on_record(done, len(units))
    for candidate in sorted([*candidates.values(), *uploads]):
        is_old = candidate.since is not None and now - candidate.since >= older_than
        (found.garbage if is_old else found.kept).append(candidate)
    found.foreign.sort()
    return found


def delete_garbage(location: Location, found: Findings, on_deleted: Callable[[Garbage], None] | None = None) -> None:
    """Delete `found.garbage`, and note in `found.deleted` what is gone. What has got a record meanwhile stays.

    Raises StorageError when storage refuses; then the rest is still there, and may be deleted again.
    """

    def delete(garbage: Garbage) -> Garbage | None:
        if garbage.upload is not None:
            location.abort(garbage.upload)
            return garbage
        if garbage.unit:
            record = _record(location, garbage.unit)
            if record is not None and garbage.name in {stored.name for stored in record.objects}:
                return None
        location.delete(garbage.name)
        return garbage

    for gone in ordered(delete, found.garbage, _WORKERS):
        if gone is not None:
            found.deleted.append(gone)
            if on_deleted is not None:
                on_deleted(gone)


def _candidates(location: Location, found: Findings) -> Iterator[Garbage]:
    """Everything that is garbage unless a record names it; what is not ours goes to `found.foreign`."""
    for folder in (SHARDS, VALIDATION, MANIFEST, REJECTS):
        for entry in location.entries(folder):
            unit = unit_of_object(entry.name)
            if unit is not None:
                yield Garbage(entry.name, "orphan", entry.size, entry.modified, unit)
            elif not is_leftover(entry.name):
                found.foreign.append(entry.name)
    for folder in ("", COMMITS, SHARDS, VALIDATION, MANIFEST, REJECTS, TARGETS, DUPLICATES, EXECUTIONS):
        for entry in location.leftovers(folder):
            kind: Kind = "probe" if entry.name.rpartition("/")[2].startswith(".probe-") else "unfinished"
            yield Garbage(entry.name, kind, entry.size, entry.modified)


def _uploads(location: Location, found: Findings) -> Iterator[Garbage]:
    try:
        uploads = location.uploads()
    except StorageError as error:
        # Permission to list uploads is often not given; the rest can be done without.
        found.complaint = str(error)
        return
    for upload in uploads:
        if unit_of_object(upload.name) is None:
            found.foreign.append(f"{upload.name} (an unfinished upload)")
        else:
            yield Garbage(upload.name, "upload", upload.size, upload.started, upload=upload)


def unit_of_object(name: str) -> str | None:
    """The unit of an object named FOLDER/UNIT-ATTEMPT.EXTENSION as `commit_unit` names it; None for other names."""
    match = _OBJECT.fullmatch(name)
    if match is None or (match["type"] == "parquet") != name.startswith(f"{MANIFEST}/"):
        return None
    return match["unit"]


def _record(location: Location, unit: str) -> CommitRecord | None:
    """The record of a unit, None when there is none. Raises LedgerError when it cannot be read."""
    name = commit_name(unit)
    data = location.read_or_none(name)
    if data is None:
        return None
    try:
        return CommitRecord.from_json(data, f"{location.url}/{name}")
    except LedgerError as error:
        raise LedgerError(f"{error}; it may name anything, so nothing more is deleted: run 'dr2e verify'") from None
