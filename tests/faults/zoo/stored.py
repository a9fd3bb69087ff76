"""What an output says about the zoo, from storage alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from faults.zoo.exhibit import Exhibit
from faults.zoo.tars import TINY
from pipeline.ledger import REJECTS, SHARDS, CommitRecord
from pipeline.output import Output
from pipeline.tar import scan


class Stored:
    """The manifest rows of an output by shard, and the members beside them."""

    def __init__(self, output: Output) -> None:
        self.rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.members: dict[tuple[str, str], dict[str, bytes]] = {}
        for record in output.records():
            self.rows[record.shard] += output.manifest(record).to_pylist()
            for kind in (SHARDS, REJECTS):
                self.members[record.shard, kind] = _members(output, record, kind)

    def check(self, exhibit: Exhibit) -> None:
        """That every photo of the exhibit is there once, as it must be, with its bytes and its reason."""
        rows = self.rows[exhibit.shard]
        if exhibit.members:  # one of many photos in the shard
            rows = [row for row in rows if row["key"] in exhibit.fates]
        assert sorted(row["key"] for row in rows) == sorted(exhibit.fates)
        for row in rows:
            fate = exhibit.fates[row["key"]]
            assert (row["status"], row["error"] or "") == (fate.status, fate.code), row["message"]
            assert fate.is_told_by(row["message"] or ""), row["message"]
            kind = REJECTS if fate.status == "rejected" else SHARDS
            found = self.members[exhibit.shard, kind]
            for name, data in exhibit.members:
                assert found[name] == data
            if kind == REJECTS:
                reason = json.loads(found[f"{row['key']}.error.json"])
                assert (reason["key"], reason["shard"]) == (row["key"], exhibit.shard)
                assert (reason["error"], reason["message"]) == (row["error"], row["message"])
                assert reason["message"].count("\n") == 0 and len(reason["message"]) < 300
                assert set(reason["members"]) <= found.keys()
            elif not exhibit.members:
                assert found[row["image_name"]] == TINY


def _members(output: Output, record: CommitRecord, kind: str) -> dict[str, bytes]:
    stored = record.object(kind)
    if stored is None:
        return {}
    with output.location.local(stored.name) as path:
        return read_members(path)


def read_members(path: Path) -> dict[str, bytes]:
    """The members of a healthy tar; where names repeat, the last."""
    members, problem = scan(path)
    assert problem is None
    whole = path.read_bytes()
    return {member.name: whole[member.offset : member.offset + member.size] for member in members}
