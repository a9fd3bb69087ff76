"""What the user named as input, resolved to shards."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.names import harmless
from pipeline.secrecy import complaint
from pipeline.storage import Entry, Location, StorageOptions

_SPECIAL = re.compile(r"[*?\[{]")
_WILDCARD = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class InputError(ValueError):
    """The input names no shards, or not clearly. One line with the remedy."""


@dataclass(frozen=True)
class ShardRef:
    """One input shard.

    url: where it is. relative: its name below the input the user gave, the same wherever the data lie; units
    are named after it. size: bytes. etag: a fingerprint of its content.
    """

    url: str
    relative: str
    size: int
    etag: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.relative).name


def resolve_inputs(inputs: str | Sequence[str], options: StorageOptions | None = None) -> list[ShardRef]:
    """The shards that `inputs` name, sorted by relative name, each once.

    An input is a .tar, a folder (its own .tar files; what else lies there is left alone, so a folder by
    img2dataset works), a glob ("shards/**/*.tar"), or a brace range ("s3://bucket/{00000..00041}.tar",
    "{train,test}/0.tar"); local or anything fsspec reaches. Where a folder or file is called exactly as it is
    written here, it is meant, though it has *, ?, [ or { in its name.

    Raises InputError when an input names nothing, names something that is no .tar, has credentials in its URL, when
    a name is not UTF-8, or when two shards have the same relative name; StorageError when the storage refuses.
    """
    found: dict[str, ShardRef] = {}
    for text in [inputs] if isinstance(inputs, str) else inputs:
        if refused := complaint(text):  # before it is cut into a place and a pattern, either of which may look innocent
            raise InputError(refused)
        for shard in _resolve(text, options):
            other = found.setdefault(shard.relative, shard)
            if other.url != shard.url:
                raise InputError(
                    f"two shards are both called {shard.relative}: {other.url} and {shard.url}; "
                    "name them with one glob from a common folder, such as FOLDER/*/*.tar"
                )
    if not found:
        raise InputError("no input was given")
    return [found[relative] for relative in sorted(found)]


def expand_braces(text: str) -> list[str]:
    """Bash's brace expansion for ranges and lists: "{08..10}" gives 08, 09, 10; "{a,b}" gives a, b."""
    pieces = _BRACES.split(text)  # literals at even places, brace contents at odd ones
    choices = [[piece] if i % 2 == 0 else _alternatives(piece) for i, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _alternatives(content: str) -> list[str]:
    if match := _RANGE.fullmatch(content):
        first, last = match.groups()
        if int(first) > int(last):
            raise InputError(f"the range {{{content}}} runs backwards")
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    return content.split(",") if "," in content else ["{" + content + "}"]


def _resolve(text: str, options: StorageOptions | None) -> list[ShardRef]:
    base, pattern, is_literal = _split(text, options)
    location = Location(base, options)
    entries = list(_entries(location, [pattern] if is_literal else expand_braces(pattern), text, is_literal))
    if not entries:
        raise InputError(f"{text}: no .tar shards here; `dr2e pack` makes them from a folder of images")
    for entry in entries:
        if harmless(entry.name) != entry.name:
            raise InputError(f"{harmless(entry.name)}: this name is not UTF-8 or has control characters; rename it")
    return [ShardRef(f"{location.url}/{entry.name}", entry.name, entry.size, entry.etag) for entry in entries]


def _split(text: str, options: StorageOptions | None) -> tuple[str, str, bool]:
    """The folder an input is relative to, what to look for below it ("" for its own shards), and whether that is a
    name as it stands and no pattern."""
    protocol, separator, path = text.rpartition("://")
    parts = path.rstrip("/").split("/")

    def joined(count: int) -> str:
        folder = "/".join(parts[:count]) or ("/" if path.startswith("/") else "" if separator else ".")
        return protocol + separator + folder

    for place, part in enumerate(parts):
        # A name that is there as written is no pattern: folders are called "scans [2019]".
        if _SPECIAL.search(part) and not Location(joined(place), options).holds(part):
            return joined(place), "/".join(parts[place:]), False
    place = len(parts) - parts[-1].endswith(".tar")
    return joined(place), "/".join(parts[place:]), True


def _entries(location: Location, patterns: Iterable[str], text: str, are_literal: bool) -> Iterator[Entry]:
    listed: dict[str, dict[str, Entry]] = {}

    def shards_in(folder: str) -> dict[str, Entry]:
        # One listing per folder instead of one request per shard of a long range.
        if folder not in listed:
            found = location.glob(f"{glob.escape(folder)}/*.tar" if folder else "*.tar")
            listed[folder] = {entry.name: entry for entry in found if _is_shard(entry.name)}
        return listed[folder]

    for pattern in patterns:
        if _WILDCARD.search(pattern) and not are_literal:
            yield from (entry for entry in location.glob(pattern) if _is_shard(entry.name))
        elif pattern.endswith(".tar"):
            entry = shards_in(pattern.rpartition("/")[0]).get(pattern)
            if entry is None:
                raise InputError(f"{location.url}/{pattern}: there is no such shard")
            yield entry
        elif not pattern and _is_single_object(location):
            raise InputError(f"{text}: not a .tar shard; `dr2e pack` makes shards from images, gunzip unpacks .tar.gz")
        else:
            yield from shards_in(pattern).values()


def _is_shard(name: str) -> bool:
    # A leading dot: files half written, or what macOS leaves beside the real ones.
    return name.endswith(".tar") and not PurePosixPath(name).name.startswith(".")


def _is_single_object(location: Location) -> bool:
    folder, _, name = location.url.rpartition("/")
    return bool(name) and not folder.endswith("/") and Location(folder or "/", location.options).exists(name)
