"""The ledger of an output: what a commit record says, and the names under which everything lies.

Readers believe commit records alone. An object that no record names does not exist for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.storage import Location

FORMAT = "dr2e.commit/1"

RUN = "run.json"
REPORT = "report.html"
COMMITS, SHARDS, MANIFEST, REJECTS = "commits", "shards", "manifest", "rejects"
VALIDATION = "validation"
"""Pairs that are not for training; a restoration has none."""
EXECUTIONS = "executions"
"""The history of a run, for people; nothing rests on it."""
KNOWN = "known.parquet"
"""The shards that were compared with their records, as they were then; without it they are compared again."""
TARGETS, DUPLICATES = "targets", "duplicates"
"""What a search for near-duplicates among pairs saw and decided, unit by unit. No record names these: they say which
photos become pairs, and nothing of the result is in them."""

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
        """The unit's object in folder `kind` (SHARDS, VALIDATION, MANIFEST or REJECTS), or None when it has none."""
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
            record = cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, LedgerError):
                raise
            raise LedgerError(f"{name} is not a commit record ({type(error).__name__}: {error})") from None
        if wrong := [field for field, is_right in _KINDS.items() if not is_right(getattr(record, field))]:
            raise LedgerError(f"{name} is not a commit record (wrong kind of {', '.join(wrong)})")
        return record


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


def read_description(location: Location, name: str, what: str) -> dict[str, Any] | None:
    """The JSON object at `name`; None when there is nothing. what: it describes, as in "a run".

    Raises StorageError, and LedgerError when it is no JSON object.
    """
    data = location.read_or_none(name)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{location.url}/{name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise LedgerError(f"{location.url}/{name} does not describe {what}")
    return found


def describes_run(value: Any) -> bool:
    """Whether `value`, parsed from JSON, is a run.json as far as readers rely on it."""
    if not isinstance(value, dict):
        return False
    config, models, versions = (value.get(part, {}) for part in ("config", "models", "versions"))
    return isinstance(config, dict) and isinstance(versions, dict) and _is_table(models, _is_mapping)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63  # which no nan is


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_time(value: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(value))
    except (ValueError, TypeError):
        return False


def _is_table(value: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_right, value.values()))


_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("unit", "attempt", "shard", "shard_etag"), _is_text),
    **dict.fromkeys(("shard_bytes", "part"), _is_count),
    "parts": lambda value: _is_count(value) and value > 0,
    "objects": lambda items: all(_is_text(i.name) and _is_count(i.bytes) and _is_text(i.sha256) for i in items),
    "counts": lambda value: _is_table(value, _is_count) and set(COUNTS) <= value.keys(),
    **dict.fromkeys(("errors", "replaced"), lambda value: _is_table(value, _is_count)),
    "models": lambda value: _is_table(value, _is_text),
    "seconds": lambda value: _is_table(value, _is_number),
    "settings": _is_mapping,
    **dict.fromkeys(("started", "ended"), _is_time),
}
"""What readers take the values of a record for. It may come from anybody, and they are not to stumble over it."""
