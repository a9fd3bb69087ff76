"""The models that are known and those that are stored, side by side, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.store.catalogue import CATALOGUE, Published
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import is_noncommercial
from pipeline.store.record import Record

_ASK = "ask its publisher"
_UNKNOWN = "?"


@dataclass(frozen=True)
class Row:
    """A model. known: as published; record: as stored, and then folder: where; trouble: what is wrong with the record;
    one of them at least. accepted: whether its licence was."""

    name: str
    known: Published | None = None
    record: Record | None = None
    folder: str = ""
    accepted: bool = False
    trouble: str = ""

    @property
    def facts(self) -> Published | Record | None:
        """None of a model of which there is nothing but a damaged record."""
        return self.record or self.known

    @property
    def role(self) -> str:
        return self.facts.role if self.facts else _UNKNOWN

    @property
    def licence(self) -> str:
        return self.facts.licence if self.facts else _UNKNOWN

    @property
    def source(self) -> str:
        """The address it comes from, or the page that says how to get it."""
        if self.record is not None:
            return self.record.source
        if self.known is None:
            return _UNKNOWN
        return self.known.files[0].url or f"{_ASK}: {self.known.page}"


def rows(store: ModelStore) -> list[Row]:
    """Of all models: the published ones in their order, then the others that are stored. Raises StorageError."""
    records, damaged = store.contents()
    stored = {record.name: record for record in records}
    known = {model.name: model for model in CATALOGUE}

    def row(name: str) -> Row:
        record = stored.get(name)
        folder = f"{store.url}/{record.folder}" if record else ""
        accepted = record is not None and record.noncommercial and store.accepted(name)
        return Row(name, known.get(name), record, folder, accepted, damaged.get(name, ""))

    return [row(name) for name in [*known, *sorted((stored.keys() | damaged.keys()) - known.keys())]]


def listed(row: Row) -> dict[str, Any]:
    """A row for programs."""
    known, record = row.known, row.record
    files = [
        {"name": file.name, "url": file.url, "size": file.size, "sha256": file.sha256} for file in known.files
    ] if known else []  # fmt: skip
    return {
        "name": row.name,
        "role": row.role,
        "architecture": row.facts.architecture if row.facts else _UNKNOWN,
        "licence": row.licence,
        "noncommercial": is_noncommercial(row.licence),
        "size": row.facts.size if row.facts else None,
        "source": row.source,
        "sha256": known.sha256 if known else None,
        "page": known.page if known else None,
        "note": known.note if known else "",
        "files": files,
        "installed": record is not None,
        "accepted": row.accepted if is_noncommercial(row.licence) else None,
        "folder": row.folder or None,
        "damaged": row.trouble or None,
        "record": record.to_json() if record else None,
    }


def in_words(found: Sequence[Row]) -> Iterator[str]:
    """A table for people."""
    head = ("NAME", "ROLE", "LICENCE", "SIZE", "STORED", "SHA-256", "SOURCE")
    lines = [head, *(_line(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    if any(is_noncommercial(row.licence) for row in found):
        yield "* forbids commercial use; to be acknowledged before it is used"
    for row in found:
        if row.trouble:
            yield f"{row.name}: {row.trouble}"


def _line(row: Row) -> tuple[str, ...]:
    expected = row.known.sha256 if row.known else row.record.sha256 if row.record else None
    size = row.facts.size if row.facts else None
    stored = "damaged" if row.trouble else "no" if row.record is None else "yes"
    if row.record is not None and row.record.noncommercial:
        stored += ", acknowledged" if row.accepted else ", not acknowledged"
    return (
        row.name,
        row.role,
        row.licence + ("*" if is_noncommercial(row.licence) else ""),
        f"{size / 1e6:,.1f} MB" if size else "?",
        stored,
        expected[:12] if expected else "?",
        row.source,
    )


def described(row: Row) -> Iterator[str]:
    """All that is known of a model, for people."""
    facts, known, record = row.facts, row.known, row.record
    if facts is None:
        yield f"{row.name}: {row.trouble}"
        return
    yield f"{facts.name}: {facts.role}, {facts.architecture}"
    yield f"  licence  {facts.licence}" + (", which forbids commercial use" if facts.noncommercial else "")
    if known is not None:
        yield f"  page     {known.page}" + (f"  ({known.note})" if known.note else "")
        for file in known.files:
            size = f"{file.size:,} bytes" if file.size else "size not published"
            yield f"  file     {file.name}, {size}, SHA-256 {file.sha256 or 'not published'}"
            yield f"           {file.url or f'{_ASK}, no program can download it'}"
    if row.trouble:
        yield f"  damaged  {row.trouble}"
        return
    if record is None:
        yield "  stored   no" + (f"; 'dr2e models pull {facts.name}'" if known and known.can_be_pulled else "")
        return
    yield f"  stored   {record.added} from {record.source}"
    yield f"  folder   {row.folder}"
    for stored in record.files:
        yield f"           {stored.name}, {stored.size:,} bytes, SHA-256 {stored.sha256}"
    if record.settings:
        yield f"  settings {', '.join(f'{key} {value}' for key, value in sorted(record.settings.items()))}"
    if record.noncommercial:
        yield f"  licence acknowledged: {'yes' if row.accepted else 'no'}"
