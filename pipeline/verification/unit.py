"""One unit read back: each object once, its bytes against the commit record, its content against the manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.ledger import MANIFEST, REJECTS, SHARDS, VALIDATION, CommitRecord, StoredObject
from pipeline.manifest import read_manifest
from pipeline.parquet import ParquetError
from pipeline.storage import Location, StorageError
from pipeline.tar import Member, Problem, scan_stream
from pipeline.verification.findings import Finding, Remedies
from pipeline.verification.stream import HashedStream

_COLUMNS = ["unit", "index", "key", "shard", "part", "status", "error", "image_name", "image_bytes", "image_sha256"]
_COLUMNS += ["folder", "restored_name", "restored_bytes", "restored_sha256", "faces"]
_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Result:
    """A member that the manifest describes: the picture that a photo became, or stayed."""

    bytes: int
    sha256: str


@dataclass
class UnitCheck:
    """What reading a unit back gave. photos: (key, whether it has a result); bytes: read; failed: storage refused."""

    findings: list[Finding] = field(default_factory=list)
    photos: list[tuple[str, bool]] = field(default_factory=list)
    bytes: int = 0
    failed: bool = False


@dataclass(frozen=True)
class _Expected:
    """What the manifest says of a tar. results: by member name; names: of the other members known."""

    results: Mapping[str, Result] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


def check_unit(location: Location, record: CommitRecord, remedies: Remedies, manifest_only: bool = False) -> UnitCheck:
    """Read the unit of `record` back. Its objects must be there and as long as the record says.

    manifest_only: leave the tars out, for a unit whose tars were read before.
    Never raises on content; what storage refuses is a finding too.
    """
    return _UnitReader(location, record, remedies).check(manifest_only)


class _UnitReader:
    def __init__(self, location: Location, record: CommitRecord, remedies: Remedies) -> None:
        self.location, self.record, self.remedies = location, record, remedies
        self.found = UnitCheck()

    def check(self, manifest_only: bool) -> UnitCheck:
        rows = self._manifest()
        if rows is not None:
            self.found.photos = [(row["key"], row["status"] != "rejected") for row in rows]
        if not manifest_only:
            for folder in (SHARDS, VALIDATION):
                self._tar(folder, None if rows is None else _results(rows, folder))
            self._tar(REJECTS, None if rows is None else _rejects(rows))
        return self.found

    def _manifest(self) -> list[dict[str, Any]] | None:
        """The rows of the manifest; None when it cannot be relied on."""
        stored = self.record.object(MANIFEST)
        if stored is None:
            return None  # said of the record
        try:
            data = self.location.read(stored.name)
        except StorageError as error:
            self._refused(stored, error)
            return None
        self.found.bytes += len(data)
        if (digest := hashlib.sha256(data).hexdigest()) != stored.sha256:
            self._changed(stored, digest)
            return None
        try:
            rows = _rows(data)
        except ParquetError as error:
            self._redo("manifest.unreadable", f"{stored.name}: {' '.join(str(error).split())}")
            return None
        for message in _disagreements(rows, self.record):
            self._redo("manifest.mismatch", message)
        return rows

    def _tar(self, kind: str, expected: _Expected | None) -> None:
        """Read a tar. expected: None when nothing is known of its members."""
        stored = self.record.object(kind)
        if stored is None:
            if expected is not None and (expected.results or expected.names):
                self._redo(
                    "manifest.mismatch", f"the manifest has photos for {kind}/, the commit record no such object"
                )
            return
        stream = HashedStream(lambda start, end: self.location.read_range(stored.name, start, end), stored.bytes)
        hashes: dict[str, Callable[[], str]] = {}
        results = expected.results if expected else {}

        def watch(member: Member) -> None:
            if member.name in results:
                hashes[member.name] = stream.watch(member.offset, member.size).hexdigest

        try:
            members, problem = scan_stream(stream, stored.bytes, watch)
            digest = stream.finish()
        except StorageError as error:
            self._refused(stored, error)
            return
        self.found.bytes += stored.bytes
        sums = {name: read() for name, read in hashes.items()}
        if digest != stored.sha256:
            self._changed(stored, digest, _whereabouts(results, sums, problem))
            return
        if problem is not None:
            self._redo("tar.damaged", f"{stored.name} is as committed, and no whole tar: {problem.message}")
        if expected is not None:
            self._members(stored, members, expected, sums)
        if kind != REJECTS:  # a sample may be rejected for a name it has twice, and is kept as it was
            counted = Counter(member.name for member in members)
            if repeated := sorted(name for name, count in counted.items() if count > 1):
                self._redo("member.repeated", f"{stored.name} has more than one {_listed(repeated)}")

    def _members(
        self, stored: StoredObject, members: list[Member], expected: _Expected, sums: Mapping[str, str]
    ) -> None:
        sizes = {member.name: member.size for member in members}
        if missing := sorted({*expected.results, *expected.names} - sizes.keys()):
            self._redo("member.missing", f"{stored.name} lacks {_listed(missing)}, which the manifest names")
        changed = [
            name
            for name, result in expected.results.items()
            if name in sizes and (sizes[name], sums[name]) != (result.bytes, result.sha256)
        ]
        if changed:
            self._redo("member.changed", f"{_listed(sorted(changed))} in {stored.name} is not what the manifest says")

    def _changed(self, stored: StoredObject, digest: str, where: str = "") -> None:
        message = f"sha256 {digest}, committed was {stored.sha256}{where and f'; {where}'}"
        self._find(stored.name, "object.changed", message, self.remedies.replace(self.record, stored))

    def _refused(self, stored: StoredObject, error: StorageError) -> None:
        self.found.failed = True
        self._find(stored.name, "object.unreadable", str(error), self.remedies.retry(self.record.unit))

    def _redo(self, code: str, message: str) -> None:
        self._find(self.record.unit, code, message, self.remedies.redo_of(self.record))

    def _find(self, subject: str, code: str, message: str, remedy: str) -> None:
        self.found.findings.append(Finding(subject, code, message, remedy))


def _rows(data: bytes) -> list[dict[str, Any]]:
    """The manifest's rows, with the names of their faces for "faces": the rest of a face is large and not needed."""
    table = read_manifest(data, _COLUMNS, threads=False)  # many are read at once already
    faces = table.column("faces").combine_chunks()
    names = iter(faces.flatten().field("name").to_pylist())
    counts = faces.value_lengths().to_pylist()
    rows = table.drop_columns(["faces"]).to_pylist()
    for row, count in zip(rows, counts, strict=True):
        row["faces"] = [next(names) for _ in range(count or 0)]
    return rows


def _disagreements(rows: list[dict[str, Any]], record: CommitRecord) -> Iterator[str]:
    """Lines about a manifest that does not fit its commit record."""
    for column in ("unit", "shard", "part"):
        if wrong := sorted({str(row[column]) for row in rows} - {str(getattr(record, column))}):
            yield f"the manifest has the {column} {_listed(wrong)}, the commit record {getattr(record, column)!r}"
    if [row["index"] for row in rows] != list(range(len(rows))):
        yield f"the manifest's {len(rows)} rows are not the photos 0, 1, ... in order"
    if [row for row in rows if (row["folder"] in (SHARDS, VALIDATION)) == (row["status"] == "rejected")]:
        yield "the manifest does not say of every result, and of nothing else, in which folder it is"
    if unknown := sorted({str(row["status"]) for row in rows} - {"restored", "no_face", "rejected"}):
        yield f"the manifest has photos with the status {_listed(unknown)}"
    statuses = Counter(row["status"] for row in rows)
    counts = {name: statuses[name] for name in ("restored", "no_face", "rejected")}
    for name, count in {"photos": len(rows), **counts, "faces": sum(len(row["faces"]) for row in rows)}.items():
        if record.counts.get(name) != count:
            yield f"{count} {name} in the manifest, {record.counts.get(name)} in the commit record"
    errors = Counter(row["error"] for row in rows if row["error"])
    if errors != record.errors:
        yield f"rejected in the manifest are {dict(sorted(errors.items()))}, in the commit record {record.errors}"


def _results(rows: list[dict[str, Any]], folder: str) -> _Expected:
    """The members of the unit's object in `folder`: what `dr2e unpack` would hand out, and the faces."""
    results: dict[str, Result] = {}
    rows = [row for row in rows if row["folder"] == folder]
    for row in rows:
        if row["status"] != "rejected":
            kind = "image" if row["restored_name"] is None else "restored"  # a photo without a face may be enlarged
            results[str(row[f"{kind}_name"])] = Result(row[f"{kind}_bytes"], row[f"{kind}_sha256"])
    return _Expected(results, frozenset(str(name) for row in rows for name in row["faces"]))


def _rejects(rows: list[dict[str, Any]]) -> _Expected:
    """The members of the rejects: a reason for each photo that has no result."""
    return _Expected(names=frozenset(f"{row['key']}.error.json" for row in rows if row["status"] == "rejected"))


def _whereabouts(results: Mapping[str, Result], sums: Mapping[str, str], problem: Problem | None) -> str:
    """Where in a tar the damage lies, as far as reading it once can tell."""
    told = []
    if damaged := sorted(name for name, digest in sums.items() if digest != results[name].sha256):
        told.append(f"damaged is {_listed(damaged)}")
    if problem is not None:
        told.append(problem.message)
    if not told and results:
        told.append("none of the pictures is damaged that its photos became")
    return "; ".join(told)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
