"""The reading side of an output: everything here follows from storage alone.

`status`, `verify` and `report` use this and nothing else, so they work during a run, after it, and on
another machine.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger import (
    COMMITS,
    COUNTS,
    MANIFEST,
    REJECTS,
    RUN,
    SHARDS,
    CommitRecord,
    LedgerError,
    StoredObject,
    commit_name,
    unit_of_commit,
)
from pipeline.storage import Entry, Location, StorageError, StorageOptions

_READERS = 16  # requests in flight; object stores answer slowly but in parallel


@dataclass(frozen=True)
class Status:
    """Sums over all commit records.

    units: committed; units_open: known to be missing, that is, of shards of which a part is committed.
    shards: of which anything is committed. counts, errors, seconds: as in the records. bytes: of the objects.
    started, ended: first and last, ISO 8601 UTC, None without a commit.
    """

    units: int
    units_open: int
    shards: int
    counts: dict[str, int]
    errors: dict[str, int]
    seconds: dict[str, float]
    bytes: int
    started: str | None
    ended: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """Something `verify` holds against an output: the object or unit, a dotted code, a line for a person."""

    subject: str
    code: str
    message: str


class Output:
    """The output of a run, at a URL."""

    def __init__(self, location: Location | str | Path, options: StorageOptions | None = None) -> None:
        self.location = location if isinstance(location, Location) else Location(location, options)

    def start(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the run in run.json unless that is done already; returns the description that counts."""
        self.location.put_if_absent(RUN, json.dumps(run, indent=1).encode())
        there = self.run()
        if there is None:
            raise StorageError(f"cannot read {self.location.url}/{RUN} just written; does something delete from it?")
        return there

    def run(self) -> dict[str, Any] | None:
        """run.json; None when no run was started here. Raises LedgerError when it is unreadable."""
        data = self.location.read_or_none(RUN)
        if data is None:
            return None
        try:
            run = json.loads(data)
        except ValueError as error:
            raise LedgerError(f"{self.location.url}/{RUN} is not JSON: {error}") from None
        if not isinstance(run, dict):
            raise LedgerError(f"{self.location.url}/{RUN} does not describe a run")
        return run

    def committed(self) -> set[str]:
        """The ids of all committed units, from one listing."""
        units = (unit_of_commit(entry.name) for entry in self.location.entries(COMMITS))
        return {unit for unit in units if unit is not None}

    def records(self) -> Iterator[CommitRecord]:
        """All commit records, by unit id. Raises LedgerError for one that cannot be read."""
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(self.record, sorted(self.committed()))

    def record(self, unit: str) -> CommitRecord:
        """The commit record of a unit. Raises StorageError when there is none, LedgerError when unreadable."""
        name = commit_name(unit)
        return CommitRecord.from_json(self.location.read(name), f"{self.location.url}/{name}")

    def manifest(self, record: CommitRecord, columns: Sequence[str] | None = None) -> pa.Table:
        """The manifest rows of a unit (see manifest.SCHEMA), or some columns of them."""
        stored = record.object(MANIFEST)
        if stored is None:
            raise LedgerError(f"{commit_name(record.unit)} names no manifest")
        data = self.location.read(stored.name)
        return pq.read_table(pa.BufferReader(data), columns=None if columns is None else list(columns))

    def status(self) -> Status:
        """What has been done so far."""
        return summarise(self.records())

    def verify(self, on_unit: Callable[[CommitRecord], None] | None = None) -> list[Finding]:
        """Read everything back: hashes, counts, no unit missing, no photo twice. [] when all is well.

        on_unit: called after each unit, for progress.
        """
        findings: list[Finding] = []
        records: list[CommitRecord] = []
        for unit in sorted(self.committed()):
            try:
                records.append(self.record(unit))
            except LedgerError as error:
                findings.append(Finding(commit_name(unit), "commit.unreadable", str(error)))
        keys: defaultdict[str, Counter[str]] = defaultdict(Counter)
        with ThreadPoolExecutor(_READERS) as pool:
            for record, (found, unit_keys) in zip(records, pool.map(self._check_unit, records), strict=True):
                findings += found
                keys[record.shard].update(unit_keys)
                if on_unit is not None:
                    on_unit(record)
        return findings + _missing_units(records) + _repeated_keys(keys)

    def orphans(self) -> list[Entry]:
        """Objects that no commit record names: what interrupted or beaten attempts left. Nobody reads them.

        During a run the objects of units about to be committed are among them.
        """
        entries = [entry for kind in (SHARDS, MANIFEST, REJECTS) for entry in self.location.entries(kind)]
        # The records are read after the listing, so an object committed in between is not called an orphan.
        named = {stored.name for record in self.records() for stored in record.objects}
        return [entry for entry in entries if entry.name not in named]

    def _check_unit(self, record: CommitRecord) -> tuple[list[Finding], list[str]]:
        """What is wrong with one unit's objects, and the keys of its photos."""
        findings = [finding for stored in record.objects if (finding := self._check_object(stored)) is not None]
        if findings:
            return findings, []
        try:
            table = self.manifest(record, ["key", "status"])
        except (LedgerError, pa.ArrowException) as error:
            return [Finding(record.unit, "manifest.unreadable", str(error))], []
        statuses = Counter(table.column("status").to_pylist())
        for name, count in {"photos": table.num_rows, **statuses}.items():
            if record.counts.get(name) != count:
                message = f"{count} {name} in the manifest, {record.counts.get(name)} in the commit record"
                findings.append(Finding(record.unit, "manifest.mismatch", message))
        return findings, table.column("key").to_pylist()

    def _check_object(self, stored: StoredObject) -> Finding | None:
        entry = self.location.stat(stored.name)
        if entry is None:
            return Finding(stored.name, "object.missing", "a commit record names it, and it is not there")
        if entry.size != stored.bytes:
            return Finding(stored.name, "object.changed", f"{entry.size} bytes, committed were {stored.bytes}")
        with self.location.local(stored.name) as path, open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != stored.sha256:
            return Finding(stored.name, "object.changed", f"sha256 {digest}, committed was {stored.sha256}")
        return None


def summarise(records: Iterable[CommitRecord]) -> Status:
    """Add up commit records."""
    counts, errors, parts = Counter(dict.fromkeys(COUNTS, 0)), Counter[str](), dict[str, int]()
    seconds: defaultdict[str, float] = defaultdict(float)
    units = size = 0
    started: list[str] = []
    ended: list[str] = []
    for record in records:
        units += 1
        size += sum(stored.bytes for stored in record.objects)
        counts.update(record.counts)
        errors.update(record.errors)
        parts[record.shard] = record.parts
        started.append(record.started)
        ended.append(record.ended)
        for stage, value in record.seconds.items():
            seconds[stage] += value
    return Status(
        units=units,
        units_open=sum(parts.values()) - units,
        shards=len(parts),
        counts=dict(counts),
        errors=dict(errors.most_common()),
        seconds=dict(seconds),
        bytes=size,
        started=min(started, default=None),
        ended=max(ended, default=None),
    )


def _missing_units(records: Sequence[CommitRecord]) -> list[Finding]:
    parts: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for record in records:
        parts[record.shard, record.parts].add(record.part)
    return [
        Finding(shard, "unit.missing", f"parts {missing} of {count} are not committed; run restore again")
        for (shard, count), done in parts.items()
        if (missing := sorted(set(range(count)) - done))
    ]


def _repeated_keys(keys: Mapping[str, Counter[str]]) -> list[Finding]:
    return [
        Finding(shard, "photo.repeated", f"the photo {key!r} is there {count} times")
        for shard, counted in keys.items()
        for key, count in counted.items()
        if count > 1
    ]
