"""The ledger of an output: what a commit record says, and the names under which everything lies.

Readers believe commit records alone. An object that no record names does not exist for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = "dr2e.commit/1"

RUN = "run.json"
REPORT = "report.html"
COMMITS, SHARDS, MANIFEST, REJECTS = "commits", "shards", "manifest", "rejects"

COUNTS = (
    "photos",
    "restored",
    "no_face",
    "rejected",
    "faces",
    "faces_restored",
    "faces_kept",
    "evaluations",
)


class LedgerError(ValueError):
    """A commit record cannot be read. One line naming it."""


@dataclass(frozen=True)
class StoredObject:
    """An object of a unit: its name below the output, size in bytes and sha256 (hex)."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CommitRecord:
    """The fact that a unit is done.

    attempt: the random id in the names of its objects. shard, shard_bytes, shard_etag: the input it came from
    (relative name); part, parts: its place in it. counts: see COUNTS. errors: rejected photos by code.
    models: what was used, by role. seconds: time spent by stage. started, ended: ISO 8601, UTC.

    Of a unit that tries rejected photos of another again ("UNIT.retry1") also: replaced, those photos by the code
    they had been rejected with; settings, what was set otherwise than run.json says, by dotted name.
    """

    unit: str
    attempt: str
    shard: str
    shard_bytes: int
    shard_etag: str
    part: int
    parts: int
    objects: tuple[StoredObject, ...]
    counts: dict[str, int]
    errors: dict[str, int]
    models: dict[str, str]
    seconds: dict[str, float]
    started: str
    ended: str
    replaced: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def object(self, kind: str) -> StoredObject | None:
        """The unit's object in folder `kind` (SHARDS, MANIFEST or REJECTS), or None when it has none."""
        return next((item for item in self.objects if item.name.startswith(f"{kind}/")), None)

    def to_json(self) -> bytes:
        """The record as stored: UTF-8 JSON."""
        fields = {name: value for name, value in vars(self).items() if not name.startswith("shard")}
        for name in ("replaced", "settings"):
            if not fields[name]:
                del fields[name]
        fields["shard"] = {"name": self.shard, "bytes": self.shard_bytes, "etag": self.shard_etag}
        fields["objects"] = [vars(item) for item in self.objects]
        return json.dumps({"format": FORMAT, **fields}, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> CommitRecord:
        """Read what `to_json` wrote; `name` is for the LedgerError when it is something else."""
        try:
            fields = json.loads(data)
            written = fields.pop("format")
            if written != FORMAT:
                raise LedgerError(f"{name} has the format {written!r}, not {FORMAT!r}; use the release that wrote it")
            shard = fields.pop("shard")
            fields |= {"shard": shard["name"], "shard_bytes": shard["bytes"], "shard_etag": shard["etag"]}
            fields["objects"] = tuple(StoredObject(**item) for item in fields["objects"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"{name} is not a commit record ({type(error).__name__}: {error})") from None


def commit_name(unit: str) -> str:
    return f"{COMMITS}/{unit}.json"


def unit_of_commit(name: str) -> str | None:
    """The unit of a file name in commits/; None for anything else that lies there."""
    folder, _, base = name.rpartition("/")
    return base.removesuffix(".json") if folder == COMMITS and base.endswith(".json") else None


def finite(value: Any) -> Any:
    """`value` with every number that JSON lacks (inf, nan) as None, in mappings and sequences too."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
