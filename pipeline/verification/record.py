"""What a commit record alone can be held against: its own name, its objects' names, and one listing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.ledger import MANIFEST, REJECTS, SHARDS, VALIDATION, CommitRecord, StoredObject, commit_name
from pipeline.storage import Location
from pipeline.units import base_unit, parse_unit_id
from pipeline.verification.findings import Finding, Remedies

SUFFIXES = {SHARDS: ".tar", VALIDATION: ".tar", MANIFEST: ".parquet", REJECTS: ".tar"}
"""How the names of objects end, by folder."""


def belongs(record: CommitRecord, unit: str, remedies: Remedies) -> list[Finding]:
    """Whether the record stored for `unit` is that unit's, and names its objects and no other's."""
    name = commit_name(unit)
    told: list[str] = []
    if record.unit != unit:
        told.append(f"it is the record of {record.unit}")
    parsed = parse_unit_id(base_unit(unit))
    if parsed is not None and parsed[1:] != (record.part, record.parts):
        told.append(f"it says part {record.part} of {record.parts}")
    allowed = {f"{kind}/{unit}-{record.attempt}{suffix}" for kind, suffix in SUFFIXES.items()}
    names = [stored.name for stored in record.objects]
    if foreign := sorted(set(names) - allowed):
        told.append(f"it names {', '.join(foreign)}, which is not of this unit and attempt")
    if len(names) != len(set(names)):
        told.append("it names an object twice")
    if record.object(MANIFEST) is None:
        told.append("it names no manifest")
    if not told:
        return []
    return [Finding(name, "commit.mismatch", "; ".join(told), remedies.redo([unit], record.shard, record.settings))]


def missing_objects(
    location: Location, record: CommitRecord, sizes: Mapping[str, int], remedies: Remedies
) -> Iterator[Finding]:
    """The record's objects that are not there or not as long as committed. sizes: bytes by name, from a listing."""
    for stored in record.objects:
        size = sizes.get(stored.name)
        if size != stored.bytes:
            # Only now is it worth a request of its own: a listing may be older than the record.
            entry = location.stat(stored.name)
            size = None if entry is None else entry.size
        if size != stored.bytes:
            yield _missing(record, stored, size, remedies)


def _missing(record: CommitRecord, stored: StoredObject, size: int | None, remedies: Remedies) -> Finding:
    remedy = remedies.replace(record, stored)
    if size is None:
        return Finding(stored.name, "object.missing", "a commit record names it, and it is not there", remedy)
    return Finding(stored.name, "object.changed", f"{size} bytes, committed were {stored.bytes}", remedy)
