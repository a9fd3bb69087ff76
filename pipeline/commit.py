"""The sink: a unit's objects are staged, then one record makes them true.

What a crash leaves behind, step by step:

    building locally     nothing; the next attempt starts over
    putting objects      objects under names that carry this attempt; no record names them, nobody reads them
    creating the record  it is there or it is not. If it is, the unit is done, whatever happens to us; if it is
                         not, the unit is still to do, and the objects are as above
    acknowledging        the record is there; another attempt finds it and changes nothing

Two attempts at one unit (a retry, a second run, a worker thought dead) both get to the record; storage lets
one create it. The other reads it and removes its own objects.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.ledger import COUNTS, MANIFEST, REJECTS, CommitRecord, LedgerError, StoredObject, commit_name
from pipeline.manifest import write_manifest
from pipeline.members import CommitContext, Member, Written, rejected_members
from pipeline.records import Photo
from pipeline.storage import Location, StorageError
from pipeline.tar import scan, write_shard
from pipeline.watchdog import beat

__all__ = ["CommitContext", "CommitError", "Receipt", "commit_unit"]


class CommitError(RuntimeError):
    """What was to be committed is not a whole, finished unit, or could not be written correctly."""


@dataclass(frozen=True)
class Receipt:
    """The unit is done. record: the commit that counts; won: it is this attempt's, not an earlier one's."""

    record: CommitRecord
    won: bool


def commit_unit(output: Location, photos: Sequence[Photo], context: CommitContext) -> Receipt:
    """Write a unit's photos to `output`, exactly once however often this is called for it.

    photos: all photos of one unit in order of index, each "restored", "no_face" or "rejected". One whose
    result cannot be encoded is rejected here ("write.failed"; its object is changed).

    Raises CommitError for anything but a whole unit, StorageError when storage fails; then the unit counts
    as not done, and calling again is safe.
    """
    _require_whole_unit(photos)
    unit = photos[0].unit
    if (earlier := _read_record(output, unit)) is not None:
        _require_same_shard(earlier, photos[0].shard, photos[0].shard_size)
        return Receipt(earlier, won=False)

    attempt = secrets.token_hex(4)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dr2e-commit-") as folder:
        files = _build(Path(folder), photos, context)
        objects = [
            StoredObject(f"{kind}/{unit}-{attempt}{path.suffix}", path.stat().st_size, _sha256(path))
            for kind, path in files.items()
        ]
        for stored, path in zip(objects, files.values(), strict=True):
            beat()
            try:
                output.put(stored.name, path)
            except StorageError:
                _discard(output, objects)
                raise
    return _publish(output, _record(photos, context, attempt, objects, time.perf_counter() - began))


def _require_same_shard(there: CommitRecord, shard: str, size: int) -> None:
    """Raises CommitError when the record that counts is of a shard of another size: two runs met different versions of
    it, and photos of this one would never be restored. The next start says so as well, or mends it."""
    if there.shard_bytes != size:
        raise CommitError(
            f"{there.unit} was committed meanwhile from another version of {shard}; run again with --set changed=redo"
        )


def _require_whole_unit(photos: Sequence[Photo]) -> None:
    if not photos:
        raise CommitError("a unit has at least one photo; got none")
    first = photos[0]
    indices = [photo.index for photo in photos]
    if {photo.unit for photo in photos} != {first.unit} or indices != list(range(first.unit_size)):
        raise CommitError(
            f"{first.unit}: {len(photos)} photos are not its {first.unit_size} photos, once each and in order"
        )
    for photo in photos:
        if photo.status == "pending":
            raise CommitError(f"{first.unit}: nobody decided about {photo.key!r}; a stage was skipped")


def _build(folder: Path, photos: Sequence[Photo], context: CommitContext) -> dict[str, Path]:
    """The unit's files by kind, complete and read back; no shard without results, no rejects without any."""
    written: dict[int, Written] = {}
    rejects, manifest = folder / "rejects.tar", folder / "manifest.parquet"

    shards: dict[str, Path] = {}
    for kind, members in context.arrange(_results(photos, context, written)):
        if _write_checked(path := folder / f"{kind}.tar", members):
            shards[kind] = path
    _write_checked(rejects, (m for photo in photos if photo.status == "rejected" for m in rejected_members(photo)))
    write_manifest(manifest, photos, written)
    if pq.read_metadata(manifest).num_rows != len(photos):
        raise CommitError(f"{photos[0].unit}: the manifest just written does not read back; is the disk full?")

    files = {MANIFEST: manifest, **shards}
    if len(written) < len(photos):
        files[REJECTS] = rejects
    return files


def _results(photos: Sequence[Photo], context: CommitContext, written: dict[int, Written]) -> Iterator[Written]:
    """What becomes of all photos that are not rejected, one at a time; notes each in `written`."""
    for photo in photos:
        if photo.status == "rejected":
            continue
        beat()
        try:
            result = context.encode(photo, context)
        except MemoryError:
            raise  # the machine's doing; the photo may fit another time, and alone it is found out
        except Exception as error:  # one photo must not take its unit down
            photo.reject("write.failed", f"{type(error).__name__}: {error}")
            continue
        yield result
        # The manifest needs names and hashes; a unit's worth of pictures need not stay in memory for it.
        written[photo.index] = replace(result, members=[])


def _write_checked(path: Path, members: Iterable[Member]) -> int:
    """Write a tar and read its headers back: the same names and sizes, a clean end. How many members it has."""
    expected: list[tuple[str, int]] = []

    def noted() -> Iterator[Member]:
        for name, data in members:
            expected.append((name, len(data)))
            yield name, data

    write_shard(path, noted())
    found, problem = scan(path)
    if [(member.name, member.size) for member in found] != expected or problem is not None:
        raise CommitError(f"{path} does not read back as written; is the disk full?")
    return len(expected)


def _record(
    photos: Sequence[Photo],
    context: CommitContext,
    attempt: str,
    objects: Sequence[StoredObject],
    seconds: float,
) -> CommitRecord:
    first = photos[0]
    faces = [face for photo in photos for face in photo.faces]
    by_status = Counter(photo.status for photo in photos)
    counts = {
        "photos": len(photos),
        "restored": by_status["restored"],
        "no_face": by_status["no_face"],
        "rejected": by_status["rejected"],
        "faces": len(faces),
        "faces_restored": sum(face.status == "restored" for face in faces),
        "faces_kept": sum(face.status == "kept" for face in faces),
        "evaluations": sum(face.evaluations for face in faces),
    }
    spent: defaultdict[str, float] = defaultdict(float, write=seconds)
    for photo in photos:
        for stage, value in photo.seconds.items():
            spent[stage] += value
    return CommitRecord(
        unit=first.unit,
        attempt=attempt,
        shard=first.shard,
        shard_bytes=first.shard_size,
        shard_etag=first.shard_etag,
        part=first.part,
        parts=first.parts,
        objects=tuple(objects),
        counts={name: counts[name] for name in COUNTS},
        errors=dict(sorted(Counter(photo.error for photo in photos if photo.error).items())),
        models=dict(context.models),
        seconds={stage: round(value, 3) for stage, value in spent.items()},
        started=first.started,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        replaced=dict(sorted(Counter(photo.replaces for photo in photos if photo.replaces).items())),
        settings=dict(context.settings),
    )


def _publish(output: Location, record: CommitRecord) -> Receipt:
    """Create the commit record, or accept the one that is there."""
    failure: Exception | None = None
    try:
        if output.put_if_absent(commit_name(record.unit), record.to_json()):
            return Receipt(record, won=True)
    except StorageError as error:
        failure = error
    there = _read_record(output, record.unit)
    if there is None:
        # After a failure a delayed request may still create our record: our objects stay.
        raise failure or CommitError(f"{commit_name(record.unit)} was refused as existing, and does not exist")
    if there.attempt == record.attempt:
        return Receipt(there, won=True)
    _discard(output, record.objects)
    _require_same_shard(there, record.shard, record.shard_bytes)
    return Receipt(there, won=False)


def _read_record(output: Location, unit: str) -> CommitRecord | None:
    data = output.read_or_none(commit_name(unit))
    try:
        return None if data is None else CommitRecord.from_json(data, commit_name(unit))
    except LedgerError as error:
        raise CommitError(f"{error}; delete it to do the unit again") from None


def _discard(output: Location, objects: Sequence[StoredObject]) -> None:
    """Remove objects that no record names. What is left when storage refuses, nobody reads, and `dr2e gc` finds."""
    with suppress(StorageError):  # one refusal is enough: each was patient
        for stored in objects:
            output.delete(stored.name)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
