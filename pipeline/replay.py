"""Rejected photos once more, after what stopped them has been mended.

What is committed stays as it is. Photos that UNIT rejected are done anew as a unit of their own, UNIT.retry1, whose
photos come from the quarantine instead of a shard; its record is created if absent like any other, so of several
retries at a time one counts. A reader takes, of a photo that is in several records of a unit, the latest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.blocks import failed_block, to_block
from pipeline.ledger import REJECTS, CommitRecord, LedgerError
from pipeline.names import split_key
from pipeline.output import Output
from pipeline.records import Photo
from pipeline.storage import Location, StorageError
from pipeline.tar import Member, scan
from pipeline.units import retry_id, retry_number
from pipeline.work import Done, Left

_COLUMNS = ("key", "status", "error", "image_name", "image_bytes")


@dataclass(frozen=True)
class Rejected:
    """A photo in quarantine. tar: the object it lies in; code: why."""

    key: str
    image_name: str
    bytes: int
    code: str
    tar: str


@dataclass(frozen=True)
class Attempt:
    """A unit to do: the rejected photos of another. unit: its name; of: the record of the unit they are of."""

    unit: str
    of: CommitRecord
    photos: tuple[Rejected, ...]


@dataclass(frozen=True)
class Plan:
    """attempts: what to do. unknown: photos that cannot be tried again by code, because it is their shard that is wrong
    and nobody knows which member is the photo. unwanted: those of other codes than were asked for, by code."""

    attempts: tuple[Attempt, ...]
    unknown: Counter[str]
    unwanted: Counter[str]


def make_plan(output: Output, codes: Collection[str] = ()) -> Plan:
    """What is in quarantine now, unit by unit. codes: only these reasons; "image" stands for all of "image.*".

    Reads the manifests of units that ever rejected a photo, and no others. Raises LedgerError, StorageError.
    """
    attempts: list[Attempt] = []
    unknown, unwanted = Counter[str](), Counter[str]()
    for history in output.histories():
        photos: list[Rejected] = []
        for record, row in _rejected_rows(output, history):
            code, stored = row["error"], record.object(REJECTS)
            if codes and not any(code == wanted or code.startswith(f"{wanted}.") for wanted in codes):
                unwanted[code] += 1
            elif stored is None or row["image_name"] is None:
                unknown[code] += 1
            else:
                photos.append(Rejected(row["key"], row["image_name"], row["image_bytes"], code, stored.name))
        if photos:
            name = retry_id(history[0].unit, retry_number(history[-1].unit) + 1)
            attempts.append(Attempt(name, history[0], tuple(photos)))
    return Plan(tuple(attempts), unknown, unwanted)


class Replay:
    """The attempts of a plan, as work for rounds."""

    def __init__(self, output: Output, attempts: Sequence[Attempt], done: Done | None = None) -> None:
        """done: those committed when not given."""
        self.output, self.attempts, self.done = output, attempts, done or output.committed
        self.units = {attempt.unit for attempt in attempts}

    @property
    def name(self) -> str:
        """Of which photos these are the attempts: another retry's at the same unit may be at others."""
        photos = "\n".join(f"{attempt.unit}\0{photo.key}" for attempt in self.attempts for photo in attempt.photos)
        return hashlib.sha256(photos.encode()).hexdigest()[:8]

    def owns(self, unit: str) -> bool:
        return unit in self.units

    def until(self, done: Done) -> Replay:
        return Replay(self.output, self.attempts, done)

    def left(self) -> Left:
        done = self.done()
        left = [attempt for attempt in self.attempts if attempt.unit not in done]
        return Left(
            tuple(partial(read_attempt, attempt, self.output.location) for attempt in left),
            len(self.attempts) - len(left),
            sum(photo.bytes for attempt in left for photo in attempt.photos),
        )


def read_attempt(attempt: Attempt, location: Location) -> Iterator[pa.Table]:
    """The block of an attempt's photos, as they were before they were rejected."""
    try:
        yield to_block(attempt.unit, _photos(attempt, location))
    except (StorageError, LedgerError, OSError) as error:
        yield failed_block(attempt.unit, str(error), outside=True)


def _rejected_rows(output: Output, history: Sequence[CommitRecord]) -> Iterator[tuple[CommitRecord, dict[str, Any]]]:
    # Counts tell no more: of a unit that was done anew, a later attempt may be at photos that it now has results of.
    if not any(record.counts["rejected"] for record in history):
        return
    for record, rows in output.rows(history, _COLUMNS):
        yield from ((record, row) for row in rows.to_pylist() if row["status"] == "rejected")


def _photos(attempt: Attempt, location: Location) -> list[Photo]:
    by_tar: defaultdict[str, list[Rejected]] = defaultdict(list)
    for rejected in attempt.photos:
        by_tar[rejected.tar].append(rejected)
    photos: list[Photo] = []
    for tar, group in by_tar.items():
        with location.local(tar) as path:
            photos += _from_tar(path, f"{location.url}/{tar}", group)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = attempt.of
    for index, photo in enumerate(photos):
        photo.unit, photo.index, photo.unit_size, photo.started = attempt.unit, index, len(photos), now
        photo.shard, photo.shard_size, photo.shard_etag = record.shard, record.shard_bytes, record.shard_etag
        photo.part, photo.parts = record.part, record.parts
    return photos


def _from_tar(path: Path, url: str, group: Sequence[Rejected]) -> Iterator[Photo]:
    members, problem = scan(path)
    if problem is not None:
        raise LedgerError(f"{url}: {problem.message}; run 'dr2e verify'")
    with open(path, "rb") as file:
        inputs = _inputs(file, members, {rejected.key for rejected in group})
        for rejected in group:
            data = [(member.name, _read(file, member)) for member in inputs.get(rejected.key, ())]
            found = dict(data)
            if rejected.image_name not in found:
                raise LedgerError(f"{url} does not hold {rejected.image_name}; run 'dr2e verify'")
            yield Photo(
                unit="",
                index=0,
                key=rejected.key,
                image_name=rejected.image_name,
                image=found[rejected.image_name],
                sidecars=[(name, content) for name, content in data if name != rejected.image_name],
                replaces=rejected.code,
            )


def _inputs(file: BinaryIO, members: Sequence[Member], keys: Collection[str]) -> dict[str, Sequence[Member]]:
    """The input members of photos, by key: those right before the reason that lists them.

    Neither name nor place alone tells a reason: the input may have such a member of its own, and that of the shard
    "x.tar" is named as one of the photo "x".
    """
    found: dict[str, Sequence[Member]] = {}
    for place, member in enumerate(members):
        key = split_key(member.name)[0]
        if key not in keys or not member.name.endswith(".error.json"):
            continue
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            reason = json.loads(_read(file, member))
            before = members[max(0, place - len(reason["members"])) : place]
            if reason["key"] == key and reason["members"] == [listed.name for listed in before]:
                found[key] = before  # of several the last, which lists the others
    return found


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)
