"""The reading side of an output: everything here follows from storage alone.

`status`, `report` and `unpack` use this and nothing else, so they work during a run, after it, and on
another machine.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.garbage import Garbage, find_garbage
from pipeline.ledger import (
    COMMITS,
    COUNTS,
    MANIFEST,
    RUN,
    CommitRecord,
    LedgerError,
    commit_name,
    describes_run,
    read_description,
    unit_of_commit,
)
from pipeline.manifest import read_manifest
from pipeline.parallel import ordered
from pipeline.parquet import ParquetError
from pipeline.storage import Location, StorageError, StorageOptions
from pipeline.units import base_unit, retry_number
from pipeline.verification import Checked, Finding, verify

_READERS = 16  # requests in flight; object stores answer slowly but in parallel


@dataclass(frozen=True)
class Status:
    """Sums over all units. A photo that was tried again counts once, as what came of it last.

    units: committed; units_open: known to be missing, that is, of shards of which a part is committed.
    shards: of which anything is committed. counts, errors: as in the records. seconds, bytes: over all records.
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
        """run.json; None when no run was started here. Raises LedgerError when it is not what `start` writes."""
        run = read_description(self.location, RUN, "a run")
        if run is not None and not describes_run(run):
            raise LedgerError(f"{self.location.url}/{RUN} does not describe a run")
        return run

    def committed(self) -> set[str]:
        """The ids of all committed units, from one listing."""
        units = (unit_of_commit(entry.name) for entry in self.location.entries(COMMITS))
        return {unit for unit in units if unit is not None}

    def records(self) -> Iterator[CommitRecord]:
        """All commit records, by unit id, later attempts behind their unit. Raises LedgerError for one that cannot be
        read."""
        units = sorted(self.committed(), key=lambda unit: (base_unit(unit), retry_number(unit)))
        return ordered(self.record, units, _READERS)

    def histories(self) -> Iterator[list[CommitRecord]]:
        """The records of each unit: its own, then those of later attempts at photos it rejected."""
        for _, records in groupby(self.records(), key=lambda record: base_unit(record.unit)):
            yield list(records)

    def rows(self, history: Sequence[CommitRecord], columns: Sequence[str]) -> list[tuple[CommitRecord, pa.Table]]:
        """Manifest rows of a unit by record; of a photo that was tried again, only what came of it last."""
        if len(history) == 1:
            return [(history[0], self.manifest(history[0], columns))]
        found: list[tuple[CommitRecord, pa.Table]] = []
        known: set[str] = set()
        for record in reversed(history):
            table = self.manifest(record, list({*columns, "key"}))
            keys = table.column("key").to_pylist()
            found.insert(0, (record, table.filter([key not in known for key in keys]).select(list(columns))))
            known.update(keys)
        return found

    def record(self, unit: str) -> CommitRecord:
        """The commit record of a unit. Raises StorageError when there is none, LedgerError when unreadable."""
        name = commit_name(unit)
        return CommitRecord.from_json(self.location.read(name), f"{self.location.url}/{name}")

    def manifest(self, record: CommitRecord, columns: Sequence[str] | None = None) -> pa.Table:
        """The manifest rows of a unit (see manifest.SCHEMA), or some columns of them. Raises StorageError when there is
        no such object, LedgerError when it is no manifest."""
        stored = record.object(MANIFEST)
        if stored is None:
            raise LedgerError(f"{commit_name(record.unit)} names no manifest")
        data = self.location.read(stored.name)
        try:
            return read_manifest(data, columns)
        except ParquetError as error:
            raise LedgerError(f"{self.location.url}/{stored.name} is no manifest: {error}; run 'dr2e verify'") from None

    def status(self, on_record: Callable[[CommitRecord], None] | None = None) -> Status:
        """What has been done so far. Reads the records, and the manifests of units that were tried again.

        on_record: is shown every record on the way.
        """
        return _summarise(ordered(self._tally, self.histories(), _READERS), on_record)

    def _tally(self, history: Sequence[CommitRecord]) -> _Tally:
        if len(history) == 1:
            return _Tally(history, history[0].counts, history[0].errors)
        # Records alone do not tell which of their photos are the same: a unit that was done anew may reject others.
        counts, errors = Counter[str](), Counter[str]()
        for _, rows in self.rows(history, ("status", "error", "faces")):
            counts.update(rows.column("status").to_pylist())
            errors.update(code for code in rows.column("error").to_pylist() if code)
            counts["photos"] += rows.num_rows
            faces = rows.column("faces").combine_chunks().flatten()
            counts["faces"] += len(faces)
            counts.update(f"faces_{status}" for status in faces.field("status").to_pylist())
            counts["evaluations"] += sum(faces.field("evaluations").to_pylist())
        return _Tally(history, {name: counts[name] for name in COUNTS}, errors)

    def verify(self, on_unit: Callable[[Checked], None] | None = None) -> list[Finding]:
        """Read everything back; [] when all is well. See `pipeline.verification`."""
        return verify(self.location, on_unit=on_unit).findings

    def orphans(self) -> list[Garbage]:
        """Objects that no commit record names, of any age: what interrupted or beaten attempts left.

        Nobody reads them. During a run the objects of units about to be committed are among them.
        """
        found = find_garbage(self.location, timedelta(0))
        return [garbage for garbage in [*found.garbage, *found.kept] if garbage.kind == "orphan"]


@dataclass(frozen=True)
class _Tally:
    """The records of a unit, and what became of its photos: counts and errors as in a record, each photo once."""

    history: Sequence[CommitRecord]
    counts: Mapping[str, int]
    errors: Mapping[str, int]


def _summarise(units: Iterable[_Tally], on_record: Callable[[CommitRecord], None] | None) -> Status:
    counts, errors, parts = Counter(dict.fromkeys(COUNTS, 0)), Counter[str](), dict[str, int]()
    seconds: defaultdict[str, float] = defaultdict(float)
    committed = size = 0
    started: list[str] = []
    ended: list[str] = []
    for unit in units:
        counts.update(unit.counts)
        errors.update(unit.errors)
        committed += retry_number(unit.history[0].unit) == 0  # else its own record is gone
        for record in unit.history:
            if on_record is not None:
                on_record(record)
            parts[record.shard] = record.parts
            size += sum(stored.bytes for stored in record.objects)
            started.append(record.started)
            ended.append(record.ended)
            for stage, value in record.seconds.items():
                seconds[stage] += value
    return Status(
        units=committed,
        units_open=max(0, sum(parts.values()) - committed),
        shards=len(parts),
        counts=dict(counts),
        errors=dict(errors.most_common()),
        seconds=dict(seconds),
        bytes=size,
        started=min(started, default=None),
        ended=max(ended, default=None),
    )
