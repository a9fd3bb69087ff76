from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.commit import CommitContext, CommitError, Receipt, commit_unit
from pipeline.ledger import COMMITS, MANIFEST, REJECTS, SHARDS, CommitRecord
from pipeline.output import Output
from pipeline.records import Photo, from_table, to_table
from pipeline.storage import Location, StorageError, open_location
from pipeline.tar import scan

MakeUnit = Callable[..., list[Photo]]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "local":
        return open_location(tmp_path / "out")
    server = request.getfixturevalue("s3")
    return open_location(server.folder(), server.options)


class Faulty(Location):
    """A local place whose n-th write raises, before it happens or after (a lost acknowledgement)."""

    def __init__(self, url: Path, fail_at: int, after: bool) -> None:
        super().__init__(url)
        self.fail_at, self.after, self.writes = fail_at, after, 0

    def put(self, name: str, body: bytes | Path) -> None:
        self._faulty(lambda: super(Faulty, self).put(name, body))

    def put_if_absent(self, name: str, body: bytes) -> bool:
        return self._faulty(lambda: super(Faulty, self).put_if_absent(name, body))

    def _faulty(self, write: Callable[[], Any]) -> Any:
        self.writes += 1
        if self.writes != self.fail_at:
            return write()
        if self.after:
            write()
        raise StorageError("the network is gone")


def _contents(place: Location) -> dict[str, bytes]:
    """All objects by name without the attempt."""
    return {entry.name: place.read(entry.name) for entry in place.entries() if not entry.name.startswith(COMMITS)}


def _bytes_by_kind(place: Location, record: CommitRecord) -> dict[str, bytes]:
    return {item.name.partition("/")[0]: place.read(item.name) for item in record.objects}


def test_a_unit_becomes_three_objects_and_a_record(
    place: Location, make_unit: MakeUnit, context: CommitContext
) -> None:
    photos = from_table(to_table(make_unit()))  # as they come out of the graph
    receipt = commit_unit(place, photos, context)
    record, unit = receipt.record, photos[0].unit
    assert receipt.won
    assert sorted(entry.name for entry in place.entries()) == [
        f"commits/{unit}.json",
        f"manifest/{unit}-{record.attempt}.parquet",
        f"rejects/{unit}-{record.attempt}.tar",
        f"shards/{unit}-{record.attempt}.tar",
    ]
    assert CommitRecord.from_json(place.read(f"commits/{unit}.json"), "x") == record
    counts = {"photos": 4, "restored": 1, "no_face": 1, "rejected": 2, "faces": 2, "faces_restored": 1}
    assert record.counts == counts | {"faces_kept": 1, "evaluations": 36}
    assert record.errors == {"image.truncated": 1, "sample.no_image": 1}
    assert record.seconds["detect"] == 2.0 and record.seconds["write"] > 0
    assert (record.shard, record.shard_bytes, record.shard_etag) == ("s.tar", 1234, "tag")
    assert Output(place).verify() == []


def test_the_manifest_has_a_row_per_photo(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> None:
    place = open_location(tmp_path)
    record = commit_unit(place, make_unit(), context).record
    rows = Output(place).manifest(record).to_pylist()
    assert [row["status"] for row in rows] == ["restored", "no_face", "rejected", "rejected"]
    assert [row["error"] for row in rows] == [None, None, "image.truncated", "sample.no_image"]
    best, worst = rows[0]["faces"]
    assert (best["n"], best["tau"], worst["n"], worst["status"]) == (4, 280, None, "kept")
    assert best["preview"][:2] == b"\xff\xd8"
    stored = {member.name: member.size for member in scan(tmp_path / record.object(SHARDS).name)[0]}  # type: ignore[union-attr]
    assert stored[rows[0]["restored_name"]] == rows[0]["restored_bytes"]
    assert best["name"] in stored


def test_two_attempts_write_the_same_bytes(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> None:
    first, second = (open_location(tmp_path / name) for name in "ab")
    one = commit_unit(first, make_unit(), context).record
    photos = make_unit()
    for photo in photos:
        photo.seconds, photo.started = {"detect": 99.0}, "2027-07-07T07:07:07+00:00"
    two = commit_unit(second, photos, context).record
    assert one.attempt != two.attempt
    assert _bytes_by_kind(first, one) == _bytes_by_kind(second, two)
    assert set(_bytes_by_kind(first, one)) == {SHARDS, MANIFEST, REJECTS}


def test_an_attempt_after_the_commit_changes_nothing(
    place: Location, make_unit: MakeUnit, context: CommitContext
) -> None:
    first = commit_unit(place, make_unit(), context)
    before = _contents(place)
    second = commit_unit(place, make_unit(), context)
    assert second == Receipt(first.record, won=False)
    assert _contents(place) == before


def test_of_attempts_at_once_one_wins_and_the_others_clean_up(
    place: Location, make_unit: MakeUnit, context: CommitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    racers = 3
    together = threading.Barrier(racers)
    create = Location.put_if_absent

    def all_at_once(self: Location, name: str, body: bytes) -> bool:
        together.wait(timeout=60)  # nobody has seen a record, everybody has put objects
        return create(self, name, body)

    monkeypatch.setattr(Location, "put_if_absent", all_at_once)
    with ThreadPoolExecutor(racers) as pool:
        receipts = list(pool.map(lambda _: commit_unit(place, make_unit(), context), range(racers)))
    assert sum(receipt.won for receipt in receipts) == 1
    assert len({receipt.record.attempt for receipt in receipts}) == 1
    assert len(place.entries()) == 4
    assert Output(place).verify() == [] and Output(place).orphans() == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_failure_while_objects_are_put_loses_nothing(
    fail_at: int, after: bool, tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    with pytest.raises(StorageError):
        commit_unit(Faulty(tmp_path, fail_at, after), make_unit(), context)
    output = Output(tmp_path)
    assert output.committed() == set()
    assert output.location.entries() == [], "what was put was removed again"
    assert commit_unit(output.location, make_unit(), context).won
    assert output.verify() == []


def test_a_record_that_was_not_created_is_created_next_time(
    tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    with pytest.raises(StorageError):
        commit_unit(Faulty(tmp_path, 4, after=False), make_unit(), context)
    output = Output(tmp_path)
    assert output.committed() == set()
    assert len(output.orphans()) == 3, "a delayed request may still name them, so they stay"
    assert commit_unit(output.location, make_unit(), context).won
    assert output.verify() == [] and len(output.orphans()) == 3


def test_a_lost_acknowledgement_is_a_win(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> None:
    receipt = commit_unit(Faulty(tmp_path, 4, after=True), make_unit(), context)
    assert receipt.won
    output = Output(tmp_path)
    assert next(output.records()) == receipt.record
    assert output.verify() == [] and output.orphans() == []


def test_a_retry_below_us_that_meets_our_own_record_is_a_win(
    tmp_path: Path, make_unit: MakeUnit, context: CommitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Location.put_if_absent

    def twice(self: Location, name: str, body: bytes) -> bool:
        create(self, name, body)
        return create(self, name, body)

    monkeypatch.setattr(Location, "put_if_absent", twice)
    assert commit_unit(open_location(tmp_path), make_unit(), context).won
    assert Output(tmp_path).verify() == []


def test_a_killed_attempt_leaves_nothing_anyone_believes(
    tmp_path: Path, make_unit: MakeUnit, context: CommitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Not an Exception: no handler runs, as with SIGKILL."""

    def kill(self: Location, name: str, body: bytes) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Location, "put_if_absent", kill)
        with pytest.raises(Killed):
            commit_unit(open_location(tmp_path), make_unit(), context)
    output = Output(tmp_path)
    assert output.status().units == 0 and len(output.orphans()) == 3
    record = commit_unit(output.location, make_unit(), context).record
    assert output.status().units == 1
    assert {orphan.name for orphan in output.orphans()}.isdisjoint(item.name for item in record.objects)


def test_a_photo_that_cannot_be_written_is_rejected_alone(
    tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    photos = make_unit()
    photos[0].image = b"not an image any more"
    record = commit_unit(open_location(tmp_path), photos, context).record
    assert record.counts["rejected"] == 3 and record.counts["restored"] == 0
    assert record.errors["write.failed"] == 1
    rejects = record.object(REJECTS)
    assert rejects is not None
    assert f"{photos[0].key}.error.json" in [member.name for member in scan(tmp_path / rejects.name)[0]]
    assert Output(tmp_path).verify() == []


def test_empty_objects_are_not_written(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> None:
    for name, keep, kinds in (("good", [0, 1], {SHARDS, MANIFEST}), ("bad", [2, 3], {REJECTS, MANIFEST})):
        photos = [photo for photo in make_unit() if photo.index in keep]
        for index, photo in enumerate(photos):
            photo.index, photo.unit_size = index, len(photos)
        place = open_location(tmp_path / name)
        assert set(_bytes_by_kind(place, commit_unit(place, photos, context).record)) == kinds


@pytest.mark.parametrize("damage", ["empty", "lost", "twice", "disorder", "mixed", "pending"])
def test_only_whole_finished_units_are_committed(
    damage: str, tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    photos = make_unit()
    if damage == "pending":
        photos[1].status = "pending"
    if damage == "mixed":
        photos[1].unit = "another"
    damaged = {
        "empty": [],
        "lost": photos[:-1],
        "twice": [*photos, photos[0]],
        "disorder": photos[::-1],
    }.get(damage, photos)
    with pytest.raises(CommitError):
        commit_unit(open_location(tmp_path), damaged, context)
    assert list(tmp_path.iterdir()) == []


def test_no_secret_and_no_host_is_written(s3: Any, make_unit: MakeUnit, context: CommitContext) -> None:
    place = open_location(s3.folder(), s3.options)
    commit_unit(place, make_unit(), context)
    for entry in place.entries():
        data = place.read(entry.name)
        assert s3.key.encode() not in data and s3.secret.encode() not in data and b"127.0.0.1" not in data


def test_local_and_s3_outputs_are_the_same_bytes(
    s3: Any, tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    local, remote = open_location(tmp_path), open_location(s3.folder(), s3.options)
    one, two = (commit_unit(place, make_unit(), context).record for place in (local, remote))
    assert _bytes_by_kind(local, one) == _bytes_by_kind(remote, two)
    shard = two.object(MANIFEST)
    assert shard is not None
    with remote.local(shard.name) as path:
        assert pq.read_metadata(path).num_rows == 4
    assert json.loads(remote.read(f"commits/{two.unit}.json"))["format"] == "dr2e.commit/1"


def test_a_failed_creation_beside_a_winner_is_a_loss(
    tmp_path: Path, make_unit: MakeUnit, context: CommitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with S3's 409: the request fails for good, and the record that is there is another attempt's."""
    place = open_location(tmp_path)
    create = Location.put_if_absent

    def beaten(self: Location, name: str, body: bytes) -> bool:
        record = CommitRecord.from_json(body, name)
        create(self, name, replace(record, attempt="ffffffff", objects=()).to_json())
        raise StorageError("conflict")

    monkeypatch.setattr(Location, "put_if_absent", beaten)
    receipt = commit_unit(place, make_unit(), context)
    assert not receipt.won and receipt.record.attempt == "ffffffff"
    assert len(place.entries()) == 1, "the objects of the beaten attempt are gone"


def test_a_record_that_is_no_record_stops_the_unit(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> None:
    photos = make_unit()
    open_location(tmp_path).put(f"commits/{photos[0].unit}.json", b"scribble")
    with pytest.raises(CommitError, match="delete it"):
        commit_unit(open_location(tmp_path), photos, context)
