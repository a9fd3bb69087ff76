"""Tar archives as untrusted input, and as output with the same bytes every time.

`tarfile` iterates an archive that was cut at a header without noticing, trusts every size it reads and can
be led into endless loops. `scan` walks the headers itself, bounded by the file it has, and says how the
archive ended. Nothing is ever extracted: a member is an offset and a length.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

_BLOCK = tarfile.BLOCKSIZE
_MAX_EXTENSION = 2**20  # bytes of a long name or pax header; real ones are far below

Kind = Literal["file", "folder", "link", "device", "sparse", "other", "cut"]

_KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "device",
    tarfile.GNUTYPE_SPARSE: "sparse",
}
_WITHOUT_DATA: frozenset[Kind] = frozenset({"folder", "link", "device"})

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with a shard or a sample: a dotted code for programs, a line for a person."""

    code: str
    message: str


@dataclass(frozen=True)
class Member:
    """A tar member: its name as stored (bytes that are not UTF-8 as surrogates), data and kind.

    Kind "cut": a file whose data end with the archive, before they are complete.
    """

    name: str
    offset: int
    size: int
    kind: Kind


def scan(path: Path) -> tuple[list[Member], Problem | None]:
    """All members that can be found in the archive `path`, and what is wrong with the archive.

    Never raises on content. A healthy archive ends with two zero blocks and nothing but zeros after them;
    without them members may be missing, whether or not the cut is visible.
    """
    with open(path, "rb") as file:
        return _Scanner(file, path.stat().st_size).scan()


class Readable(Protocol):
    """As much of a binary file as a scan needs. It reads forward, and again what it read last."""

    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


def scan_stream(
    file: Readable, size: int, on_member: Callable[[Member], None] | None = None
) -> tuple[list[Member], Problem | None]:
    """As `scan`, of a file that is not on this machine's disk; size: its bytes.

    on_member: called with each member when its header has been read and its data have not.
    """
    return _Scanner(file, size, on_member).scan()


class _Broken(Exception):
    """The walk cannot go on; carries the problem."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(code, message)


class _Scanner:
    def __init__(self, file: Readable, size: int, on_member: Callable[[Member], None] | None = None) -> None:
        self.file, self.size, self.on_member = file, size, on_member
        self.position = 0
        self.members: list[Member] = []

    def scan(self) -> tuple[list[Member], Problem | None]:
        try:
            self._refuse_other_formats()
            while self._next_member():
                pass
            self._require_clean_end()
        except _Broken as broken:
            return self.members, broken.problem
        return self.members, None

    def _refuse_other_formats(self) -> None:
        if self.size == 0:
            raise _Broken("shard.empty", "the file is empty (0 bytes); write it again")
        start = self._read(0, _BLOCK)
        for magic, name in _COMPRESSED.items():
            if start.startswith(magic):
                raise _Broken("shard.compressed", f"this is {name} data named .tar; decompress it to a plain tar")
        if len(start) == _BLOCK and any(start):
            try:
                _header(start)
            except tarfile.HeaderError:
                raise _Broken("shard.not_tar", "this is no tar archive, for it has no header; write it again") from None

    def _next_member(self) -> bool:
        """Note the member at `position` and move behind it; False at the first zero block."""
        extension: dict[str, str] = {}
        while True:
            block = self._read(self.position, _BLOCK)
            if len(block) < _BLOCK:
                raise self._truncated("it ends without the end-of-archive blocks")
            if not any(block):
                return False
            try:
                header = _header(block)
            except tarfile.HeaderError as error:
                raise self._corrupt(str(error)) from None
            if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self._extension(header).split(b"\0")[0].decode("utf-8", "surrogateescape")
                if header.type == tarfile.GNUTYPE_LONGNAME:
                    extension["path"] = text
            elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extension |= self._pax(self._extension(header))
            elif header.type == tarfile.XGLTYPE:
                # Global headers carry comments (git archive) or defaults nobody uses for names and sizes.
                self._extension(header)
            else:
                self._note(header, extension)
                return True

    def _note(self, header: tarfile.TarInfo, extension: dict[str, str]) -> None:
        kind = _KINDS.get(header.type, "other")
        offset = self.position + _BLOCK
        if header.type == tarfile.GNUTYPE_SPARSE:
            offset = self._behind_sparse_map(offset)
        if any(key.startswith("GNU.sparse.") for key in extension):
            kind = "sparse"
        name = extension.get("GNU.sparse.name") or extension.get("path") or header.name
        size = 0 if kind in _WITHOUT_DATA else self._size(extension.get("size"), header.size)
        complete = offset + size <= self.size
        if not complete and kind == "file":
            kind = "cut"
        self.members.append(Member(name, offset, size, kind))
        if self.on_member is not None:
            self.on_member(self.members[-1])
        if not complete:
            raise self._truncated(f"it ends inside {name!r}")
        self.position = offset + _padded(size)

    def _size(self, text: str | None, size: int) -> int:
        if text is not None:
            try:
                size = int(text)
            except ValueError:
                raise self._corrupt(f"a size reads {text[:40]!r}") from None
        if size < 0:
            raise self._corrupt(f"a size is {size}")
        return size

    def _behind_sparse_map(self, offset: int) -> int:
        """Where the data of an old GNU sparse member begin: its map may go on in further blocks."""
        more = self._read(self.position, _BLOCK)[482]
        while more:
            block = self._read(offset, _BLOCK)
            if len(block) < _BLOCK:
                raise self._truncated("it ends inside the map of a sparse file")
            more = block[504]
            offset += _BLOCK
        return offset

    def _extension(self, header: tarfile.TarInfo) -> bytes:
        """The body of a header that describes the next member; moves behind it."""
        if not 0 <= header.size <= _MAX_EXTENSION:
            raise self._corrupt(f"a long name or pax header claims {header.size} bytes")
        body = self._read(self.position + _BLOCK, header.size)
        if len(body) < header.size:
            raise self._truncated("it ends inside a long name or pax header")
        self.position += _BLOCK + _padded(header.size)
        return body

    def _pax(self, body: bytes) -> dict[str, str]:
        """The records of a pax header: "LENGTH KEY=VALUE\\n", the length counting itself."""
        records: dict[str, str] = {}
        body = body.rstrip(b"\0")
        start = 0
        while start < len(body):
            length = body[start : start + 10].partition(b" ")[0]
            end = start + int(length) if length.isdigit() and len(length) < 10 else 0
            key, equals, value = body[start + len(length) + 1 : end - 1].partition(b"=")
            if not equals or body[end - 1 : end] != b"\n":
                raise self._corrupt("a pax header is malformed")
            records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
            start = end
        return records

    def _require_clean_end(self) -> None:
        second = self._read(self.position + _BLOCK, _BLOCK)
        if len(second) < _BLOCK:
            raise self._truncated("the second end-of-archive block is missing")
        position = self.position + _BLOCK
        while block := self._read(position, 2**20):
            if any(block):
                raise _Broken(
                    "shard.trailing_data",
                    f"{self.size - self.position} bytes behind the end of the archive were not read; "
                    "if two tars were joined, join them with tar --concatenate",
                )
            position += len(block)

    def _read(self, position: int, size: int) -> bytes:
        self.file.seek(position)
        return self.file.read(size)

    def _truncated(self, how: str) -> _Broken:
        return _Broken("shard.truncated", f"the archive was cut: {how} ({self.size} bytes); transfer it again")

    def _corrupt(self, how: str) -> _Broken:
        return _Broken(
            "shard.corrupt", f"damaged at byte {self.position}: {how}; what follows was not read, transfer it again"
        )


def _header(block: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write the tar `path` from (name, bytes) members, in their order.

    The same members give the same bytes: times and owners are zero, modes 0644, pax headers only for names
    that need them. The file appears under its name when it is complete, or not at all.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with tarfile.open(staged, "w", format=tarfile.PAX_FORMAT) as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
