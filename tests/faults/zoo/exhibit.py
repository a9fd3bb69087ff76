"""What an exhibit of the zoo is: some bad input, and what must become of every photo in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES, MAX_PIXELS = 500_000, 4_000_000
"""`limits` of the zoo's runs: so low that what exceeds them is small as well."""

PHOTOS = "photos.tar"
"""The shard that holds the exhibits which are photos."""


@dataclass(frozen=True)
class Fate:
    """What becomes of one photo: status and code as in the manifest.

    says: a part of the message a person reads, with the remedy, "…" for what differs; "" where there is no message.
    """

    status: str
    code: str = ""
    says: str = ""

    def is_told_by(self, message: str) -> bool:
        """Whether `message` says it."""
        return bool(re.search(".*".join(re.escape(part) for part in self.says.split("…")), message))


@dataclass(frozen=True)
class Exhibit:
    """Bad input, small and made by code.

    name: of the exhibit, and of its shard. what: for the documentation. shard: the file name.
    write: makes the shard's file; for a photo, makes nothing (see `photo`).
    fates: by key, of everything the manifest must hold for it, and nothing else.
    note: for the documentation, where no message says enough.
    members: for a photo, its member of PHOTOS.
    """

    name: str
    what: str
    shard: str
    fates: Mapping[str, Fate]
    write: Callable[[Path], None] | None = None
    note: str = ""
    members: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


RESTORED = Fate("restored")
NO_FACE = Fate("no_face")


def rejected(code: str, says: str) -> Fate:
    return Fate("rejected", code, says)
