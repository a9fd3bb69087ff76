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


@dataclass(frozen=True)
class Row:
    """A model. known: as published; record: as stored; one of them at least. accepted: whether its licence was."""

    known: Published | None
    record: Record | None
    accepted: bool

    @property
    def facts(self) -> Published | Record:
        facts = self.record or self.known
        assert facts is not None
        return facts

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def role(self) -> str:
        return self.facts.role

    @property
    def licence(self) -> str:
        return self.facts.licence

    @property
    def source(self) -> str:
        """The address it comes from, or the page that says how to get it."""
        if self.record is not None:
            return self.record.source
        assert self.known is not None
        return self.known.files[0].url or f"{_ASK}: {self.known.page}"


def rows(store: ModelStore) -> list[Row]:
    """Of all models: the published ones in their order, then the others that are stored. Raises ModelError,
    StorageError."""
    stored = {record.name: record for record in store.records()}
    accepted = {record.name for record in stored.values() if record.noncommercial and store.accepted(record.name)}
    found = [Row(known, stored.pop(known.name, None), known.name in accepted) for known in CATALOGUE]
    return found + [Row(None, record, record.name in accepted) for record in stored.values()]


def listed(row: Row) -> dict[str, Any]:
    """A row for programs."""
    known, record = row.known, row.record
    files = [
        {"name": file.name, "url": file.url, "size": file.size, "sha256": file.sha256} for file in known.files
    ] if known else []  # fmt: skip
    return {
        "name": row.name,
        "role": row.role,
        "architecture": row.facts.architecture,
        "licence": row.licence,
        "noncommercial": is_noncommercial(row.licence),
        "size": row.facts.size,
        "source": row.source,
        "sha256": known.sha256 if known else None,
        "page": known.page if known else None,
        "note": known.note if known else "",
        "files": files,
        "installed": record is not None,
        "accepted": row.accepted if is_noncommercial(row.licence) else None,
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


def _line(row: Row) -> tuple[str, ...]:
    expected = row.known.sha256 if row.known else row.facts.sha256
    size = row.facts.size
    stored = "no" if row.record is None else "yes"
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
    yield f"{facts.name}: {facts.role}, {facts.architecture}"
    yield f"  licence  {facts.licence}" + (", which forbids commercial use" if facts.noncommercial else "")
    if known is not None:
        yield f"  page     {known.page}" + (f"  ({known.note})" if known.note else "")
        for file in known.files:
            size = f"{file.size:,} bytes" if file.size else "size not published"
            yield f"  file     {file.name}, {size}, SHA-256 {file.sha256 or 'not published'}"
            yield f"           {file.url or f'{_ASK}, no program can download it'}"
    if record is None:
        yield "  stored   no" + (f"; 'dr2e models pull {facts.name}'" if known and known.can_be_pulled else "")
        return
    yield f"  stored   {record.added} from {record.source}"
    for stored in record.files:
        yield f"           {stored.name}, {stored.size:,} bytes, SHA-256 {stored.sha256}"
    if record.settings:
        yield f"  settings {', '.join(f'{key} {value}' for key, value in sorted(record.settings.items()))}"
    if record.noncommercial:
        yield f"  licence acknowledged: {'yes' if row.accepted else 'no'}"
