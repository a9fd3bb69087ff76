"""Tar archives header by header, as no library would write them."""

from __future__ import annotations

import tarfile

from faults.zoo.encode import raw_png

END = bytes(2 * tarfile.BLOCKSIZE)

TINY = raw_png(2, 2, 8, 0, b"\0\x80\x80" * 2)
"""A picture without a face, for where the archive matters and the photo does not."""


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A header block; long or foreign names become further blocks, as GNU tar writes them."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def member(name: str, data: bytes = TINY, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Header and data, padded."""
    return header(name, len(data), kind) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def pax(records: bytes) -> bytes:
    """An extended header for the member behind it."""
    return member("PaxHeader", records, tarfile.XHDTYPE)


def record(key: str, value: bytes) -> bytes:
    """One record of an extended header, its length counting itself."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    length += len(str(length)) - len(str(len(rest)))
    return str(length).encode() + rest


def altered(block: bytes, place: int, data: bytes) -> bytes:
    """A header block with `data` at `place`, and its checksum made right again."""
    changed = bytearray(block)
    changed[place : place + len(data)] = data
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)


def tar(*parts: bytes) -> bytes:
    """A whole archive of members."""
    return b"".join(parts) + END
