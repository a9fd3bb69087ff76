"""Units: the photos of a shard that commit as one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.inputs import ShardRef
from pipeline.records import Photo
from pipeline.shards import SampleRef, ShardIndex, image_names
from pipeline.storage import StorageOptions, look_at
from pipeline.transient import PATIENCE

_ID = re.compile(r"(?P<shard>.*-[0-9a-f]{8})-(?P<part>\d{4,})-of-(?P<parts>\d{4,})")


class ShardChanged(RuntimeError):
    """A shard is not any more what it was when it was indexed or committed."""


@dataclass(frozen=True)
class Unit:
    """Part `part` of `parts` of a shard: consecutive samples."""

    id: str
    shard: ShardRef
    part: int
    parts: int
    samples: tuple[SampleRef, ...]


def shard_id(relative: str) -> str:
    """A name for a shard that is unique by its relative name and safe as a file and object name anywhere."""
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", PurePosixPath(relative).stem)[:64].strip("-.")
    return f"{stem or 'shard'}-{hashlib.sha1(relative.encode(), usedforsecurity=False).hexdigest()[:8]}"


def unit_id(relative: str, part: int, parts: int) -> str:
    """The unit's name: the same in every run over the same input with the same unit size."""
    return f"{shard_id(relative)}-{part:04d}-of-{parts:04d}"


def parse_unit_id(unit: str) -> tuple[str, int, int] | None:
    """(shard id, part, parts) of a unit's name; None when it is none."""
    match = _ID.fullmatch(unit)
    return (match["shard"], int(match["part"]), int(match["parts"])) if match else None


def retry_id(unit: str, number: int) -> str:
    """The name of the `number`-th later attempt (from 1) at photos of `unit`, itself a unit or an attempt at one."""
    return f"{base_unit(unit)}.retry{number}"


def retry_number(name: str) -> int:
    """Which later attempt a committed name is of; 0 for a unit itself."""
    number = name.removeprefix(base_unit(name)).removeprefix(".retry")
    return int(number) if number.isdecimal() else 0


def base_unit(name: str) -> str:
    """The unit that a committed name is of: of "UNIT.retry1", a later attempt at a part of it, that is UNIT."""
    match = _ID.match(name)
    return match[0] if match and name[match.end() : match.end() + 1] == "." else name


def cut(shard: ShardRef, index: ShardIndex, *, max_samples: int = 256, max_bytes: int = 256 * 2**20) -> list[Unit]:
    """Cut a shard into units of at most `max_samples` samples and `max_bytes` bytes (or one larger sample).

    Depends on nothing but its arguments. There is at least one unit: what is wrong with the shard as a whole
    becomes a last, rejected sample, keyed by the shard's file name (no real key has a dot).
    """
    samples = list(index.samples)
    if index.problem is not None:
        samples.append(SampleRef(shard.name, (), index.problem))
    groups = list(_groups(samples, max_samples, max_bytes))
    return [
        Unit(unit_id(shard.relative, part, len(groups)), shard, part, len(groups), tuple(group))
        for part, group in enumerate(groups)
    ]


def _groups(samples: list[SampleRef], max_samples: int, max_bytes: int) -> Iterator[list[SampleRef]]:
    group: list[SampleRef] = []
    size = 0
    for sample in samples:
        if group and (len(group) == max_samples or size + sample.bytes > max_bytes):
            yield group
            group, size = [], 0
        group.append(sample)
        size += sample.bytes
    yield group


def require_as_listed(shard: ShardRef, options: StorageOptions, patience: float = PATIENCE) -> None:
    """Raises ShardChanged unless the shard is what it was when the input was listed: its size and fingerprint.

    Asked after a shard was read or copied, this vouches for what was read: whatever is written to a shard, or
    put in its place, changes its fingerprint. StorageError when the storage does not answer.
    """
    entry = look_at(shard.url, options, patience=patience)
    if entry is None:
        raise _gone(shard)
    if (entry.size, entry.etag) != (shard.size, shard.etag):
        raise ShardChanged(
            f"{shard.url} changed during the run ({shard.size:,} bytes when the input was listed, {entry.size:,} now); "
            "run again when it is complete"
        )


def read_unit(path: Path, unit: Unit) -> list[Photo]:
    """The photos of a unit from the local copy `path` of its shard, one per sample, bytes untouched.

    A sample with a problem comes as a rejected photo, with whatever members of it could be read as sidecars.
    Raises ShardChanged when the file is shorter than its index says, or gone.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with open(path, "rb") as file:
            return [_photo(file, unit, place, sample, now) for place, sample in enumerate(unit.samples)]
    except FileNotFoundError:
        raise _gone(unit.shard) from None


def _gone(shard: ShardRef) -> ShardChanged:
    return ShardChanged(f"{shard.url} is gone since the input was listed; put it back and run again, or run without it")


def _photo(file: BinaryIO, unit: Unit, place: int, sample: SampleRef, now: str) -> Photo:
    members = []
    for member in sample.members:
        file.seek(member.offset)
        data = file.read(member.size)
        if len(data) != member.size:
            raise ShardChanged(f"{unit.shard.url} became shorter while it was read; run again")
        members.append((member.name, data))

    image_name, image = "", b""
    if sample.problem is None:
        (image_name,) = image_names([name for name, _ in members])
        image = dict(members)[image_name]
    photo = Photo(
        unit=unit.id,
        index=place,
        key=sample.key,
        image_name=image_name,
        image=image,
        sidecars=[(name, data) for name, data in members if name != image_name],
        shard=unit.shard.relative,
        shard_size=unit.shard.size,
        shard_etag=unit.shard.etag,
        part=unit.part,
        parts=unit.parts,
        unit_size=len(unit.samples),
        started=now,
    )
    if sample.problem is not None:
        photo.reject(sample.problem.code, sample.problem.message)
    return photo
