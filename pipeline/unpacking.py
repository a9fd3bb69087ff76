"""Shards back to files: the restored photos of an output, named as the files they were packed from."""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.filenames import SOURCE, is_safe, plain_key, source_name
from pipeline.ledger import SHARDS, CommitRecord, LedgerError
from pipeline.output import Output
from pipeline.storage import Location
from pipeline.tar import Member, scan

_COLUMNS = ["key", "status", "image_name", "image_sha256", "restored_name", "restored_sha256"]


class FileTaken(ValueError):
    """A file to write is there already, with other content. One line with the remedy."""


@dataclass
class Unpacked:
    """Counts of photos: restored and no_face were written; present were there before; rejected have no result."""

    restored: int = 0
    no_face: int = 0
    present: int = 0
    rejected: int = 0


def unpack(output: Output, destination: Location, on_photo: Callable[[str], None] | None = None) -> Unpacked:
    """Write every finished photo of `output` to a file below `destination`.

    A restored photo is the PNG of the shard: "scans/x.y.jpg" comes back as "scans/x.y.png", and as
    "scans/x.y.jpg.png" if files differed in the extension alone. A photo without faces is the file as it was,
    or a PNG like others where it was written larger.
    Photos of shards that `dr2e pack` did not make are named after their members. A name that would lead out
    of `destination` is not followed, and of several photos of one name the later ones land in a folder named
    after their unit.

    Only units with a commit record are read; of a photo that was tried again, what came of it last. Unpacking again
    goes on where it stopped.
    on_photo: called with each name written. Raises FileTaken rather than replace a file with other content,
    LedgerError when an object is not what was committed, StorageError when storage refuses.
    """
    counts = Unpacked()
    taken = _Taken(destination)
    for record, rows in _records(output):
        finished = [row for row in rows if row["status"] != "rejected"]
        counts.rejected += len(rows) - len(finished)
        for unit_photo in _photos(output, record, finished):
            name, is_new = taken.write(unit_photo)
            if not is_new:
                counts.present += 1
                continue
            if unit_photo.has_face:
                counts.restored += 1
            else:
                counts.no_face += 1
            if on_photo is not None:
                on_photo(name)
    return counts


def _records(output: Output) -> Iterator[tuple[CommitRecord, list[dict[str, Any]]]]:
    """All records, each with the manifest rows of those of its photos that no later record has."""
    for history in output.histories():
        for record, rows in output.rows(history, _COLUMNS):
            yield record, rows.to_pylist()


@dataclass(frozen=True)
class _FinishedPhoto:
    """A photo of a unit: the bytes to write, and where they came from."""

    unit: str
    key: str
    original: str | None  # the packed file's own name, if known and safe
    image_name: str
    restored: bool
    has_face: bool
    data: bytes

    def names(self) -> Iterator[str]:
        """Safe names in order of preference."""
        name = self.original or self.image_name
        whole = f"{name}.png" if self.restored else name
        suffix = PurePosixPath(whole).suffix
        # The last one is safe and free whatever the key is: a unit has each key once.
        choices = [whole, f"{self.unit}/{whole}", f"{self.unit}/{_digest(self.key.encode())}{suffix}"]
        if self.restored and (self.original is None or plain_key(self.original) == self.key):
            choices.insert(0, name.removesuffix(PurePosixPath(name).suffix) + ".png")
        return (choice for choice in choices if is_safe(choice))


class _Taken:
    """The names that are given to photos already."""

    def __init__(self, destination: Location) -> None:
        self.destination = destination
        self.exact: set[str] = set()
        self.similar: set[str] = set()

    def write(self, photo: _FinishedPhoto) -> tuple[str, bool]:
        """Write a photo under the first of its names that is free; (name, whether it was not there yet)."""
        for name in photo.names():
            exact = posixpath.normpath(name)  # "./a.png" is "a.png"
            similar = unicodedata.normalize("NFC", exact).casefold()
            if exact in self.exact:
                continue
            is_new = self.destination.put_if_absent(name, photo.data)
            if is_new or self.destination.read(name) == photo.data:
                self.exact.add(exact)
                self.similar.add(similar)
                return name, is_new
            if similar not in self.similar:
                break
        raise FileTaken(f"{self.destination.url}/{name} is another file; unpack into an empty folder")


def _photos(output: Output, record: CommitRecord, rows: Sequence[dict[str, Any]]) -> Iterator[_FinishedPhoto]:
    """The finished photos of a record, by their manifest rows."""
    stored = record.object(SHARDS)
    if stored is None or not rows:
        return
    with output.location.local(stored.name) as path:
        members, problem = scan(path)
        if problem is not None:
            raise LedgerError(f"{output.location.url}/{stored.name}: {problem.message}; run 'dr2e verify'")
        by_name = {member.name: member for member in members}
        for row in rows:
            yield _finished(path, by_name, record.unit, row)


def _finished(path: Path, members: dict[str, Member], unit: str, row: dict[str, Any]) -> _FinishedPhoto:
    """Read one photo of the unit's local shard `path` and check it against its manifest row."""
    restored = row["restored_name"] is not None
    name, sha256 = (row[f"{'restored' if restored else 'image'}_{what}"] for what in ("name", "sha256"))
    data = _read(path, members.get(name))
    if _digest(data) != sha256:
        raise LedgerError(f"{unit}: {name} is not what the manifest says; run 'dr2e verify'")
    source = members.get(f"{row['key']}.{SOURCE}")
    original = source_name(_read(path, source)) if source else None
    has_face = row["status"] == "restored"
    return _FinishedPhoto(unit, row["key"], original, row["image_name"], restored, has_face, data)


def _read(path: Path, member: Member | None) -> bytes:
    if member is None:
        return b""
    with open(path, "rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
