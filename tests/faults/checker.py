"""Does an output keep its promise? Reads stored objects alone, and shares no code with what wrote them.

The promise: every photo of the input is there exactly once, restored, without a face, or rejected; tars, manifests and
commit records agree; every hash matches; and after the storm the bytes are those of a quiet run.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

Objects = Mapping[str, bytes]
"""Stored objects by name below the output (or the input)."""


@dataclass
class Verdict:
    """What the checker found.

    fates: how many photos are restored, without a face, rejected, as the manifests say. lost, doubled: keys of photos.
    unequal: what has other bytes than in an undisturbed run. wrong: everything else, a line each.
    """

    photos: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return self.photos > 0 and not (self.lost or self.doubled or self.unequal or self.wrong)

    def __str__(self) -> str:
        lost, doubled = (f"{name} {', '.join(keys)}" for name, keys in (("lost", self.lost), ("doubled", self.doubled)))
        photos = [*([lost] if self.lost else []), *([doubled] if self.doubled else [])]
        return "; ".join([*photos, *self.wrong, *self.unequal]) or "kept"


def check(objects: Objects, inputs: Objects, quiet: Objects | None = None) -> Verdict:
    """Hold the objects of an output against the shards it was made of, and against an undisturbed run's objects."""
    verdict = Verdict()
    records = list(_records(objects, verdict))
    _parts(records, verdict)
    rows = [row for record in records for row in _unit(record, objects, verdict)]
    verdict.fates = Counter(row["status"] for row in rows)
    _photos(rows, inputs, verdict)
    for record in records:
        _members(record, objects, inputs, verdict)
    if quiet is not None:
        _same_bytes(records, objects, quiet, verdict)
    return verdict


def _records(objects: Objects, verdict: Verdict) -> Iterator[dict[str, Any]]:
    owners: dict[str, str] = {}
    for name in sorted(objects):
        if not name.startswith("commits/"):
            continue
        try:
            record = json.loads(objects[name])
        except ValueError:
            verdict.wrong.append(f"{name} is not JSON")
            continue
        if name != f"commits/{record['unit']}.json":
            verdict.wrong.append(f"{name} is of {record['unit']}")
        for item in record["objects"]:
            data = objects.get(item["name"])
            if data is None:
                verdict.wrong.append(f"{name} names {item['name']}, which is not there")
            elif (len(data), hashlib.sha256(data).hexdigest()) != (item["bytes"], item["sha256"]):
                verdict.wrong.append(f"{item['name']} is not what {name} says")
            if (owner := owners.setdefault(item["name"], name)) != name:
                verdict.wrong.append(f"{item['name']} is named by {owner} and by {name}")
        yield record


def _parts(records: Iterable[dict[str, Any]], verdict: Verdict) -> None:
    parts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for record in records:
        parts[record["shard"]["name"]].append((record["part"], record["parts"]))
    for shard, found in parts.items():
        if sorted(part for part, _ in found) != list(range(found[0][1])) or len({count for _, count in found}) != 1:
            verdict.wrong.append(f"{shard} is committed as parts {sorted(found)}")


def _unit(record: Mapping[str, Any], objects: Objects, verdict: Verdict) -> list[dict[str, Any]]:
    """The manifest rows of a unit, held against its record."""
    name = _object(record, "manifest")
    if name is None or name not in objects:
        verdict.wrong.append(f"{record['unit']} has no manifest")
        return []
    rows = pq.read_table(io.BytesIO(objects[name])).to_pylist()
    counts = Counter(row["status"] for row in rows)
    if not set(counts) <= {"restored", "no_face", "rejected"}:
        verdict.wrong.append(f"{name} has photos that are {', '.join(sorted(counts))}")
    for kind, count in {"photos": len(rows), **{k: counts[k] for k in ("restored", "no_face", "rejected")}}.items():
        if record["counts"][kind] != count:
            verdict.wrong.append(f"{name} has {count} {kind}, its record {record['counts'][kind]}")
    return rows


def _photos(rows: Iterable[Mapping[str, Any]], inputs: Objects, verdict: Verdict) -> None:
    """Every key of every shard, once."""
    found = Counter((row["shard"], row["key"]) for row in rows)
    wanted = {(shard, key) for shard, data in inputs.items() for key in _samples(data)}
    verdict.photos = len(wanted)
    verdict.lost += sorted(f"{shard}:{key}" for shard, key in wanted - set(found))
    verdict.doubled += sorted(f"{shard}:{key}" for (shard, key), count in found.items() if count > 1)
    verdict.wrong += [f"{shard}:{key} is not in the input" for shard, key in sorted(set(found) - wanted)]


def _members(record: Mapping[str, Any], objects: Objects, inputs: Objects, verdict: Verdict) -> None:
    """What is in the tars of a unit is what its manifest says, and the input's members are untouched."""
    unit, manifest = record["unit"], _object(record, "manifest")
    if manifest not in objects:
        return
    samples = _samples(inputs[record["shard"]["name"]])
    expected: dict[str, dict[str, str | None]] = {"shards": {}, "rejects": {}}
    for row in pq.read_table(io.BytesIO(objects[manifest])).to_pylist():
        kind = "rejects" if row["status"] == "rejected" else "shards"
        names = {name: _hash(data) for name, data in samples.get(row["key"], {}).items()}
        if kind == "rejects":
            names[f"{row['key']}.error.json"] = None
        else:
            names |= {face["name"]: None for face in row["faces"]} | {f"{row['key']}.json": None}
        if row["status"] == "restored":
            names[row["restored_name"]] = row["restored_sha256"]
        expected[kind] |= names
    for kind, names in expected.items():
        stored = _object(record, kind)
        found = _tar(objects[stored], verdict, stored) if stored in objects else {}
        for name in names.keys() ^ found.keys():
            verdict.wrong.append(f"{kind} of {unit}: {name} is {'missing' if name in names else 'unexpected'}")
        for name in names.keys() & found.keys():
            if names[name] not in (None, _hash(found[name])):
                verdict.wrong.append(f"{kind} of {unit}: {name} is not the same")


def _same_bytes(records: Iterable[Mapping[str, Any]], objects: Objects, quiet: Objects, verdict: Verdict) -> None:
    def hashes(found: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
        return {
            (record["unit"], item["name"].partition("/")[0]): item["sha256"]
            for record in found
            for item in record["objects"]
        }

    before = hashes(json.loads(data) for name, data in quiet.items() if name.startswith("commits/"))
    now = hashes(records)
    verdict.unequal += [
        f"{kind} of {unit}: other bytes than without faults"
        for unit, kind in sorted(before.keys() | now.keys())
        if before.get((unit, kind)) != now.get((unit, kind))
    ]


def _object(record: Mapping[str, Any], kind: str) -> str | None:
    return next((item["name"] for item in record["objects"] if item["name"].startswith(f"{kind}/")), None)


def _samples(shard: bytes) -> dict[str, dict[str, bytes]]:
    """The members of a healthy shard by key, as WebDataset has it: all before the first dot."""
    samples: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        for member in archive:
            data = archive.extractfile(member)
            assert data is not None
            samples[member.name.partition(".")[0]][member.name] = data.read()
    return samples


def _tar(data: bytes, verdict: Verdict, name: str | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name in found:
                verdict.wrong.append(f"{name} has {member.name} twice")
            content = archive.extractfile(member)
            found[member.name] = content.read() if content is not None else b""
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
